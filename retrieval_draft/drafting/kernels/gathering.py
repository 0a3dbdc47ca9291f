"""All candidates after one node, and every source that lists them."""

import numpy as np
from numba import float64, int64, types

from retrieval_draft.drafting.kernels.bins import (
    BLEND,
    BLEND_CLASSES,
    COMMON,
    COMMON_ASKED,
    COMMON_KEPT,
    CONTEXT,
    CORPUS,
    ESCAPES,
    GAP_LENGTHS,
    GAPPED,
    INPUTS,
    LEARNED,
    LOGPROBS,
    MATCH,
    OFFSETS,
    RANKS,
    RECYCLING,
    SCOPES,
    SHARES,
    STAND,
    agreement_class,
    blend_level,
    length_class,
    stand_bin,
)
from retrieval_draft.drafting.kernels.evidence import (
    ABSENT,
    BLENDED,
    CANDIDATES,
    COUNTS,
    GAP,
    LENGTH,
    LISTED,
    LONGEST,
    NEXT,
    SLOTS,
    Found,
    Nodes,
    Tiers,
    candidate,
    found_t,
    list_one,
    nodes_t,
    table_t,
    tiers_t,
)
from retrieval_draft.drafting.kernels.orders import list_orders, look_ahead
from retrieval_draft.store.kernels import stand
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.tree import Int32Array


@leaf(int64(nodes_t, int64, int64))
def exact_places(nodes: Nodes, node: int, scope: int) -> int:
    """How many of a scope's places agree without a gap: its first ones."""
    first = nodes.segments[node, scope]
    at = first
    while at < nodes.segments[node, scope + 1] and nodes.places[node, at, GAP] == 0:
        at += 1
    return int(at - first)


@leaf(types.void(found_t, nodes_t, int64, int64))
def list_places(found: Found, nodes: Nodes, node: int, scope: int) -> None:
    """What comes next at a scope's places: the longest agreement first, interrupted ones last."""
    rows = found.rows
    places = nodes.places
    first = nodes.segments[node, scope]
    stop = nodes.segments[node, scope + 1]
    total = exact_places(nodes, node, scope)
    longest = places[node, first, LENGTH] if total > 0 else 0
    rows[COUNTS, LONGEST + scope] = longest
    for i in range(first, stop):
        wanted = places[node, i, NEXT]
        c = candidate(found, wanted)
        if c < 0:
            continue
        length = places[node, i, LENGTH]
        gap = places[node, i, GAP]
        if gap > 0:
            if rows[LISTED, c] >> (GAPPED + scope) & 1 == 0:
                b = (gap - 1) * GAP_LENGTHS + min(length, GAP_LENGTHS - 1)
                list_one(found, c, GAPPED + scope, b)
        elif rows[LISTED, c] >> (MATCH + scope) & 1 == 0:
            rank = 0 if i == first else (1 if length == longest else 2)
            agreeing = 0
            for j in range(i, first + total):
                if places[node, j, NEXT] == wanted:
                    agreeing += 1
            share = (agreeing * SHARES - 1) // total
            list_one(
                found, c, MATCH + scope, (length_class(length) * RANKS + rank) * SHARES + share
            )


@leaf(float64(found_t, nodes_t, int64))
def blend_corpus(found: Found, nodes: Nodes, node: int) -> float:
    """Begin the blend with the corpora's places, as an order below the first; returns what it leaves.

    They have no n-gram tables: without this a warmed text would be news to the blend.
    """
    first = nodes.segments[node, CORPUS]
    total = exact_places(nodes, node, CORPUS)
    each = 1.0 / (total + 1)
    for i in range(first, first + total):
        c = candidate(found, nodes.places[node, i, NEXT])
        if c >= 0:
            found.blend[c] += each
    return each


@leaf(types.void(found_t, tiers_t, int64))
def list_recycled(found: Found, tiers: Tiers, last: int) -> None:
    """The successors that the recycling matrix keeps of the last token."""
    if not 0 <= last < tiers.successors.shape[0]:
        return
    for r in range(tiers.successors.shape[1]):
        wanted = tiers.successors[last, r]
        if wanted < 0 or wanted >= tiers.successors.shape[0]:
            break
        c = candidate(found, wanted)
        # A row read while it is being written may hold a token twice.
        if c >= 0 and found.rows[LISTED, c] >> RECYCLING & 1 == 0:
            packed = tiers.logprobs[last, r]
            level = LOGPROBS - 1 if packed == 255 else min(LOGPROBS - 2, packed // 8)
            list_one(found, c, RECYCLING, r * LOGPROBS + level)


@leaf(types.void(found_t, tiers_t, nodes_t, int64))
def list_expected(found: Found, tiers: Tiers, nodes: Nodes, node: int) -> None:
    """What STAND's table says the target expects after the longest n-gram that it knows; one slot is none."""
    if len(tiers.stand_keys) == 1:
        return
    state = np.uint64(0)
    slot = -1
    order = 0
    for k in range(1, stand.ORDER_MAX + 1):
        before = nodes.tails[node, k - 1]
        if before < 0:
            break
        state = mix(state, before)
        at = stand.find(tiers.stand_keys, state if state != np.uint64(0) else np.uint64(1))
        if at >= 0:
            slot, order = at, k
    if slot < 0:
        return
    visits = tiers.stand_visits[slot]
    found.rows[ABSENT, STAND] = OFFSETS[STAND] + stand_bin(0, order, visits)
    for r in range(stand.WIDTH):
        wanted = tiers.stand_tokens[slot, r]
        if wanted < 0 or wanted >= tiers.successors.shape[0]:
            break
        c = candidate(found, wanted)
        if c >= 0 and found.rows[LISTED, c] >> STAND & 1 == 0:
            b = stand_bin(max(1, int(tiers.stand_shares[slot, r])), order, visits)
            list_one(found, c, STAND, b)


@leaf(types.void(found_t, float64, float64, table_t))
def list_common(found: Found, escape: float, floor: float, common: Int32Array) -> None:
    """What comes when nothing is known: tokens whose share of `escape` is at least `floor`."""
    each = escape / max(1, common[1, COMMON_KEPT])
    if each * common[1, 0] < floor:
        return
    level = min(ESCAPES - 1, int(-np.log2(escape + 1e-9)))
    for r in range(COMMON_ASKED):
        wanted = common[0, r]
        p = each * common[1, r]
        if wanted < 0 or p < floor:
            break
        c = candidate(found, wanted)
        if c < 0:
            break
        found.blend[c] += p
        list_one(found, c, COMMON, r * ESCAPES + max(0, level))


@leaf(types.void(found_t, tiers_t, nodes_t, int64, float64))
def gather(found: Found, tiers: Tiers, nodes: Nodes, node: int, floor: float) -> None:
    """All candidates after one node and what lists them.

    The blend is PPM-like (Cleary & Witten 1984) over orders 0 to 4 of both tiers. Common tokens whose
    blend would stay below `floor` are left out.
    """
    rows = found.rows
    for i in range(SLOTS):
        found.slots[i] = 0
    for i in range(INPUTS):
        rows[ABSENT, i] = -1
    for i in range(LONGEST + SCOPES):
        rows[COUNTS, i] = 0
    look_ahead(found, tiers, nodes, node)
    for scope in range(SCOPES):
        list_places(found, nodes, node, scope)
    escape = blend_corpus(found, nodes, node)
    escape *= list_orders(found, tiers)
    list_recycled(found, tiers, nodes.tails[node, 0])
    list_expected(found, tiers, nodes, node)
    list_common(found, escape, floor, tiers.common)
    by_agreement = agreement_class(rows[COUNTS, LONGEST + CONTEXT]) * 4
    by_agreement += agreement_class(rows[COUNTS, LONGEST + LEARNED])
    for c in range(rows[COUNTS, CANDIDATES]):
        step = blend_level(found.blend[c]) * BLEND_CLASSES
        listed = rows[LISTED, c]
        by_match = (listed >> (MATCH + CONTEXT) & 1) + 2 * (listed >> (MATCH + LEARNED) & 1)
        rows[BLENDED, c] = OFFSETS[BLEND] + step + by_agreement
        rows[BLENDED + 1, c] = OFFSETS[BLEND + 1] + step + by_match
