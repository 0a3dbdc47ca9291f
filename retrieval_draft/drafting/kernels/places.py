"""Kernels over places: rows of tokens that followed contexts which agree with the present one.

windows[i, d] is the d-th token after place i (-1: ended), lengths[i] its agreement. Ordered by their
windows, the rows below any tree node form one contiguous slice, so that a node is (low, high, depth).
"""

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.tree import Float32Array, Int32Array

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
floats_t = types.Array(types.float32, 1, "C")


@njit(types.void(table_t, int64, int64, row_t), nogil=True, cache=True)
def sort_rows(windows: Int32Array, first: int, count: int, order: Int32Array) -> None:
    """order[0:count] becomes first..first+count-1 in the lexicographic order of their windows."""
    depth = windows.shape[1]
    for i in range(count):
        row = first + i
        at = i
        while at > 0:
            other = order[at - 1]
            below = False
            for d in range(depth):
                if windows[row, d] != windows[other, d]:
                    below = windows[row, d] < windows[other, d]
                    break
            if not below:
                break
            order[at] = other
            at -= 1
        order[at] = row


@njit(
    float64(
        table_t, row_t, int64, int64, int64, int64, float64, row_t, row_t, row_t, floats_t, row_t
    ),
    nogil=True,
    cache=True,
)
def grow_tree(
    windows: Int32Array,
    rows: Int32Array,
    count: int,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    probability_min: float,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    size: Int32Array,
) -> float:
    """Best-first tree whose node probabilities are shares of the sorted `rows` that pass through them.

    Writes size[0] nodes and returns their summed probability (SuffixDecoding's score).
    """
    room = count * 2 + 2
    f_share = np.empty(room, np.float64)
    f_low = np.empty(room, np.int64)
    f_high = np.empty(room, np.int64)
    f_depth = np.empty(room, np.int64)
    f_parent = np.empty(room, np.int64)
    children = np.zeros(nodes_max + 1, np.int64)
    waiting = 0
    n = 0
    score = 0.0
    low, high, depth, above, share = 0, count, 0, -1, 1.0
    while True:
        # Push the children of the node just taken (the root at first).
        if depth < depth_max and depth < windows.shape[1]:
            start = low
            while start < high:
                child = windows[rows[start], depth]
                stop = start + 1
                while stop < high and windows[rows[stop], depth] == child:
                    stop += 1
                part = share * (stop - start) / (high - low)
                if child >= 0 and part >= probability_min and waiting < room:
                    f_share[waiting] = part
                    f_low[waiting] = start
                    f_high[waiting] = stop
                    f_depth[waiting] = depth
                    f_parent[waiting] = above
                    waiting += 1
                start = stop
        best = -1
        while waiting > 0:
            best = 0
            for i in range(1, waiting):
                if f_share[i] > f_share[best]:
                    best = i
            if children[f_parent[best] + 1] < children_max:
                break
            waiting -= 1
            f_share[best] = f_share[waiting]
            f_low[best] = f_low[waiting]
            f_high[best] = f_high[waiting]
            f_depth[best] = f_depth[waiting]
            f_parent[best] = f_parent[waiting]
            best = -1
        if best < 0 or n == nodes_max:
            break
        low, high, share = f_low[best], f_high[best], f_share[best]
        depth = f_depth[best]
        token[n] = windows[rows[low], depth]
        parent[n] = f_parent[best]
        probability[n] = share
        score += share
        children[f_parent[best] + 1] += 1
        waiting -= 1
        f_share[best] = f_share[waiting]
        f_low[best] = f_low[waiting]
        f_high[best] = f_high[waiting]
        f_depth[best] = f_depth[waiting]
        f_parent[best] = f_parent[waiting]
        above = n
        n += 1
        depth += 1
        for end in end_tokens:
            if token[above] == end:
                depth = depth_max
    size[0] = n
    return score


@njit(
    float64(table_t, row_t, int64, int64, int64, float64, row_t, row_t, row_t, floats_t, row_t),
    nogil=True,
    cache=True,
)
def grow_path(
    windows: Int32Array,
    rows: Int32Array,
    count: int,
    nodes_max: int,
    depth_max: int,
    probability_min: float,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    size: Int32Array,
) -> float:
    """The chain that follows the most frequent continuation; otherwise as `grow_tree`."""
    n = 0
    score = 0.0
    share = 1.0
    low, high = 0, count
    while n < min(nodes_max, depth_max, windows.shape[1]):
        best_low, best_high = -1, -1
        start = low
        while start < high:
            child = windows[rows[start], n]
            stop = start + 1
            while stop < high and windows[rows[stop], n] == child:
                stop += 1
            if child >= 0 and stop - start > best_high - best_low:
                best_low, best_high = start, stop
            start = stop
        if best_low < 0:
            break
        share *= (best_high - best_low) / (high - low)
        if share < probability_min:
            break
        token[n] = windows[rows[best_low], n]
        parent[n] = n - 1
        probability[n] = share
        score += share
        low, high = best_low, best_high
        n += 1
        ended = False
        for end in end_tokens:
            ended = ended or token[n - 1] == end
        if ended:
            break
    size[0] = n
    return score
