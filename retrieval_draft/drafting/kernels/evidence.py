"""Evidence for the tokens that may follow a node: what every source says of each of them.

A node is known by its tail (the last tokens of its path, newest first) and by its places: positions of
the context, the learned tier and the corpora whose text agrees with it, each with the token that comes
next there (see `matching`). What is found is sparse: one item for every input that lists a candidate.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
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
    ORDER,
    ORDER_ABSENT,
    ORDER_SHARES,
    RANKS,
    RECYCLING,
    SCOPES,
    SHARES,
    STAND,
    TOTALS,
    agreement_class,
    blend_level,
    length_class,
    stand_bin,
    total_class,
)
from retrieval_draft.store.kernels import ngrams, stand, windows
from retrieval_draft.store.kernels.ahead import LINE_WORDS, ahead
from retrieval_draft.store.kernels.leaf import leaf, tuple_type
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
from retrieval_draft.tree import Float64Array, Int32Array

TAIL = 24
"""Tokens kept of a path's end; the column behind them is the node's depth."""
PLACES_MAX = 48
POSITION, LENGTH, NEXT, GAP = 0, 1, 2, 3
"""Columns of a place: position of the next token, agreeing length, next token, gap (0 = none)."""
PLACE_COLUMNS = 4
CANDIDATES_MAX = 96
SLOTS = 256
HASH_SHIFT = 24

TOKEN, LISTED, BLENDED = 0, 1, 2
"""Rows of Found.rows, by candidate: its token, a mask of the inputs that list it, its two blends' bins."""
ITEM_CANDIDATE, ITEM_INPUT, ITEM_BIN = 4, 5, 6
"""By item."""
ABSENT = 7
"""By input: the bin of a candidate that it does not list, -1 if that says nothing."""
COUNTS = 8
CANDIDATES, ITEMS, CONTEXT_ORDERS, LEARNED_ORDERS, LONGEST, HASHED = 0, 1, 2, 3, 4, 4 + SCOPES
CONTEXT_WINDOWS, LEARNED_WINDOWS = HASHED + 1, HASHED + 1 + ORDER_COUNT
"""Columns of row COUNTS: how many; how many orders know the node; LONGEST + scope: the longest agreement;
how many orders the path is long enough for, and where their windows stand in the tables."""
UNLISTED = 9
"""By input: how many of the taught candidates it does not list."""
FOUND_ROWS, FOUND_WIDTH = 10, 320

CONTEXT_WEIGHT = 4.0
"""Of a count in the context against one in the learned tier."""
BLEND_ORDERS = 4
DOUBT = 2.5
"""Weight of the lower orders per distinct follower, in counts."""

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")
bytes_t = types.Array(types.uint8, 2, "C")
doubles_t = types.Array(types.float64, 1, "C")
keys_t = types.Array(types.uint64, 1, "C")
visits_t = types.Array(types.uint8, 1, "C")
shares_t = types.Array(types.uint16, 2, "C")


class Tiers(NamedTuple):
    """What is read of the tiers; rings and tables as in store/, the corpus as windows one after another."""

    context: Int32Array
    context_table: Int32Array
    learned: Int32Array
    learned_table: Int32Array
    corpus: Int32Array
    successors: Int32Array
    logprobs: npt.NDArray[np.uint8]
    stand_keys: npt.NDArray[np.uint64]
    stand_visits: npt.NDArray[np.uint8]
    stand_tokens: Int32Array
    stand_shares: npt.NDArray[np.uint16]
    common: Int32Array


class Nodes(NamedTuple):
    """By node: tails int32[n, TAIL + 1], places int32[n, PLACES_MAX, 4], grouped by scope, and where each
    scope's begin, segments int32[n, SCOPES + 1]."""

    tails: Int32Array
    places: Int32Array
    segments: Int32Array


class Found(NamedTuple):
    """The evidence at one node: rows int32[FOUND_ROWS, FOUND_WIDTH], slots int32[SLOTS] (a hash of the
    candidates), blend and logit float64[CANDIDATES_MAX], states uint64[ORDER_COUNT] (its path's ends)."""

    rows: Int32Array
    slots: Int32Array
    blend: Float64Array
    logit: Float64Array
    states: npt.NDArray[np.uint64]


tiers_t = tuple_type(
    [
        row_t, row_t, row_t, row_t, row_t, table_t, bytes_t,
        keys_t, visits_t, table_t, shares_t, table_t,
    ],
    Tiers,
)  # fmt: skip
nodes_t = tuple_type([table_t, cube_t, table_t], Nodes)
found_t = tuple_type([table_t, row_t, doubles_t, doubles_t, keys_t], Found)


@leaf(int64(found_t, int64))
def candidate(found: Found, wanted: int) -> int:
    """The column of `wanted` among the candidates, made if it is new; -1 if there is no room. O(1)."""
    rows = found.rows
    slots = found.slots
    at = np.uint32(np.uint32(wanted) * np.uint32(0x9E3779B1)) >> np.uint32(HASH_SHIFT)
    while slots[at] != 0:
        c = int(slots[at]) - 1
        if rows[TOKEN, c] == wanted:
            return c
        at = (at + np.uint32(1)) & np.uint32(SLOTS - 1)
    c = int(rows[COUNTS, CANDIDATES])
    if c == CANDIDATES_MAX:
        return -1
    slots[at] = c + 1
    rows[TOKEN, c] = wanted
    rows[LISTED, c] = 0
    found.blend[c] = 0.0
    rows[COUNTS, CANDIDATES] = c + 1
    return c


@leaf(types.void(found_t, int64, int64, int64))
def list_one(found: Found, c: int, index: int, b: int) -> None:
    """Input `index` lists candidate `c` with this bin of its own."""
    rows = found.rows
    e = rows[COUNTS, ITEMS]
    rows[ITEM_CANDIDATE, e] = c
    rows[ITEM_INPUT, e] = index
    rows[ITEM_BIN, e] = OFFSETS[index] + b
    rows[LISTED, c] |= 1 << index
    rows[COUNTS, ITEMS] = e + 1


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
    for k in range(1, ORDERS[ORDER_COUNT - 1] + 1):
        before = nodes.tails[node, k - 1]
        if before < 0:
            break
        state = mix(state, before)
        if k == LENGTHS[order]:
            found.states[order] = state
            at = windows.window_of(tiers.learned_table, state, order)
            found.rows[COUNTS, LEARNED_WINDOWS + order] = at
            words = WIDE_WINDOW if order < WIDE_ORDERS else NARROW_WINDOW
            if at > 0:
                for line in range(at, at + words, LINE_WORDS):
                    ahead(tiers.learned_table, line)
            at = windows.window_of(tiers.context_table, state, order)
            found.rows[COUNTS, CONTEXT_WINDOWS + order] = at
            ahead(tiers.context_table, at)
            order += 1
    found.rows[COUNTS, HASHED] = order


@leaf(float64(found_t, tiers_t, nodes_t, int64))
def list_orders(found: Found, tiers: Tiers, nodes: Nodes, node: int) -> float:
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
    escape *= list_orders(found, tiers, nodes, node)
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
