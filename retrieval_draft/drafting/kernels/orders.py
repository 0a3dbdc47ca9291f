"""Evidence of the n-gram tables: what followed the last 1, 2, 3, 4 and 6 tokens, and the blend of orders."""

import numpy as np
from numba import float64, int64, types

from retrieval_draft.drafting.kernels.bins import (
    OFFSETS,
    ORDER,
    ORDER_ABSENT,
    ORDER_SHARES,
    TOTALS,
    total_class,
)
from retrieval_draft.drafting.kernels.evidence import (
    ABSENT,
    CANDIDATES,
    CONTEXT_ORDERS,
    CONTEXT_WINDOWS,
    COUNTS,
    HASHED,
    ITEM_CANDIDATE,
    ITEMS,
    LEARNED_ORDERS,
    LEARNED_WINDOWS,
    LISTED,
    TOKEN,
    Found,
    Nodes,
    Tiers,
    candidate,
    found_t,
    list_one,
    nodes_t,
    row_t,
    tiers_t,
)
from retrieval_draft.store.kernels import ngrams, windows
from retrieval_draft.store.kernels.ahead import LINE_WORDS, ahead
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.ngrams import (
    LENGTHS,
    NEWEST_MASK,
    ORDER_COUNT,
    ORDERS,
    SIGHTING,
    TOTAL_BITS,
    TOTAL_MASK,
)
from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.store.kernels.windows import (
    NARROW_FOLLOWERS,
    NARROW_WINDOW,
    WIDE_FOLLOWERS,
    WIDE_ORDERS,
    WIDE_WINDOW,
)
from retrieval_draft.tree import Int32Array

CONTEXT_WEIGHT = 4.0
"""Of a count in the context against one in the learned tier."""
BLEND_ORDERS = 4
DOUBT = 2.5
"""Weight of the lower orders per distinct follower, in counts."""


@leaf(types.void(found_t, row_t, int64, int64, int64))
def list_followers(found: Found, table: Int32Array, at: int, followers: int, index: int) -> None:
    """All followers of one context of one tier, as input `index`."""
    total = max(1, table[at + 1] & TOTAL_MASK)
    newest = (table[at + 1] >> TOTAL_BITS) & NEWEST_MASK
    size = total_class(total // SIGHTING)
    found.rows[ABSENT, index] = OFFSETS[index] + ORDER_ABSENT + size
    # A division for each follower would cost more than all the rest.
    scale = ORDER_SHARES / total
    for f in range(followers):
        wanted = table[at + 2 + f]
        if wanted < 0:
            break
        c = candidate(found, wanted)
        if c >= 0:
            share = min(ORDER_SHARES - 1, max(0, int(table[at + 2 + followers + f] * scale + 1e-9)))
            list_one(found, c, index, (share * TOTALS + size) * 2 + (1 if f == newest else 0))


@leaf(types.void(found_t, row_t, int64, int64, int64, int64, float64))
def add_shares(
    found: Found,
    table: Int32Array,
    at: int,
    followers: int,
    first: int,
    stop: int,
    scale: float,
) -> None:
    """Add the scaled counts of the followers that items first..stop-1 list to the blend."""
    token = at + 2
    for e in range(first, stop):
        c = found.rows[ITEM_CANDIDATE, e]
        # Items stand in the followers' order; one without room, or changed meanwhile, has none.
        while token < at + 2 + followers and table[token] != found.rows[TOKEN, c]:
            token += 1
        if token == at + 2 + followers:
            return
        found.blend[c] += scale * table[token + followers]


@leaf(types.void(found_t, tiers_t, nodes_t, int64))
def look_ahead(found: Found, tiers: Tiers, nodes: Nodes, node: int) -> None:
    """Hash the ends of the path into found.states, and fetch what the tables and the matrix hold of them."""
    last = nodes.tails[node, 0]
    if last >= 0:
        ahead(tiers.successors, last * tiers.successors.shape[1])
        ahead(tiers.logprobs, last * tiers.logprobs.shape[1])
    state = np.uint64(0)
    order = 0
    learned_at = 1
    context_at = 1
    for k in range(1, ORDERS[ORDER_COUNT - 1] + 1):
        before = nodes.tails[node, k - 1]
        if before < 0:
            break
        state = mix(state, before)
        if k == LENGTHS[order]:
            found.states[order] = state
            # A context whose end nobody has seen is not there either: its window need not be looked up.
            if learned_at > 0:
                learned_at = windows.window_of(tiers.learned_table, state, order)
                words = WIDE_WINDOW if order < WIDE_ORDERS else NARROW_WINDOW
                if learned_at > 0:
                    for line in range(learned_at, learned_at + words, LINE_WORDS):
                        ahead(tiers.learned_table, line)
            if context_at > 0:
                context_at = windows.window_of(tiers.context_table, state, order)
                ahead(tiers.context_table, context_at)
            found.rows[COUNTS, LEARNED_WINDOWS + order] = learned_at
            found.rows[COUNTS, CONTEXT_WINDOWS + order] = context_at
            order += 1
            if learned_at == 0 and context_at == 0:
                break
    found.rows[COUNTS, HASHED] = order


@leaf(float64(found_t, tiers_t))
def list_orders(found: Found, tiers: Tiers) -> float:
    """The n-gram tables from low to high, and their blend; returns what it leaves to unknown tokens.

    An order that is unknown in a tier ends that tier: a longer context holds the shorter ones.
    """
    rows = found.rows
    in_context = True
    in_learned = True
    escape = 1.0
    for order in range(rows[COUNTS, HASHED]):
        state = found.states[order]
        followers = WIDE_FOLLOWERS if order < WIDE_ORDERS else NARROW_FOLLOWERS
        first = rows[COUNTS, ITEMS]
        context_at = -1
        learned_at = -1
        weight = 0.0
        if in_context:
            window = rows[COUNTS, CONTEXT_WINDOWS + order]
            context_at = ngrams.find_in(tiers.context_table, window, state, order)
            in_context = context_at >= 0
            if in_context:
                weight += CONTEXT_WEIGHT * (tiers.context_table[context_at + 1] & TOTAL_MASK)
                rows[COUNTS, CONTEXT_ORDERS] = order + 1
                list_followers(found, tiers.context_table, context_at, followers, ORDER + order)
        middle = rows[COUNTS, ITEMS]
        if in_learned:
            window = rows[COUNTS, LEARNED_WINDOWS + order]
            learned_at = ngrams.find_in(tiers.learned_table, window, state, order)
            in_learned = learned_at >= 0
            if in_learned:
                weight += tiers.learned_table[learned_at + 1] & TOTAL_MASK
                rows[COUNTS, LEARNED_ORDERS] = order + 1
                index = ORDER + ORDER_COUNT + order
                list_followers(found, tiers.learned_table, learned_at, followers, index)
        if not (in_context or in_learned):
            break
        stop = rows[COUNTS, ITEMS]
        if order < BLEND_ORDERS and weight > 0.0:
            distinct = middle - first
            for e in range(middle, stop):
                if rows[LISTED, rows[ITEM_CANDIDATE, e]] >> (ORDER + order) & 1 == 0:
                    distinct += 1
            trust = weight / (weight + DOUBT * distinct)
            escape *= 1.0 - trust
            for c in range(rows[COUNTS, CANDIDATES]):
                found.blend[c] *= 1.0 - trust
            each = trust / weight
            add_shares(
                found,
                tiers.context_table,
                context_at,
                followers,
                first,
                middle,
                each * CONTEXT_WEIGHT,
            )
            add_shares(found, tiers.learned_table, learned_at, followers, middle, stop, each)
    return escape
