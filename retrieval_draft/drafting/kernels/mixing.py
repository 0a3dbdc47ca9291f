"""Logistic mixing of a candidate's inputs, and teaching from the token that came.

Weights are the sum of three sets: one for all nodes, one chosen by the longest agreement, one by the
orders that know the node (sets of weights as in PAQ, Mahoney 2005, added instead of layered). The last
weight of a set is the bias.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import float64, int64, types

from retrieval_draft.drafting.kernels.bins import (
    BLEND,
    COMMON,
    INPUTS,
    LENGTH_CLASSES,
    SCOPES,
    length_class,
)
from retrieval_draft.drafting.kernels.evidence import (
    ABSENT,
    BLENDED,
    CANDIDATES,
    CONTEXT_ORDERS,
    COUNTS,
    ITEM_BIN,
    ITEM_CANDIDATE,
    ITEM_INPUT,
    ITEMS,
    LEARNED_ORDERS,
    LISTED,
    LONGEST,
    TOKEN,
    UNLISTED,
    Found,
    found_t,
)
from retrieval_draft.store.kernels.leaf import leaf, tuple_type
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import Float32Array, Float64Array, Int32Array

KNOWN = ORDER_COUNT + 1
SETS = 1 + 1 + LENGTH_CLASSES + KNOWN * KNOWN
SETS_USED = 3
WEIGHTS = INPUTS + 1
BIAS_INPUT = 0.3
LIMIT = 0.001
"""No bin is trusted nearer to 0 or 1 than this."""
MEMORY = 400.0
"""Sightings after which a bin forgets as fast as it learns."""
RATE = 0.0025
TAUGHT_FROM = -5.0
"""Candidates whose logit is below are not worth teaching, unless they came."""
COMMON_TOTAL_MAX = 4096
SQUASH_STEPS, SQUASH_RANGE = 4096, 12.0


def _squash() -> Float64Array:
    x = (np.arange(SQUASH_STEPS) + 0.5) / SQUASH_STEPS * 2 * SQUASH_RANGE - SQUASH_RANGE
    return 1 / (1 + np.exp(-x))


def stretch_of(p: Float32Array) -> Float32Array:
    """The logit of a probability, within LIMIT."""
    cut = np.clip(p, LIMIT, 1 - LIMIT)
    logit: Float32Array = np.log(cut / (1 - cut)).astype(np.float32)
    return logit


SQUASH = _squash()
STRETCH = stretch_of(((np.arange(SQUASH_STEPS) + 0.5) / SQUASH_STEPS).astype(np.float32))

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
floats_t = types.Array(types.float32, 1, "C")
float_table_t = types.Array(types.float32, 2, "C")
float_cube_t = types.Array(types.float32, 3, "C")
doubles_t = types.Array(types.float64, 1, "C")


class Skill(NamedTuple):
    """What has been learned of the inputs: worth float32[BINS, 2] (share of hits, sightings up to MEMORY),
    stretch float32[BINS] its logit, weights float32[SETS, WEIGHTS]."""

    worth: Float32Array
    stretch: Float32Array
    weights: Float32Array


class Chosen(NamedTuple):
    """A node's sets of weights int32[SETS_USED], and their sum float64[WEIGHTS]."""

    sets: Int32Array
    weight: Float64Array


skill_t = tuple_type([float_table_t, floats_t, float_table_t], Skill)
chosen_t = tuple_type([row_t, doubles_t], Chosen)


@leaf(float64(float64))
def squash(x: float) -> float:
    """The logistic function, from a table."""
    at = int((x + SQUASH_RANGE) * (SQUASH_STEPS / (2 * SQUASH_RANGE)))
    return float(SQUASH[min(SQUASH_STEPS - 1, max(0, at))])


@leaf(types.void(found_t, skill_t, chosen_t))
def choose(found: Found, skill: Skill, chosen: Chosen) -> None:
    """The weights of a node."""
    counts = found.rows[COUNTS]
    length = 0
    for scope in range(SCOPES):
        length = max(length, counts[LONGEST + scope])
    chosen.sets[0] = 0
    chosen.sets[1] = 1 if length == 0 else 2 + length_class(length)
    chosen.sets[2] = 2 + LENGTH_CLASSES + counts[CONTEXT_ORDERS] * KNOWN + counts[LEARNED_ORDERS]
    by_agreement, by_orders = chosen.sets[1], chosen.sets[2]
    for k in range(WEIGHTS):
        weight = float(skill.weights[0, k]) + skill.weights[by_agreement, k]
        chosen.weight[k] = weight + skill.weights[by_orders, k]


@leaf(types.void(found_t, skill_t, chosen_t))
def mix(found: Found, skill: Skill, chosen: Chosen) -> None:
    """found.logit[c] of every candidate being the next token."""
    choose(found, skill, chosen)
    rows = found.rows
    weight = chosen.weight
    stretch = skill.stretch
    base = weight[INPUTS] * BIAS_INPUT
    for k in range(INPUTS):
        if rows[ABSENT, k] >= 0:
            base += weight[k] * stretch[rows[ABSENT, k]]
    for c in range(rows[COUNTS, CANDIDATES]):
        x = weight[BLEND] * stretch[rows[BLENDED, c]]
        x += weight[BLEND + 1] * stretch[rows[BLENDED + 1, c]]
        found.logit[c] = base + x
    for e in range(rows[COUNTS, ITEMS]):
        k = rows[ITEM_INPUT, e]
        x = stretch[rows[ITEM_BIN, e]]
        if rows[ABSENT, k] >= 0:
            x -= stretch[rows[ABSENT, k]]
        found.logit[rows[ITEM_CANDIDATE, e]] += weight[k] * x


@leaf(types.void(skill_t, int64, float64, float64))
def count_bin(skill: Skill, b: int, hits: float, sightings: float) -> None:
    """So many more sightings of a bin, and how many of them were hits."""
    seen = min(MEMORY, skill.worth[b, 1] + sightings)
    worth = skill.worth[b, 0] + (hits - sightings * skill.worth[b, 0]) / (seen + 0.5)
    skill.worth[b, 1] = seen
    skill.worth[b, 0] = worth
    skill.stretch[b] = STRETCH[min(SQUASH_STEPS - 1, max(0, int(worth * SQUASH_STEPS)))]


@leaf(types.void(int64, found_t, skill_t, chosen_t))
def teach(came: int, found: Found, skill: Skill, chosen: Chosen) -> None:
    """`came` was the token: bins and weights learn of every candidate that could have been drafted.

    Weights follow the gradient of the coding cost. found.logit and chosen.weight are used up: they become
    every candidate's error (NaN: not taught) and every weight's gradient.
    """
    mix(found, skill, chosen)
    rows = found.rows
    stretch = skill.stretch
    error = found.logit
    gradient = chosen.weight
    candidates = rows[COUNTS, CANDIDATES]
    for k in range(WEIGHTS):
        gradient[k] = 0.0
    total = 0.0
    taught = 0
    hits = 0
    listing = 0
    for c in range(candidates):
        hit = rows[TOKEN, c] == came
        if not hit and found.logit[c] <= TAUGHT_FROM:
            error[c] = math.nan
            continue
        if hit:
            hits = 1
            listing = rows[LISTED, c]
        error[c] = (1.0 if hit else 0.0) - squash(found.logit[c])
        total += error[c]
        taught += 1
        for j in range(2):
            gradient[BLEND + j] += error[c] * stretch[rows[BLENDED + j, c]]
    gradient[INPUTS] = total * BIAS_INPUT
    # As if no input listed anyone, and then what those that do add to that.
    for k in range(INPUTS):
        rows[UNLISTED, k] = taught
        if rows[ABSENT, k] >= 0:
            gradient[k] = total * stretch[rows[ABSENT, k]]
    for e in range(rows[COUNTS, ITEMS]):
        slope = float(error[rows[ITEM_CANDIDATE, e]])
        if not math.isnan(slope):
            k = rows[ITEM_INPUT, e]
            x = float(stretch[rows[ITEM_BIN, e]])
            if rows[ABSENT, k] >= 0:
                x -= stretch[rows[ABSENT, k]]
                rows[UNLISTED, k] -= 1
            gradient[k] += slope * x
    for j in range(SETS_USED):
        chosen_set = chosen.sets[j]
        for k in range(WEIGHTS):
            skill.weights[chosen_set, k] += RATE * gradient[k]
    # Bins last: the weights' gradient is that of the bins as they were mixed.
    for j in range(2):
        # Candidates that follow one another in a bin, as rare ones do, are counted together.
        b = -1
        hits_here = 0.0
        sightings = 0.0
        for c in range(candidates):
            if math.isnan(error[c]):
                continue
            if rows[BLENDED + j, c] != b:
                if b >= 0:
                    count_bin(skill, b, hits_here, sightings)
                b = rows[BLENDED + j, c]
                hits_here = 0.0
                sightings = 0.0
            hits_here += 1.0 if rows[TOKEN, c] == came else 0.0
            sightings += 1.0
        if b >= 0:
            count_bin(skill, b, hits_here, sightings)
    for k in range(INPUTS):
        if rows[ABSENT, k] >= 0 and rows[UNLISTED, k] > 0:
            missed = hits - (listing >> k & 1)
            count_bin(skill, rows[ABSENT, k], float(missed), float(rows[UNLISTED, k]))
    for e in range(rows[COUNTS, ITEMS]):
        c = rows[ITEM_CANDIDATE, e]
        if not math.isnan(error[c]):
            count_bin(skill, rows[ITEM_BIN, e], 1.0 if rows[TOKEN, c] == came else 0.0, 1.0)


@leaf(int64(found_t, int64))
def is_listed(found: Found, token: int) -> int:
    """Whether any source but the common tokens lists `token`."""
    for c in range(found.rows[COUNTS, CANDIDATES]):
        if found.rows[TOKEN, c] == token:
            return 1 if found.rows[LISTED, c] & ~(1 << COMMON) else 0
    return 0


@leaf(types.void(table_t, int64))
def count_common(common: Int32Array, token: int) -> None:
    """Count a token that nobody listed: `common` int32[2, kept + 1] stays sorted by count, the total last.

    A full list gives its least counted place away and passes the count on (Space-Saving, Metwally et
    al. 2005).
    """
    kept = common.shape[1] - 1
    common[1, kept] += 1
    at = 0
    while at < kept - 1 and common[0, at] >= 0 and common[0, at] != token:
        at += 1
    common[0, at] = token
    common[1, at] += 1
    while at > 0 and common[1, at - 1] < common[1, at]:
        for k in range(2):
            common[k, at - 1], common[k, at] = common[k, at], common[k, at - 1]
        at -= 1
    if common[1, kept] >= COMMON_TOTAL_MAX:
        for i in range(kept + 1):
            common[1, i] //= 2
