"""The draw of one row on the CPU, in one pass: the twin of `sampling`'s torch form.

Most tokens cannot win whatever their noise, and most others are out after an integer test of their
noise bits, so that hardly any logarithm is taken. Measured for 4096 tokens: 12 µs, the torch form
53 µs, and 200 µs where a forward has emptied the caches.
"""

import math

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.tree import Float32Array

row_t = types.Array(types.float32, 1, "C")

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
NOISE_BITS = 52  # of the uniform number u = (bits + 1/2) / 2^52

_GOLDEN, _MIX_1, _MIX_2 = np.uint64(GOLDEN), np.uint64(MIX_1), np.uint64(MIX_2)
_S12, _S27, _S30, _S31 = np.uint64(12), np.uint64(27), np.uint64(30), np.uint64(31)
_ONE = np.uint64(1)


@njit(int64(row_t, float64, float64, int64), nogil=True, cache=True)
def draw_row(logits: Float32Array, temperature: float, floor: float, key: int) -> int:
    """argmax over tokens with logit >= floor of logit / temperature + Gumbel noise of (key, token).

    `key` is the signed form of SplitMix64's state. 0 if no logit is a number at or above the floor.
    """
    best, best_token = -math.inf, 0
    state = np.uint64(key)
    for token in range(len(logits)):
        if not logits[token] >= floor:  # NaN as well
            continue
        value = logits[token] / temperature
        # g = -log(-log(1 - u)) < -log(u): the token must win by noise what it lacks.
        halvings = (best - value) * 1.4426950408889634
        if halvings > NOISE_BITS + 1:
            continue
        bits = state + _GOLDEN * (np.uint64(token) + _ONE)
        bits = (bits ^ (bits >> _S30)) * _MIX_1
        bits = (bits ^ (bits >> _S27)) * _MIX_2
        bits = (bits ^ (bits >> _S31)) >> _S12
        # -log2(u) > halvings needs bits < 2^(52 - floor(halvings)).
        if halvings >= 1 and bits >> np.uint64(max(NOISE_BITS - int(halvings), 0)) != 0:
            continue
        u = (float(bits) + 0.5) / 2.0**NOISE_BITS
        score = value - math.log(-math.log1p(-u))
        if score > best:
            best, best_token = score, token
    return best_token
