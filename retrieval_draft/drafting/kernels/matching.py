"""Places that agree with a path: found at its root by hashed anchors, moved along with every token.

A place that agreed and then met another token goes on as a *gap*: near copies (the same sentence with
another name in it) come back after a word.
"""

import numpy as np
from numba import int64, types

from retrieval_draft.drafting.kernels.bins import CONTEXT, CORPUS, GAPS, LEARNED, SCOPES
from retrieval_draft.drafting.kernels.evidence import (
    GAP,
    LENGTH,
    NEXT,
    PLACE_COLUMNS,
    PLACES_MAX,
    POSITION,
    TAIL,
    Nodes,
    Tiers,
    nodes_t,
    tiers_t,
)
from retrieval_draft.store.kernels import ring
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Int32Array

AGREEMENT_MAX = 64
ANCHORS = np.array([3, 2], np.int32)
"""Rows of a ring's chains that anchor a match: 7 tokens, then 3."""
ANCHOR_LENGTHS = np.array([7, 3], np.int32)
STEPS_MAX = 24
PLACES_PER_RING = 8
ENOUGH = 4
"""The short anchor is asked only if the long one found fewer."""
GAPS_PER_SCOPE = 4
GAP_FROM = 3
"""An agreement at least so long may be interrupted."""
LONG = 16
"""From here on an interrupted agreement counts as a long one; one that came back so far is found anew."""

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")


@leaf(int64(row_t, table_t, table_t, int64, int64, row_t, int64, int64, cube_t, int64))
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
    """Write a ring's places that agree with the context's end into places[0], longest first; how many.

    At most PLACES_PER_RING from row `first` on. O(STEPS_MAX x AGREEMENT_MAX), whatever the ring holds.
    """
    mask = len(tokens) - 1
    buckets = head.shape[1] - 1
    context_mask = len(context) - 1
    count = 0
    above = AGREEMENT_MAX + 1
    for anchor in range(len(ANCHORS)):
        length_min = ANCHOR_LENGTHS[anchor]
        if context_stop - context_low < length_min:
            continue
        state = np.uint64(0)
        for back in range(length_min):
            state = ring.mix(state, context[(context_stop - 1 - back) & context_mask])
        order = ANCHORS[anchor]
        link = head[order, int(state & np.uint64(buckets))]
        for _ in range(STEPS_MAX):
            end = int(link) - 1
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
                # A longer agreement was met in the chain of the longer anchor.
                if length_min <= length < above:
                    at = first + count
                    while at > first and places[0, at - 1, LENGTH] < length:
                        for k in range(PLACE_COLUMNS):
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


@leaf(int64(int64, int64))
def gap_after(length: int, gap: int) -> int:
    """The gap of a place that met another token, by what it agreed with before; 0 drops it.

    1 and 2: the first one, after a short and a long agreement; 3 and 4: the second and any later one.
    """
    if gap == 0:
        if length < GAP_FROM:
            return 0
        return 2 if length >= LONG else 1
    if length < 1 and gap >= 3:
        return 0
    return 3 if gap <= 2 else GAPS


@leaf(types.void(tiers_t, nodes_t, int64, int64, int64, int64, nodes_t, int64))
def move(
    tiers: Tiers,
    nodes: Nodes,
    above: int,
    token: int,
    context_stop: int,
    learned_stop: int,
    moved: Nodes,
    node: int,
) -> None:
    """The places of `node` of `moved`, which carries `token`, from those of node `above`.

    Where a path outruns the context, the context goes on with the path's own tokens (a loop): the
    tail of `node`, written before, knows the last ones.
    """
    places = nodes.places
    to = moved.places
    context_mask = len(tiers.context) - 1
    learned_mask = len(tiers.learned) - 1
    n = 0
    for scope in range(SCOPES):
        moved.segments[node, scope] = n
        gaps = 0
        exact = n
        for i in range(nodes.segments[above, scope], nodes.segments[above, scope + 1]):
            if n >= PLACES_MAX:
                break
            gap = int(places[above, i, GAP])
            length = int(places[above, i, LENGTH])
            if places[above, i, NEXT] == token:
                length = min(AGREEMENT_MAX, length + 1)
            else:
                gap = gap_after(length, gap)
                if gap == 0:
                    continue
                length = 0
            if gap > 0:
                if gaps == GAPS_PER_SCOPE:
                    continue
                gaps += 1
            at = int(places[above, i, POSITION]) + 1
            following = -1
            if scope == CONTEXT:
                # How far back `at` lies from the next position stays the same along the path.
                back = moved.tails[node, TAIL] + context_stop - at
                if at < context_stop:
                    following = tiers.context[at & context_mask]
                elif 0 < back <= TAIL:
                    following = moved.tails[node, back - 1]
            elif scope == LEARNED:
                if at < learned_stop:
                    following = tiers.learned[at & learned_mask]
            elif at < len(tiers.corpus):
                following = tiers.corpus[at]
            if following < 0:
                continue
            slot = n
            if gap == 0:
                # Exact places stay in front of interrupted ones.
                while slot > exact and to[node, slot - 1, GAP] > 0:
                    for k in range(PLACE_COLUMNS):
                        to[node, slot, k] = to[node, slot - 1, k]
                    slot -= 1
            to[node, slot, POSITION] = at
            to[node, slot, LENGTH] = length
            to[node, slot, NEXT] = following
            to[node, slot, GAP] = gap
            n += 1
    moved.segments[node, SCOPES] = n


@leaf(
    types.void(
        tiers_t, table_t, table_t, int64, int64, table_t, table_t, int64, int64, nodes_t, nodes_t
    )
)
def renew(
    tiers: Tiers,
    context_head: Int32Array,
    context_prev: Int32Array,
    context_low: int,
    context_stop: int,
    learned_head: Int32Array,
    learned_prev: Int32Array,
    learned_low: int,
    learned_stop: int,
    moved: Nodes,
    root: Nodes,
) -> None:
    """A root's places: the rings' are found anew, the interrupted and the corpora's are node 0 of `moved`."""
    n = 0
    places = root.places
    for scope in range(SCOPES):
        root.segments[0, scope] = n
        first = n
        if scope == CONTEXT:
            n += search(
                tiers.context, context_head, context_prev, context_low, context_stop,
                tiers.context, context_low, context_stop, places, n,
            )  # fmt: skip
        elif scope == LEARNED:
            n += search(
                tiers.learned, learned_head, learned_prev, learned_low, learned_stop,
                tiers.context, context_low, context_stop, places, n,
            )  # fmt: skip
        for i in range(moved.segments[0, scope], moved.segments[0, scope + 1]):
            if n == PLACES_MAX:
                break
            if scope != CORPUS:
                if moved.places[0, i, GAP] == 0 or moved.places[0, i, LENGTH] >= LONG:
                    continue
                known = False
                for j in range(first, n):
                    if places[0, j, POSITION] == moved.places[0, i, POSITION]:
                        known = True
                if known:
                    continue
            for k in range(PLACE_COLUMNS):
                places[0, n, k] = moved.places[0, i, k]
            n += 1
    root.segments[0, SCOPES] = n
