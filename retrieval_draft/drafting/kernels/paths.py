"""The path map: what a path probability has been worth, by depth.

Best-first growth picks what was overestimated, so the product of conditional probabilities is too high
over a whole tree although each is right on average. The map learns from every drafted node, whether or
not its parent was reached. `worth` holds float32[2, DEPTHS * LEVELS]: hits and trials, decayed by count.
"""

import math

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.tree import Float32Array, Int32Array

row_t = types.Array(types.int32, 1, "C")
floats_t = types.Array(types.float32, 1, "C")
counts_t = types.Array(types.float32, 2, "C")

DEPTHS = 6
LEVELS = 24
LEVELS_PER_HALVING = 2
TRIALS_MAX = 2048.0


@njit(int64(int64, float64), nogil=True, cache=True)
def path_bin(depth: int, probability: float) -> int:
    """The bin of a node at this depth (1 = root's child); levels are halves of a power of two."""
    if depth <= 3:
        row = depth - 1
    elif depth <= 5:
        row = 3
    else:
        row = 4 if depth <= 9 else 5
    level = LEVELS - 1
    if probability > 0.0:
        level = min(LEVELS - 1, int(-math.log2(probability) * LEVELS_PER_HALVING))
    return row * LEVELS + max(0, level)


@njit(types.void(row_t, floats_t, counts_t, row_t, floats_t), nogil=True, cache=True)
def map_paths(
    parent: Int32Array,
    probability: Float32Array,
    worth: Float32Array,
    bins: Int32Array,
    mapped: Float32Array,
) -> None:
    """mapped[i] is what node i's path has been worth, never above its parent's; bins[i] where it stands."""
    n = len(parent)
    depth = np.empty(n, np.int64)
    for i in range(n):
        above = parent[i]
        depth[i] = 1 if above < 0 else depth[above] + 1
        b = path_bin(depth[i], probability[i])
        bins[i] = b
        p = worth[0, b] / worth[1, b]
        mapped[i] = p if above < 0 else min(p, mapped[above])


@njit(types.void(row_t, row_t, row_t, row_t, counts_t), nogil=True, cache=True)
def teach_paths(
    token: Int32Array,
    parent: Int32Array,
    bins: Int32Array,
    committed: Int32Array,
    worth: Float32Array,
) -> None:
    """Count a trial for every node no deeper than `committed` tells, a hit for those on its path."""
    n = len(token)
    depth = np.empty(n, np.int64)
    kept = np.zeros(n, np.bool_)
    unknown = np.zeros(n, np.bool_)
    for i in range(n):
        above = parent[i]
        depth[i] = 0 if above < 0 else depth[above] + 1
        reached = above < 0 or kept[above]
        told = depth[i] < len(committed)
        if (reached and not told) or (above >= 0 and unknown[above]):
            # The path led here and the tokens end: nobody knows whether it would have gone on.
            unknown[i] = True
            continue
        kept[i] = reached and token[i] == committed[depth[i]]
        b = bins[i]
        worth[1, b] += 1.0
        if kept[i]:
            worth[0, b] += 1.0
        if worth[1, b] > TRIALS_MAX:
            worth[0, b] *= 0.5
            worth[1, b] *= 0.5
