"""Logistic mixing of a candidate's inputs, and teaching from the token that came.

stretch[b] is the logit of what bin b has been worth, worth[b] that share of hits and its sightings.
Weights are the sum of three sets: one for all nodes, one chosen by the longest agreement, one by the
orders that know the node. The last weight of a set is the bias.
"""

import math

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels.evidence import (
    ABSENT,
    BLEND,
    BLENDED,
    CANDIDATES,
    COMMON,
    CONTEXT_ORDERS,
    COUNTS,
    INPUTS,
    ITEM_BIN,
    ITEM_CANDIDATE,
    ITEM_INPUT,
    ITEMS,
    LEARNED_ORDERS,
    LENGTH_CLASSES,
    LISTED,
    LONGEST,
    SCOPES,
    TOKEN,
    length_class,
)
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import Float32Array, Float64Array, Int32Array

KNOWN = ORDER_COUNT + 1
SETS = 1 + 1 + LENGTH_CLASSES + KNOWN * KNOWN
WEIGHTS = INPUTS + 1
BIAS_INPUT = 0.3
LIMIT = 0.001
MEMORY = 400.0
RATE = 0.0025
TAUGHT_FROM = -5.0
"""Candidates whose logit is below are not worth teaching, unless they came."""
SQUASH_STEPS, SQUASH_RANGE = 4096, 12.0


def _squash() -> Float64Array:
    x = (np.arange(SQUASH_STEPS) + 0.5) / SQUASH_STEPS * 2 * SQUASH_RANGE - SQUASH_RANGE
    return 1 / (1 + np.exp(-x))


def _stretch() -> Float32Array:
    p = np.clip((np.arange(SQUASH_STEPS) + 0.5) / SQUASH_STEPS, LIMIT, 1 - LIMIT)
    return np.log(p / (1 - p)).astype(np.float32)


SQUASH = _squash()
STRETCH = _stretch()

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
floats_t = types.Array(types.float32, 1, "C")
float_table_t = types.Array(types.float32, 2, "C")
doubles_t = types.Array(types.float64, 1, "C")


@njit(float64(float64), nogil=True, cache=True, _nrt=False)
def squash(x: float) -> float:
    """The logistic function, from a table."""
    at = int64((x + SQUASH_RANGE) * (SQUASH_STEPS / (2 * SQUASH_RANGE)))
    return SQUASH[min(SQUASH_STEPS - 1, max(0, at))]


@njit(types.void(table_t, row_t), nogil=True, cache=True, _nrt=False)
def choose_sets(found: Int32Array, sets: Int32Array) -> None:
    """The three sets of weights for a node."""
    length = 0
    for scope in range(SCOPES):
        length = max(length, found[COUNTS, LONGEST + scope])
    sets[0] = 0
    sets[1] = 1 if length == 0 else 2 + length_class(length)
    known = found[COUNTS, CONTEXT_ORDERS] * KNOWN + found[COUNTS, LEARNED_ORDERS]
    sets[2] = 2 + LENGTH_CLASSES + known


@njit(
    types.void(table_t, floats_t, float_table_t, row_t, doubles_t, doubles_t),
    nogil=True,
    _nrt=False,
    cache=True,
)
def mix(
    found: Int32Array,
    stretch: Float32Array,
    weights: Float32Array,
    sets: Int32Array,
    w: Float64Array,
    logit: Float64Array,
) -> None:
    """logit[c] of every candidate being the next token; `sets` and `w` say with which weights."""
    choose_sets(found, sets)
    base = 0.0
    for k in range(WEIGHTS):
        w[k] = float64(weights[sets[0], k]) + weights[sets[1], k] + weights[sets[2], k]
    base = w[INPUTS] * BIAS_INPUT
    for k in range(INPUTS):
        if found[ABSENT, k] >= 0:
            base += w[k] * stretch[found[ABSENT, k]]
    for c in range(found[COUNTS, CANDIDATES]):
        logit[c] = (
            base
            + w[BLEND] * stretch[found[BLENDED, c]]
            + w[BLEND + 1] * stretch[found[BLENDED + 1, c]]
        )
    for e in range(found[COUNTS, ITEMS]):
        k = found[ITEM_INPUT, e]
        x = w[k] * stretch[found[ITEM_BIN, e]]
        if found[ABSENT, k] >= 0:
            x -= w[k] * stretch[found[ABSENT, k]]
        logit[found[ITEM_CANDIDATE, e]] += x


@njit(
    types.void(int64, int64, float64, floats_t, float_table_t, float_table_t, row_t),
    nogil=True,
    _nrt=False,
    cache=True,
)
def teach_bin(
    k: int,
    b: int,
    error: float,
    stretch: Float32Array,
    worth: Float32Array,
    weights: Float32Array,
    sets: Int32Array,
) -> None:
    """One input's weights, by the gradient of the coding cost."""
    step = RATE * error * stretch[b]
    weights[sets[0], k] += step
    weights[sets[1], k] += step
    weights[sets[2], k] += step


@njit(types.void(int64, float64, floats_t, float_table_t), nogil=True, cache=True, _nrt=False)
def count_bin(b: int, hit: float, stretch: Float32Array, worth: Float32Array) -> None:
    """One more sighting of a bin: the mean of its hits, over at most MEMORY of them."""
    worth[b, 1] = min(MEMORY, worth[b, 1] + 1.0)
    worth[b, 0] += (hit - worth[b, 0]) / (worth[b, 1] + 0.5)
    stretch[b] = STRETCH[min(SQUASH_STEPS - 1, int64(worth[b, 0] * SQUASH_STEPS))]


@njit(
    types.void(int64, table_t, floats_t, float_table_t, float_table_t, row_t, doubles_t, doubles_t),
    nogil=True,
    _nrt=False,
    cache=True,
)
def teach(
    came: int,
    found: Int32Array,
    stretch: Float32Array,
    worth: Float32Array,
    weights: Float32Array,
    sets: Int32Array,
    w: Float64Array,
    logit: Float64Array,
) -> None:
    """`came` was the token: bins and weights learn of every candidate that could have been drafted."""
    mix(found, stretch, weights, sets, w, logit)
    # From here on logit[c] is the error, or NaN for candidates that are not taught.
    for c in range(found[COUNTS, CANDIDATES]):
        hit = found[TOKEN, c] == came
        if hit or logit[c] > TAUGHT_FROM:
            error = (1.0 if hit else 0.0) - squash(logit[c])
            logit[c] = error
            step = RATE * error * BIAS_INPUT
            for j in range(3):
                weights[sets[j], INPUTS] += step
            for j in range(2):
                teach_bin(
                    BLEND + j, found[BLENDED + j, c], error, stretch, worth, weights, sets
                )
            for k in range(INPUTS):
                if found[ABSENT, k] >= 0 and found[LISTED, c] >> k & 1 == 0:
                    teach_bin(k, found[ABSENT, k], error, stretch, worth, weights, sets)
        else:
            logit[c] = math.nan
    for e in range(found[COUNTS, ITEMS]):
        error = logit[found[ITEM_CANDIDATE, e]]
        if not math.isnan(error):
            teach_bin(
                found[ITEM_INPUT, e], found[ITEM_BIN, e], error, stretch, worth, weights, sets
            )
    for c in range(found[COUNTS, CANDIDATES]):
        if not math.isnan(logit[c]):
            hit = 1.0 if found[TOKEN, c] == came else 0.0
            for j in range(2):
                count_bin(found[BLENDED + j, c], hit, stretch, worth)
            for k in range(INPUTS):
                if found[ABSENT, k] >= 0 and found[LISTED, c] >> k & 1 == 0:
                    count_bin(found[ABSENT, k], hit, stretch, worth)
    for e in range(found[COUNTS, ITEMS]):
        c = found[ITEM_CANDIDATE, e]
        if not math.isnan(logit[c]):
            hit = 1.0 if found[TOKEN, c] == came else 0.0
            count_bin(found[ITEM_BIN, e], hit, stretch, worth)


@njit(int64(table_t, int64), nogil=True, cache=True, _nrt=False)
def is_listed(found: Int32Array, token: int) -> int:
    """Whether any source but the common tokens lists `token`."""
    for c in range(found[COUNTS, CANDIDATES]):
        if found[TOKEN, c] == token:
            return 1 if found[LISTED, c] & ~(1 << COMMON) else 0
    return 0


@njit(types.void(table_t, int64), nogil=True, cache=True, _nrt=False)
def count_common(common: Int32Array, token: int) -> None:
    """Count a token that nobody listed: `common` int32[2, kept + 1] stays sorted by count, the total last.

    A full list gives its least counted place away and passes the count on (Space-Saving).
    """
    kept = common.shape[1] - 1
    common[1, kept] += 1
    at = 0
    while at < kept - 1 and common[0, at] >= 0 and common[0, at] != token:
        at += 1
    if common[0, at] != token:
        common[0, at] = token
    common[1, at] += 1
    while at > 0 and common[1, at - 1] < common[1, at]:
        for k in range(2):
            common[k, at - 1], common[k, at] = common[k, at], common[k, at - 1]
        at -= 1
    if common[1, kept] >= 4096:
        for i in range(kept + 1):
            common[1, i] //= 2
