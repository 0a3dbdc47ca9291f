"""Evidence for the tokens that may follow a node: what every source says of each of them.

A node is known by its tail (the last tokens of its path, newest first) and by its places: positions of
the context, the learned tier and the corpora whose text agrees with it, each with the token that comes
next there. Places move along with the path: a child keeps those that continue with its token. One that
agreed for long and then met another token goes on as a *gap*: near copies come back after a word.
Every input of a candidate is a bin; `mixing` knows what a bin has been worth.
"""

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.store.kernels import ngrams
from retrieval_draft.store.kernels.ngrams import (
    NARROW_FOLLOWERS,
    NEWEST_MASK,
    LENGTHS,
    ORDER_COUNT,
    ORDERS,
    TOTAL_BITS,
    TOTAL_MASK,
    WIDE_FOLLOWERS,
    WIDE_ORDERS,
)
from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.tree import Float64Array, Int32Array

SCOPES = 3
CONTEXT, LEARNED, CORPUS = 0, 1, 2
TAIL = 7
PLACES_MAX = 48
CANDIDATES_MAX = 96
SLOTS = 256

# Rows of `found` int32[FOUND_ROWS, FOUND_WIDTH], the evidence of one node.
TOKEN, LISTED, BLENDED = 0, 1, 2
"""By candidate: its token, a mask of the inputs that list it, its bins of the two blends."""
ITEM_CANDIDATE, ITEM_INPUT, ITEM_BIN = 4, 5, 6
"""By item, one for every candidate that an input lists."""
ABSENT = 7
"""By input: the bin of a candidate that it does not list, -1 if that says nothing."""
COUNTS = 8
CANDIDATES, ITEMS, CONTEXT_ORDERS, LEARNED_ORDERS, LONGEST = 0, 1, 2, 3, 4
"""Columns of COUNTS: how many; how many orders know the node; LONGEST + scope: the longest agreement."""
FOUND_ROWS, FOUND_WIDTH = 9, 288

POSITION, LENGTH, NEXT, GAP = 0, 1, 2, 3
PLACE_COLUMNS = 4

MATCH, GAPPED, ORDER, BLEND = 0, 3, 6, 6 + 2 * ORDER_COUNT
RECYCLING, COMMON, INPUTS = BLEND + 2, BLEND + 3, BLEND + 4
"""Inputs: match per scope, gap per scope, orders of the context, orders of the learned tier, two blends,
the recycling matrix."""

LENGTH_CLASSES, RANKS, SHARES = 15, 3, 5
MATCH_BINS = LENGTH_CLASSES * RANKS * SHARES
GAP_LENGTHS = 8
GAP_BINS = 4 * GAP_LENGTHS
ORDER_SHARES, TOTALS = 10, 6
ORDER_BINS = ORDER_SHARES * TOTALS * 2 + TOTALS
BLEND_LEVELS = 24
BLEND_BINS = BLEND_LEVELS * 16
SUCCESSORS, LOGPROBS = 8, 9
RECYCLING_BINS = SUCCESSORS * LOGPROBS
COMMON_KEPT, COMMON_ASKED = 96, 24
"""Tokens that came where no source listed them: counted, and proposed after every node."""
ESCAPES = 6
COMMON_BINS = COMMON_ASKED * ESCAPES


def _offsets() -> Int32Array:
    sizes = [MATCH_BINS] * 3 + [GAP_BINS] * 3 + [ORDER_BINS] * (2 * ORDER_COUNT)
    sizes += [BLEND_BINS] * 2 + [RECYCLING_BINS, COMMON_BINS]
    return np.cumsum([0, *sizes]).astype(np.int32)


# Arrays, for kernels index them: a tuple would be copied each time.
OFFSETS = _offsets()
BINS = int(OFFSETS[-1])
CONTEXT_WEIGHT = 4.0
BLEND_ORDERS = 4
DOUBT = 2.5
"""Blend: weight of the lower order per distinct follower, in counts (two a sighting)."""

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")
bytes_t = types.Array(types.uint8, 2, "C")
doubles_t = types.Array(types.float64, 1, "C")


@njit(int64(int64), nogil=True, cache=True, _nrt=False)
def length_class(length: int) -> int:
    """0 to 14 for agreements of 1 to 64 and more."""
    if length <= 8:
        return max(0, length - 1)
    if length <= 16:
        return 8 + (length - 9) // 4
    if length <= 32:
        return 10 + (length - 17) // 8
    return 12 if length <= 48 else (13 if length < 64 else 14)


@njit(int64(int64), nogil=True, cache=True, _nrt=False)
def total_class(total: int) -> int:
    """0 to 5 for 1, 2, 3-4, 5-8, 9-16 and more sightings."""
    n = total // 2
    if n <= 2:
        return max(0, n - 1)
    if n <= 4:
        return 2
    if n <= 8:
        return 3
    return 4 if n <= 16 else 5


@njit(int64(int64), nogil=True, cache=True, _nrt=False)
def blend_class(length: int) -> int:
    """0 to 3 for no match and those of up to 6, 15 and more tokens."""
    if length == 0:
        return 0
    if length <= 6:
        return 1
    return 2 if length <= 15 else 3


def _blend_levels() -> Int32Array:
    """Steps of the logit of k / 4096."""
    p = (np.arange(4097) + 0.5) / 4097
    return np.clip((np.log(p / (1 - p)) + 7) * (BLEND_LEVELS / 14), 0, BLEND_LEVELS - 1).astype(np.int32)


LEVEL_OF = _blend_levels()


@njit(int64(table_t, row_t, doubles_t, int64), nogil=True, cache=True, _nrt=False)
def candidate(found: Int32Array, slots: Int32Array, blend: Float64Array, wanted: int) -> int:
    """The column of `wanted` among the candidates, made if it is new; -1 if there is no room. O(1)."""
    at = np.uint32(np.uint32(wanted) * np.uint32(0x9E3779B1)) >> np.uint32(24)
    while slots[at] != 0:
        c = slots[at] - 1
        if found[TOKEN, c] == wanted:
            return c
        at = (at + np.uint32(1)) & np.uint32(SLOTS - 1)
    c = int64(found[COUNTS, CANDIDATES])
    if c == CANDIDATES_MAX:
        return -1
    slots[at] = c + 1
    found[TOKEN, c] = wanted
    found[LISTED, c] = 0
    blend[c] = 0.0
    found[COUNTS, CANDIDATES] = c + 1
    return c


@njit(types.void(table_t, int64, int64, int64), nogil=True, cache=True, _nrt=False)
def list_one(found: Int32Array, c: int, index: int, b: int) -> None:
    """Input `index` lists candidate `c` with this bin."""
    e = found[COUNTS, ITEMS]
    found[ITEM_CANDIDATE, e] = c
    found[ITEM_INPUT, e] = index
    found[ITEM_BIN, e] = OFFSETS[index] + b
    found[LISTED, c] |= 1 << index
    found[COUNTS, ITEMS] = e + 1


@njit(
    types.void(table_t, row_t, doubles_t, row_t, int64, int64, int64), nogil=True, cache=True, _nrt=False
)
def list_followers(
    found: Int32Array,
    slots: Int32Array,
    blend: Float64Array,
    table: Int32Array,
    at: int,
    followers: int,
    index: int,
) -> None:
    """All followers of one context of one tier, as input `index`."""
    total = max(1, table[at + 1] & TOTAL_MASK)
    newest = (table[at + 1] >> TOTAL_BITS) & NEWEST_MASK
    size = total_class(total)
    found[ABSENT, index] = OFFSETS[index] + ORDER_SHARES * TOTALS * 2 + size
    for f in range(followers):
        wanted = table[at + 2 + f]
        if wanted < 0:
            break
        c = candidate(found, slots, blend, wanted)
        if c >= 0:
            share = min(ORDER_SHARES - 1, table[at + 2 + followers + f] * ORDER_SHARES // total)
            list_one(found, c, index, (share * TOTALS + size) * 2 + (1 if f == newest else 0))


@njit(
    types.void(table_t, doubles_t, row_t, int64, int64, int64, int64, float64),
    nogil=True,
    _nrt=False,
    cache=True,
)
def add_shares(
    found: Int32Array,
    blend: Float64Array,
    table: Int32Array,
    at: int,
    followers: int,
    first: int,
    stop: int,
    scale: float,
) -> None:
    """Add the scaled counts of the followers that items first..stop-1 list."""
    token = at + 2
    for e in range(first, stop):
        c = found[ITEM_CANDIDATE, e]
        # Items stand in the followers' order; one without room was left out.
        while table[token] != found[TOKEN, c]:
            token += 1
        blend[c] += scale * table[token + followers]


@njit(
    types.void(
        table_t, int64, cube_t, table_t, row_t, row_t, table_t, bytes_t,
        table_t, float64, table_t, row_t, doubles_t,
    ),
    nogil=True,
    _nrt=False,
    cache=True,
)  # fmt: skip
def gather(
    tails: Int32Array,
    node: int,
    places: Int32Array,
    segments: Int32Array,
    context_table: Int32Array,
    learned_table: Int32Array,
    successors: Int32Array,
    logprobs: np.ndarray,
    common: Int32Array,
    floor: float,
    found: Int32Array,
    slots: Int32Array,
    blend: Float64Array,
) -> None:
    """All candidates after one node, into `found` (see its rows) and blend[c].

    The blend is PPM-like over orders 0 to 4. Common tokens whose blend stays below `floor` are left out.
    """
    for i in range(SLOTS):
        slots[i] = 0
    for i in range(INPUTS):
        found[ABSENT, i] = -1
    found[COUNTS, CANDIDATES] = 0
    found[COUNTS, ITEMS] = 0
    found[COUNTS, CONTEXT_ORDERS] = 0
    found[COUNTS, LEARNED_ORDERS] = 0
    # Places, grouped by scope, longest agreement first, interrupted ones last.
    for scope in range(SCOPES):
        first = segments[node, scope]
        stop = segments[node, scope + 1]
        total = 0
        while first + total < stop and places[node, first + total, GAP] == 0:
            total += 1
        longest = places[node, first, LENGTH] if total > 0 else 0
        found[COUNTS, LONGEST + scope] = longest
        for i in range(first, stop):
            wanted = places[node, i, NEXT]
            c = candidate(found, slots, blend, wanted)
            if c < 0:
                continue
            length = places[node, i, LENGTH]
            gap = places[node, i, GAP]
            if gap > 0:
                if found[LISTED, c] >> (GAPPED + scope) & 1 == 0:
                    b = (gap - 1) * GAP_LENGTHS + min(length, GAP_LENGTHS - 1)
                    list_one(found, c, GAPPED + scope, b)
            elif found[LISTED, c] >> (MATCH + scope) & 1 == 0:
                rank = 0 if i == first else (1 if length == longest else 2)
                agreeing = 0
                for j in range(i, first + total):
                    if places[node, j, NEXT] == wanted:
                        agreeing += 1
                share = (agreeing * SHARES - 1) // total
                list_one(found, c, MATCH + scope, (length_class(length) * RANKS + rank) * SHARES + share)
    # Orders, from low to high; an order that is unknown in a tier ends that tier.
    state = np.uint64(0)
    order = 0
    in_context = True
    in_learned = True
    escape = 1.0
    for k in range(1, ORDERS[ORDER_COUNT - 1] + 1):
        before = tails[node, k - 1]
        if before < 0:
            break
        state = mix(state, before)
        if k != LENGTHS[order]:
            continue
        followers = WIDE_FOLLOWERS if order < WIDE_ORDERS else NARROW_FOLLOWERS
        first = found[COUNTS, ITEMS]
        context_at = -1
        learned_at = -1
        context_total = 0
        learned_total = 0
        if in_context:
            context_at = ngrams.find(context_table, state, order)
            in_context = context_at >= 0
            if in_context:
                context_total = context_table[context_at + 1] & TOTAL_MASK
                found[COUNTS, CONTEXT_ORDERS] = order + 1
                list_followers(
                    found, slots, blend, context_table, context_at, followers, ORDER + order
                )
        middle = found[COUNTS, ITEMS]
        if in_learned:
            learned_at = ngrams.find(learned_table, state, order)
            in_learned = learned_at >= 0
            if in_learned:
                learned_total = learned_table[learned_at + 1] & TOTAL_MASK
                found[COUNTS, LEARNED_ORDERS] = order + 1
                list_followers(
                    found, slots, blend, learned_table, learned_at, followers,
                    ORDER + ORDER_COUNT + order,
                )  # fmt: skip
        if not (in_context or in_learned):
            break
        if order < BLEND_ORDERS:
            stop = found[COUNTS, ITEMS]
            distinct = middle - first
            for e in range(middle, stop):
                if found[LISTED, found[ITEM_CANDIDATE, e]] >> (ORDER + order) & 1 == 0:
                    distinct += 1
            weight = CONTEXT_WEIGHT * context_total + learned_total
            trust = weight / (weight + DOUBT * distinct)
            escape *= 1.0 - trust
            for c in range(found[COUNTS, CANDIDATES]):
                blend[c] *= 1.0 - trust
            each = trust / weight
            add_shares(
                found, blend, context_table, context_at, followers, first, middle,
                each * CONTEXT_WEIGHT,
            )  # fmt: skip
            add_shares(found, blend, learned_table, learned_at, followers, middle, stop, each)
        order += 1
        if order == ORDER_COUNT:
            break
    # Recycled successors of the last token.
    last = tails[node, 0]
    if 0 <= last < successors.shape[0]:
        for r in range(successors.shape[1]):
            wanted = successors[last, r]
            if wanted < 0 or wanted >= successors.shape[0]:
                break
            c = candidate(found, slots, blend, wanted)
            if c < 0:
                continue
            if found[LISTED, c] >> RECYCLING & 1 == 0:
                packed = logprobs[last, r]
                level = LOGPROBS - 1 if packed == 255 else min(LOGPROBS - 2, packed // 8)
                list_one(found, c, RECYCLING, r * LOGPROBS + level)
    # What comes when nothing is known.
    level = min(ESCAPES - 1, int64(-np.log2(escape + 1e-9)))
    total = max(1, common[1, COMMON_KEPT])
    for r in range(COMMON_ASKED):
        wanted = common[0, r]
        p = escape * common[1, r] / total
        if wanted < 0 or p < floor:
            break
        c = candidate(found, slots, blend, wanted)
        if c < 0:
            break
        blend[c] += p
        list_one(found, c, COMMON, r * ESCAPES + level)
    classes = blend_class(found[COUNTS, LONGEST + CONTEXT]) * 4
    classes += blend_class(found[COUNTS, LONGEST + LEARNED])
    for c in range(found[COUNTS, CANDIDATES]):
        step = LEVEL_OF[int64(blend[c] * 4096.0)] * 16
        listed = found[LISTED, c]
        by = (listed >> (MATCH + CONTEXT) & 1) + 2 * (listed >> (MATCH + LEARNED) & 1)
        found[BLENDED, c] = OFFSETS[BLEND] + step + classes
        found[BLENDED + 1, c] = OFFSETS[BLEND + 1] + step + by
