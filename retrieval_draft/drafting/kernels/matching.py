"""Places that agree with a path: found at its root by hashed anchors, moved along with every token.

places int32[PLACES_MAX, 4] are rows of (position of the next token, agreeing length, next token, gap),
grouped by scope: rows segments[s]..segments[s+1]-1 belong to scope s, longest agreement first.
"""

import numpy as np
from numba import int64, njit, types, uint64

from retrieval_draft.drafting.kernels.evidence import (
    CONTEXT,
    CORPUS,
    GAP,
    LEARNED,
    LENGTH,
    NEXT,
    PLACES_MAX,
    POSITION,
    SCOPES,
)
from retrieval_draft.store.kernels import ring
from retrieval_draft.tree import Int32Array

AGREEMENT_MAX = 64
ANCHORS = np.array([3, 2], np.int32)
"""Rows of the ring's chains that anchor a match: 7 tokens, then 3."""
ANCHOR_LENGTHS = np.array([7, 3], np.int32)
STEPS_MAX = 24
PLACES_PER_RING = 8
ENOUGH = 4
"""The short anchor is asked only if the long one found fewer."""
GAPS_PER_SCOPE = 4
GAP_FROM = 3
"""An agreement at least so long may be interrupted."""
LONG = 16
GAPS_MAX = 4

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")


@njit(
    int64(row_t, table_t, table_t, int64, int64, row_t, int64, int64, cube_t, int64),
    nogil=True,
    _nrt=False,
    cache=True,
)
def search(
    tokens: Int32Array,
    head: Int32Array,
    prev: Int32Array,
    low: int,
    stop: int,
    context: Int32Array,
    context_low: int,
    context_stop: int,
    places: Int32Array,
    first: int,
) -> int:
    """Write the best places of a ring that agree with the context's end from row `first` on; how many.

    O(STEPS_MAX x AGREEMENT_MAX), whatever the ring holds.
    """
    mask = len(tokens) - 1
    buckets = head.shape[1] - 1
    context_mask = len(context) - 1
    count = 0
    above = AGREEMENT_MAX + 1
    for anchor in range(2):
        length_min = ANCHOR_LENGTHS[anchor]
        if context_stop - context_low < length_min:
            continue
        state = np.uint64(0)
        for back in range(length_min):
            state = ring.mix(state, context[(context_stop - 1 - back) & context_mask])
        order = ANCHORS[anchor]
        link = head[order, int64(state & np.uint64(buckets))]
        for _ in range(STEPS_MAX):
            end = int64(link) - 1
            if count >= PLACES_PER_RING or end < low or end >= stop:
                break
            if end + 1 < stop and tokens[(end + 1) & mask] >= 0:
                length = 0
                most = min(AGREEMENT_MAX, end - low + 1, context_stop - context_low)
                while (
                    length < most
                    and tokens[(end - length) & mask]
                    == context[(context_stop - 1 - length) & context_mask]
                ):
                    length += 1
                if length_min <= length < above:
                    at = first + count
                    while at > first and places[0, at - 1, LENGTH] < length:
                        for k in range(4):
                            places[0, at, k] = places[0, at - 1, k]
                        at -= 1
                    places[0, at, POSITION] = end + 1
                    places[0, at, LENGTH] = length
                    places[0, at, NEXT] = tokens[(end + 1) & mask]
                    places[0, at, GAP] = 0
                    count += 1
            following = prev[order, end & mask]
            if following >= link:
                break
            link = following
        if count >= ENOUGH:
            break
        above = length_min
    return count


@njit(int64(int64, int64, int64), nogil=True, cache=True, _nrt=False)
def gap_after(length: int, gap: int, agreed_min: int) -> int:
    """The gap of a place that met another token; 0 if it is to be dropped."""
    if gap == 0:
        if length < agreed_min:
            return 0
        return 2 if length >= LONG else 1
    if length < 1 and gap >= 3:
        return 0
    return min(GAPS_MAX, 3 if gap <= 2 else 4)


@njit(
    types.void(
        cube_t, table_t, int64, int64, row_t, int64, row_t, int64, row_t, cube_t, table_t, table_t, int64
    ),
    nogil=True,
    _nrt=False,
    cache=True,
)
def move(
    places: Int32Array,
    segments: Int32Array,
    above: int,
    token: int,
    context: Int32Array,
    context_stop: int,
    learned: Int32Array,
    learned_stop: int,
    corpus: Int32Array,
    moved: Int32Array,
    moved_segments: Int32Array,
    tails: Int32Array,
    node: int,
) -> None:
    """The places of a child that carries `token`, from those of its parent.

    Where a path outruns the context, the context goes on with the path's own tokens (a loop): the
    child's tail, row `node` of `tails`, knows the last ones.
    """
    n = 0
    for scope in range(SCOPES):
        moved_segments[node, scope] = n
        gaps = 0
        kept = n
        for i in range(segments[above, scope], segments[above, scope + 1]):
            if n >= PLACES_MAX:
                break
            follows = places[above, i, NEXT]
            if follows < 0:
                continue
            gap = places[above, i, GAP]
            length = places[above, i, LENGTH]
            if follows == token:
                length += 1
                if gap == 0 and length > AGREEMENT_MAX:
                    length = AGREEMENT_MAX
            else:
                gap = gap_after(length, gap, GAP_FROM)
                if gap == 0:
                    continue
                length = 0
            if gap > 0:
                if gaps == GAPS_PER_SCOPE:
                    continue
                gaps += 1
            at = int64(places[above, i, POSITION]) + 1
            following = -1
            if scope == CONTEXT:
                if at < context_stop:
                    following = context[at & (len(context) - 1)]
                else:
                    # Distance from the child's next position back to `at` stays what it was.
                    back = tails[node, tails.shape[1] - 1] + context_stop - at
                    if 0 < back < tails.shape[1]:
                        following = tails[node, back - 1]
            elif scope == LEARNED:
                if at < learned_stop:
                    following = learned[at & (len(learned) - 1)]
            elif at < len(corpus):
                following = corpus[at]
            if following < 0:
                continue
            moved[node, n, POSITION] = at
            moved[node, n, LENGTH] = length
            moved[node, n, NEXT] = following
            moved[node, n, GAP] = gap
            n += 1
        # Exact places stay in front of interrupted ones.
        for i in range(kept + 1, n):
            j = i
            while j > kept and moved[node, j - 1, GAP] > 0 and moved[node, j, GAP] == 0:
                for k in range(4):
                    moved[node, j - 1, k], moved[node, j, k] = moved[node, j, k], moved[node, j - 1, k]
                j -= 1
    moved_segments[node, SCOPES] = n
