"""Counts what a verified tree brought, per source bit, per depth and per match length."""

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels.evidence import GAP, LENGTH
from retrieval_draft.tree import Float32Array, Int32Array, UInt32Array

row_t = types.Array(types.int32, 1, "C", readonly=True)
masks_t = types.Array(types.uint32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C", readonly=True)
counts_t = types.Array(types.int64, 2, "C")
places_t = types.Array(types.int32, 2, "C")

STEPS, HITS, DRAFTED, ACCEPTED = 0, 1, 2, 3
COLUMNS = 4
BITS = 32
MATCH_LENGTHS = np.array([0, 3, 4, 6, 8, 12, 16, 24, 32], np.int64)
"""Rows by match length: each counts from here up to the next. Shorter than 3 tokens is none, 0."""


@njit(int64(places_t, int64), nogil=True, cache=True)
def longest(places: Int32Array, count: int) -> int:
    """The longest uninterrupted agreement among a root's first `count` places; 0 without any."""
    length = 0
    for i in range(count):
        if places[i, GAP] == 0:
            length = max(length, places[i, LENGTH])
    return length


@njit(
    float64(row_t, masks_t, floats_t, row_t, int64, counts_t, counts_t, counts_t),
    nogil=True,
    cache=True,
)
def tally(
    parent: Int32Array,
    source: UInt32Array,
    probability: Float32Array,
    path: Int32Array,
    match_length: int,
    by_bit: np.ndarray,
    by_depth: np.ndarray,
    by_match: np.ndarray,
) -> float:
    """Add one tree whose nodes `path`, from the root down, were accepted; returns its summed probability.

    Rows of `by_bit` are source bits, of `by_depth` depths from 1, of `by_match` MATCH_LENGTHS; all
    int64[_, COLUMNS]. Deeper nodes than the table has rows count in its last. The whole tree counts at
    the match length where it was made.
    """
    n = len(parent)
    match = len(MATCH_LENGTHS) - 1
    while match > 0 and match_length < MATCH_LENGTHS[match]:
        match -= 1
    if n > 0:
        by_match[match, STEPS] += 1
        by_match[match, HITS] += min(1, len(path))
        by_match[match, DRAFTED] += n
        by_match[match, ACCEPTED] += len(path)
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
