"""Embeddings of contexts from their last tokens alone: random projections that decay with distance.

Every token stands for 64 signs, the bits of a hash of its id (sign projections, Achlioptas 2003): no
table, whatever the vocabulary. The first half of a context's embedding sums them as a bag, slowly
forgetting, so that an inserted or exchanged token changes little; the second half turns by one place a
token, so that it knows their order, and forgets faster.
"""

import numpy as np
from numba import int64, types

from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.tree import Float32Array, Int32Array

DIMENSIONS = 64
HALF = 32
BAG_KEPT, ORDER_KEPT = 0.85, 0.7
"""What a token leaves of the ones before it, in each half."""

read_row_t = types.Array(types.int32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C")
float_table_t = types.Array(types.float32, 2, "C")


@leaf(types.void(floats_t, floats_t, int64))
def advance(state: Float32Array, before: Float32Array, token: int) -> None:
    """`state` float32[64] becomes that of the context with `token` behind it; `before` is working room."""
    for k in range(DIMENSIONS):
        before[k] = state[k]
    bits = mix(np.uint64(0x5851F42D4C957F2D), token)
    for k in range(DIMENSIONS):
        sign = 1.0 if (bits >> np.uint64(k)) & np.uint64(1) else -1.0
        if k < HALF:
            state[k] = BAG_KEPT * before[k] + sign
        else:
            state[k] = ORDER_KEPT * before[HALF + (k + 1 - HALF) % HALF] + sign


@leaf(types.void(read_row_t, floats_t, floats_t, float_table_t))
def embed(tokens: Int32Array, state: Float32Array, before: Float32Array, out: Float32Array) -> None:
    """out[i] float32[64]: the context that ends with token i, of length 1, both halves alike in weight.

    A boundary (-1) begins a new context and is 0 itself. `state` and `before` float32[64] are working
    room. O(64 x tokens).
    """
    for k in range(DIMENSIONS):
        state[k] = 0.0
    for i in range(len(tokens)):
        if tokens[i] < 0:
            for k in range(DIMENSIONS):
                state[k] = 0.0
                out[i, k] = 0.0
            continue
        advance(state, before, tokens[i])
        for half in range(2):
            first = half * HALF
            square = 0.0
            for k in range(first, first + HALF):
                square += state[k] * state[k]
            scale = 1.0 / np.sqrt(2.0 * square) if square > 0.0 else 0.0
            for k in range(first, first + HALF):
                out[i, k] = state[k] * scale
