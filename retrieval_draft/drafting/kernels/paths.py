"""The path map: what a path probability has been worth, by depth.

Best-first growth picks what was overestimated, so the product of conditional probabilities is too high
over a whole tree although each is right on average. The map learns from every drafted node, whether or
not its parent was reached: `worth` float32[2, DEPTHS * LEVELS] holds hits and trials, decayed by count.
A store that warms up makes every mean late; so `scale` float32[DEPTHS] follows the difference between
what was kept and what was promised, which keeps their sums together at every depth.
"""

import math

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import BoolArray, Float32Array, Float64Array, Int32Array

row_t = types.Array(types.int32, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C")
counts_t = types.Array(types.float32, 2, "C")
flags_t = types.Array(types.boolean, 1, "C")
doubles_t = types.Array(types.float64, 1, "C")

DEPTHS = 6
LEVELS = 24
LEVELS_PER_HALVING = 2
BINS = DEPTHS * LEVELS
TRIALS_MAX = 2048.0
SCALE_RATE = 0.005
"""Log of `scale` per token kept beyond what was promised."""
SCALE_MAX = 4.0


@leaf(int64(int64))
def depth_class(depth: int) -> int:
    """0 to 5 for depths 1, 2, 3, 4-5, 6-9 and more."""
    if depth <= 3:
        return depth - 1
    if depth <= 5:
        return 3
    return 4 if depth <= 9 else 5


@leaf(int64(int64, float64))
def path_bin(depth: int, probability: float) -> int:
    """The bin of a node at this depth (1 = root's child); levels are halves of a power of two."""
    level = LEVELS - 1
    if probability > 0.0:
        level = min(LEVELS - 1, int(-math.log2(probability) * LEVELS_PER_HALVING))
    return depth_class(depth) * LEVELS + max(0, level)


@leaf(types.void(row_t, floats_t, int64, counts_t, floats_t, row_t))
def map_paths(
    parent: Int32Array,
    probability: Float32Array,
    size: int,
    worth: Float32Array,
    scale: Float32Array,
    bins: Int32Array,
) -> None:
    """probability[:size] becomes what such paths have been worth, never above the parent's.

    bins[i] becomes depth * BINS + the bin where node i stands. O(size).
    """
    for i in range(size):
        depth = 1 if parent[i] < 0 else int(bins[parent[i]]) // BINS + 1
        b = path_bin(depth, probability[i])
        bins[i] = depth * BINS + b
        above = 1.0 if parent[i] < 0 else probability[parent[i]]
        p = worth[0, b] / worth[1, b] * scale[depth_class(depth)]
        probability[i] = min(p, above)


@leaf(
    types.void(
        row_t, row_t, floats_t, row_t, read_row_t, counts_t, floats_t, flags_t, flags_t, doubles_t
    )
)  # fmt: skip
def teach_within(
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    bins: Int32Array,
    committed: Int32Array,
    worth: Float32Array,
    scale: Float32Array,
    kept: BoolArray,
    unknown: BoolArray,
    surplus: Float64Array,
) -> None:
    """`teach_paths` within given working arrays, of as many entries as nodes, and DEPTHS."""
    for d in range(DEPTHS):
        surplus[d] = 0.0
    for i in range(len(token)):
        above = parent[i]
        depth = bins[i] // BINS
        reached = above < 0 or kept[above]
        kept[i] = False
        unknown[i] = (reached and depth > len(committed)) or (above >= 0 and unknown[above])
        if unknown[i]:
            continue
        kept[i] = reached and token[i] == committed[depth - 1]
        hit = 1.0 if kept[i] else 0.0
        b = bins[i] % BINS
        worth[0, b] += hit
        worth[1, b] += 1.0
        if worth[1, b] > TRIALS_MAX:
            worth[0, b] *= 0.5
            worth[1, b] *= 0.5
        surplus[depth_class(depth)] += hit - probability[i]
    for d in range(DEPTHS):
        if surplus[d] != 0.0:
            changed = scale[d] * math.exp(SCALE_RATE * surplus[d])
            scale[d] = min(SCALE_MAX, max(1.0 / SCALE_MAX, changed))


@njit(
    types.void(row_t, row_t, floats_t, row_t, read_row_t, counts_t, floats_t),
    nogil=True,
    cache=True,
)
def teach_paths(
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    bins: Int32Array,
    committed: Int32Array,
    worth: Float32Array,
    scale: Float32Array,
) -> None:
    """Count a trial for every node no deeper than `committed` tells, a hit for those on its path.

    `probability` is the mapped one. Where the path led to the end of what was committed nobody knows
    whether it would have gone on: these nodes count for nothing.
    """
    n = len(token)
    teach_within(
        token, parent, probability, bins, committed, worth, scale,
        np.empty(n, np.bool_), np.empty(n, np.bool_), np.empty(DEPTHS, np.float64),
    )  # fmt: skip
