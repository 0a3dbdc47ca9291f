"""The inputs of the mixer, and into which bin each of them puts a candidate.

Inputs: match per scope, gap per scope, the orders of the context, those of the learned tier, the blend
by agreement and by match, the recycling matrix, STAND's table, common tokens. Every input has bins of
its own from OFFSETS[input] on; what a bin has been worth is learned (`mixing`).
"""

import numpy as np
from numba import float64, int64

from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import Int32Array

SCOPES = 3
CONTEXT, LEARNED, CORPUS = 0, 1, 2

MATCH, GAPPED, ORDER, BLEND = 0, SCOPES, 2 * SCOPES, 2 * SCOPES + 2 * ORDER_COUNT
RECYCLING, STAND, COMMON, INPUTS = BLEND + 2, BLEND + 3, BLEND + 4, BLEND + 5

LENGTH_CLASSES, RANKS, SHARES = 15, 3, 5
MATCH_BINS = LENGTH_CLASSES * RANKS * SHARES
GAPS, GAP_LENGTHS = 4, 8
GAP_BINS = GAPS * GAP_LENGTHS
ORDER_SHARES, TOTALS = 10, 6
ORDER_ABSENT = ORDER_SHARES * TOTALS * 2
ORDER_BINS = ORDER_ABSENT + TOTALS
BLEND_LEVELS, BLEND_CLASSES = 24, 16
BLEND_BINS = BLEND_LEVELS * BLEND_CLASSES
SUCCESSORS, LOGPROBS = 8, 9
RECYCLING_BINS = SUCCESSORS * LOGPROBS
STAND_LEVELS, STAND_ORDERS, STAND_VISITS = 16, 4, 3
STAND_ABSENT = STAND_LEVELS * STAND_ORDERS * STAND_VISITS
STAND_BINS = STAND_ABSENT + STAND_ORDERS * STAND_VISITS
COMMON_KEPT, COMMON_ASKED, ESCAPES = 96, 24, 6
COMMON_BINS = COMMON_ASKED * ESCAPES


def _offsets() -> Int32Array:
    sizes = [MATCH_BINS] * SCOPES + [GAP_BINS] * SCOPES + [ORDER_BINS] * (2 * ORDER_COUNT)
    sizes += [BLEND_BINS] * 2 + [RECYCLING_BINS, STAND_BINS, COMMON_BINS]
    return np.cumsum([0, *sizes]).astype(np.int32)


def _blend_levels() -> Int32Array:
    p = (np.arange(4097) + 0.5) / 4097
    steps = (np.log(p / (1 - p)) + 7) * (BLEND_LEVELS / 14)
    return np.clip(steps, 0, BLEND_LEVELS - 1).astype(np.int32)


# Arrays, for kernels index them: a tuple would be copied each time.
OFFSETS = _offsets()
BINS = int(OFFSETS[-1])
BLEND_LEVEL_OF = _blend_levels()
"""The step of a blend's logit, by its probability in 1/4096."""
BLEND_ROUNDING = 1e-6
"""In 1/4096: more than what is lost by rounding, less than what is between two blends."""


@leaf(int64(int64))
def length_class(length: int) -> int:
    """0 to 14 for agreements of 1 to 64 and more."""
    if length <= 8:
        return max(0, length - 1)
    if length <= 16:
        return 8 + (length - 9) // 4
    if length <= 32:
        return 10 + (length - 17) // 8
    return 12 if length <= 48 else (13 if length < 64 else 14)


@leaf(int64(int64))
def total_class(sightings: int) -> int:
    """0 to 5 for 1, 2, 3-4, 5-8, 9-16 and more sightings."""
    if sightings <= 2:
        return max(0, sightings - 1)
    if sightings <= 4:
        return 2
    if sightings <= 8:
        return 3
    return 4 if sightings <= 16 else 5


@leaf(int64(int64))
def agreement_class(length: int) -> int:
    """0 to 3 for no match and those of up to 6, 15 and more tokens."""
    if length == 0:
        return 0
    if length <= 6:
        return 1
    return 2 if length <= 15 else 3


@leaf(int64(float64))
def blend_level(p: float) -> int:
    """The step of a blend's logit; torn reads may have brought it out of 0 to 1.

    Halves and quarters stand on the edge of two: the order of a sum's terms does not decide for them.
    """
    return int(BLEND_LEVEL_OF[min(4096, max(0, int(p * 4096.0 + BLEND_ROUNDING)))])


@leaf(int64(int64, int64, int64))
def stand_bin(share: int, order: int, visits: int) -> int:
    """Of a token with probability share / 65535 (0: not listed) after a known n-gram of `order` 1 to 4."""
    seen = 0 if visits <= 1 else (1 if visits <= 4 else 2)
    node = (order - 1) * STAND_VISITS + seen
    if share <= 0:
        return STAND_ABSENT + node
    level = min(STAND_LEVELS - 1, int(-2.0 * np.log2(share / 65535.0)))
    return max(0, level) * STAND_ORDERS * STAND_VISITS + node
