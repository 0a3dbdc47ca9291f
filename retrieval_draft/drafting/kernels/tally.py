"""Counts what a verified tree brought, per source bit and per depth."""

import numpy as np
from numba import float64, njit, types

from retrieval_draft.tree import Float32Array, Int32Array, UInt32Array

row_t = types.Array(types.int32, 1, "C", readonly=True)
masks_t = types.Array(types.uint32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C", readonly=True)
counts_t = types.Array(types.int64, 2, "C")

STEPS, HITS, DRAFTED, ACCEPTED = 0, 1, 2, 3
COLUMNS = 4
BITS = 32


@njit(float64(row_t, masks_t, floats_t, row_t, counts_t, counts_t), nogil=True, cache=True)
def tally(
    parent: Int32Array,
    source: UInt32Array,
    probability: Float32Array,
    path: Int32Array,
    by_bit: np.ndarray,
    by_depth: np.ndarray,
) -> float:
    """Add one tree whose nodes `path`, from the root down, were accepted; returns its summed probability.

    Rows of `by_bit` are source bits, of `by_depth` depths from 1; both int64[_, COLUMNS]. Deeper nodes
    than the table has rows count in its last.
    """
    n = len(parent)
    depth = np.empty(n, np.int64)
    seen = np.uint32(0)
    hit = np.uint32(0)
    for i in range(n):
        depth[i] = 1 if parent[i] < 0 else depth[parent[i]] + 1
        row = min(depth[i], len(by_depth) - 1)
        by_depth[row, DRAFTED] += 1
        seen |= source[i]
        for bit in range(BITS):
            if source[i] >> np.uint32(bit) & np.uint32(1):
                by_bit[bit, DRAFTED] += 1
    expected = 0.0
    deepest = 0
    for i in range(n):
        deepest = max(deepest, depth[i])
        expected += probability[i]
    for row in range(1, min(deepest, len(by_depth) - 1) + 1):
        by_depth[row, STEPS] += 1
    for row in range(1, min(len(path), len(by_depth) - 1) + 1):
        by_depth[row, HITS] += 1
    for node in path:
        hit |= source[node]
        row = min(depth[node], len(by_depth) - 1)
        by_depth[row, ACCEPTED] += 1
        for bit in range(BITS):
            if source[node] >> np.uint32(bit) & np.uint32(1):
                by_bit[bit, ACCEPTED] += 1
    for bit in range(BITS):
        if seen >> np.uint32(bit) & np.uint32(1):
            by_bit[bit, STEPS] += 1
        if hit >> np.uint32(bit) & np.uint32(1):
            by_bit[bit, HITS] += 1
    return expected
