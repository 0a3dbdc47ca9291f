"""Fusing a draft model's tree with a retrieved one: what both are worth, alone and agreeing.

Every node of the union has two shares of its parent, one from each tree. What a pair of shares is worth
is learned from what came (`worth` float32[BINS, 2]: share of hits, sightings up to MEMORY), so that
neither the model's nor retrieval's numbers need to be right.
"""

import math

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels import paths
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Float32Array, Int32Array, UInt32Array

UNKNOWN, ABSENT, LISTED = 0, 1, 2
"""Of a tree that goes no further here; of one that goes on without this node; from here on its share."""
LEVELS = 12
LEVELS_PER_HALVING = 2
SHARES = LISTED + LEVELS
BINS = SHARES * SHARES
MEMORY = 400.0
"""Sightings after which a bin forgets as fast as it learns."""

row_t = types.Array(types.int32, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C")
pairs_t = types.Array(types.float32, 2, "C")
masks_t = types.Array(types.uint32, 1, "C")


@leaf(int64(float64))
def share_level(share: float) -> int:
    """LISTED for a share of 1, one more per half of a power of two below."""
    if share <= 0.0:
        return LISTED + LEVELS - 1
    return LISTED + min(LEVELS - 1, max(0, int(-math.log2(share) * LEVELS_PER_HALVING)))


@leaf(
    int64(
        row_t,
        row_t,
        floats_t,
        masks_t,
        int64,
        int64,
        int64,
        int64,
        row_t,
        row_t,
        pairs_t,
        masks_t,
        row_t,
    )
)
def add_tree(
    new_token: Int32Array,
    new_parent: Int32Array,
    new_probability: Float32Array,
    new_source: UInt32Array,
    first: int,
    stop: int,
    which: int,
    n: int,
    token: Int32Array,
    parent: Int32Array,
    share: Float32Array,
    source: UInt32Array,
    place: Int32Array,
) -> int:
    """Add nodes first..stop-1, whose parents count from `first`, to a tree of n nodes; its new size.

    By longest prefixes. share[u + 1, which] becomes node u's share of its parent in this tree, and
    place[i] the node that i has become.
    """
    for i in range(first, stop):
        own = new_parent[i]
        above = place[first + own] if own >= 0 else -1
        before = new_probability[first + own] if own >= 0 else np.float32(1.0)
        at = above + 1
        while at < n and not (parent[at] == above and token[at] == new_token[i]):
            at += 1
        if at == n:
            token[n] = new_token[i]
            parent[n] = above
            share[n + 1, 0] = share[n + 1, 1] = 0.0
            source[n] = 0
            n += 1
        source[at] |= new_source[i]
        # Listed at all: never 0, which says that it is not.
        share[at + 1, which] = min(
            np.float32(1.0),
            max(np.float32(1e-6), new_probability[i] / max(before, np.float32(1e-30))),
        )
        place[i] = at
    return n


@njit(
    int64(
        row_t, row_t, floats_t, masks_t, int64, pairs_t, pairs_t, floats_t,
        row_t, row_t, floats_t, masks_t, row_t, row_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def unite(
    new_token: Int32Array,
    new_parent: Int32Array,
    new_probability: Float32Array,
    new_source: UInt32Array,
    split: int,
    worth: Float32Array,
    path_worth: Float32Array,
    path_scale: Float32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
    bins: Int32Array,
    path_bins: Int32Array,
) -> int:
    """The union of two trees, one behind the other from `split` on, with its path probabilities; its size.

    bins[i] becomes the pair of shares that node i has. Siblings sum to at most 1. O(nodes^2).
    """
    room = len(new_token)
    share = np.zeros((room + 1, 2), np.float32)
    place = np.empty(room, np.int32)
    n = 0
    for which in range(2):
        n = add_tree(
            new_token, new_parent, new_probability, new_source,
            split if which else 0, room if which else split, which,
            n, token, parent, share, source, place,
        )  # fmt: skip
    goes_on = np.zeros((n + 1, 2), np.bool_)
    total = np.zeros(n + 1, np.float64)
    for i in range(n):
        for which in range(2):
            goes_on[parent[i] + 1, which] |= share[i + 1, which] > 0.0
    for i in range(n):
        b = 0
        for which in range(2):
            said = share[i + 1, which]
            level = ABSENT if goes_on[parent[i] + 1, which] else UNKNOWN
            b = b * SHARES + (share_level(said) if said > 0.0 else level)
        bins[i] = b
        probability[i] = worth[b, 0]
        total[parent[i] + 1] += worth[b, 0]
    for i in range(n):
        above = probability[parent[i]] if parent[i] >= 0 else np.float32(1.0)
        probability[i] *= above / max(1.0, total[parent[i] + 1])
    paths.map_paths(parent, probability, n, path_worth, path_scale, path_bins)
    return n


@njit(
    int64(row_t, row_t, floats_t, int64, int64, int64, int64, float64, read_row_t, row_t),
    nogil=True,
    cache=True,
)
def pick(
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    size: int,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    floor: float,
    end_tokens: Int32Array,
    picked: Int32Array,
) -> int:
    """The most probable nodes within the limits, most probable first and parents before children; how many.

    Nothing follows an end token. O(nodes_max x size).
    """
    # By node + 1: how deep it stands, -1 where it is not taken, and how many of its children are.
    depth = np.full(size + 1, -1, np.int64)
    children = np.zeros(size + 1, np.int64)
    depth[0] = 0
    count = 0
    while count < nodes_max:
        best = -1
        for i in range(size):
            above = parent[i] + 1
            if depth[i + 1] >= 0 or not 0 <= depth[above] < depth_max:
                continue
            if children[above] < children_max and (best < 0 or probability[i] > probability[best]):
                best = i
        if best < 0 or probability[best] < floor:
            break
        picked[count] = best
        count += 1
        children[parent[best] + 1] += 1
        depth[best + 1] = depth[parent[best] + 1] + 1
        for end in end_tokens:
            if token[best] == end:
                children[best + 1] = children_max
    return count


@njit(types.void(row_t, row_t, row_t, read_row_t, pairs_t), nogil=True, cache=True)
def teach_fused(
    token: Int32Array,
    parent: Int32Array,
    bins: Int32Array,
    committed: Int32Array,
    worth: Float32Array,
) -> None:
    """Count a sighting of every node whose parent was reached, a hit for the one that came. O(nodes)."""
    node = -1
    for came in committed:
        reached = -1
        for i in range(node + 1, len(token)):
            if parent[i] != node:
                continue
            b = bins[i]
            seen = min(np.float32(MEMORY), worth[b, 1] + np.float32(1.0))
            hit = np.float32(1.0) if token[i] == came else np.float32(0.0)
            worth[b, 0] += (hit - worth[b, 0]) / (seen + np.float32(0.5))
            worth[b, 1] = seen
            if token[i] == came:
                reached = i
        if reached < 0:
            return
        node = reached
