"""The most frequent prefixes among the continuations of an exact match in a segment (REST)."""

import numpy as np
from numba import int64, njit, types

from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.segment import INDEXES, Index, code_at
from retrieval_draft.tree import Int32Array

row_t = types.Array(types.int32, 1, "C")
read_t = types.Array(types.int32, 1, "C", readonly=True)


@leaf(*[int64(index, int64, int64) for index in INDEXES])
def code_behind(index: Index, rank: int, distance: int) -> int:
    """The code so far behind the beginning of the suffix of this rank; 0 where a document ends."""
    return code_at(index, int64(index.order[rank]) + distance)


@leaf(*[int64(index, int64, int64, int64, int64, int64) for index in INDEXES])
def run_stop(
    index: Index,
    low: int,
    step: int,
    distance: int,
    start: int,
    stop: int,
) -> int:
    """The first sample after `start`, up to `stop`, whose code at `distance` differs; O(log run).

    Sample i stands at rank low + i * step. Ranks are sorted by what follows the match.
    """
    child = code_behind(index, low + start * step, distance)
    reach = 1
    while start + reach < stop and (
        code_behind(index, low + (start + reach) * step, distance) == child
    ):
        reach *= 2
    good, bad = start + reach // 2, min(stop, start + reach)
    while bad - good > 1:
        middle = (good + bad) // 2
        if code_behind(index, low + middle * step, distance) == child:
            good = middle
        else:
            bad = middle
    return bad


@njit(
    [
        int64(index, int64, int64, int64, int64, int64, int64, int64, read_t, row_t, row_t, row_t)
        for index in INDEXES
    ],
    nogil=True,
    cache=True,
)
def grow_prefixes(
    index: Index,
    low: int,
    high: int,
    skip: int,
    samples_max: int,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    count: Int32Array,
) -> int:
    """The trie of the `nodes_max` most frequent prefixes that follow ranks low..high-1, best first.

    Of many occurrences an even sample of at most `samples_max` is counted. A prefix occurs at least as
    often as what extends it, so that taking the most frequent one each time finds the top; of equals the
    one met first. Returns the size; count[i] is how many samples pass through node i.
    """
    step = max(1, (high - low + samples_max - 1) // samples_max)
    samples = (high - low + step - 1) // step
    f_count = np.empty(nodes_max, np.int64)
    f_start = np.empty(nodes_max, np.int64)
    f_depth = np.empty(nodes_max, np.int64)
    f_parent = np.empty(nodes_max, np.int64)
    waiting = 0
    n = 0
    start, stop, depth, above = 0, samples, 0, -1
    while n < nodes_max:
        mine = 0
        while depth < depth_max and start < stop:
            over = run_stop(index, low, step, skip + depth, start, stop)
            if code_behind(index, low + start * step, skip + depth) > 0:
                if mine == children_max or waiting == nodes_max:
                    # The rarest gives way, the newest of equals: it would not be taken.
                    out = -1
                    for i in range(waiting):
                        may_go = mine < children_max or f_parent[i] == above
                        if may_go and (out < 0 or f_count[i] <= f_count[out]):
                            out = i
                    if f_count[out] >= over - start:
                        start = over
                        continue
                    mine -= f_parent[out] == above
                    waiting -= 1
                    # The others stay in the order in which they were met.
                    for i in range(out, waiting):
                        f_count[i], f_start[i] = f_count[i + 1], f_start[i + 1]
                        f_depth[i], f_parent[i] = f_depth[i + 1], f_parent[i + 1]
                f_count[waiting] = over - start
                f_start[waiting] = start
                f_depth[waiting] = depth
                f_parent[waiting] = above
                waiting += 1
                mine += 1
            start = over
        if waiting == 0:
            return n
        best = 0
        for i in range(1, waiting):
            if f_count[i] > f_count[best]:
                best = i
        start, stop = f_start[best], f_start[best] + f_count[best]
        depth, above = f_depth[best], f_parent[best]
        waiting -= 1
        for i in range(best, waiting):
            f_count[i], f_start[i] = f_count[i + 1], f_start[i + 1]
            f_depth[i], f_parent[i] = f_depth[i + 1], f_parent[i + 1]
        token[n] = index.vocabulary[code_behind(index, low + start * step, skip + depth) - 1]
        parent[n] = above
        count[n] = stop - start
        depth += 1
        for end in end_tokens:
            if token[n] == end:
                depth = depth_max
        above = n
        n += 1
    return n
