"""Embeddings of contexts in plain Python, from what they are made to be: sums over the tokens before."""

import math
from collections.abc import Callable, Sequence

from retrieval_draft.store.kernels.embedding import BAG_KEPT, HALF, ORDER_KEPT


def signs(token: int) -> list[int]:
    """The bits of the token's hash as +1 and -1."""
    h = ((0x5851F42D4C957F2D ^ (token + 1)) * 0x9E3779B97F4A7C15) % 2**64
    h ^= h >> 29
    return [1 if h >> k & 1 else -1 for k in range(2 * HALF)]


def context_sum(context: Sequence[int]) -> list[float]:
    """Every token counts less with its distance; in the second half it has moved down by one place each."""
    sums = [0.0] * (2 * HALF)
    for distance, token in enumerate(reversed(context)):
        for k, sign in enumerate(signs(token)):
            if k < HALF:
                sums[k] += sign * BAG_KEPT**distance
            else:
                sums[HALF + (k - distance) % HALF] += sign * ORDER_KEPT**distance
    return sums


def embed(tokens: Sequence[int]) -> list[list[float]]:
    rows = []
    first = 0
    for i, token in enumerate(tokens):
        if token < 0:
            first = i + 1
            rows.append([0.0] * (2 * HALF))
            continue
        sums = context_sum(tokens[first : i + 1])
        lengths = [math.sqrt(2 * sum(x * x for x in half)) for half in (sums[:HALF], sums[HALF:])]
        rows.append([x / lengths[k // HALF] for k, x in enumerate(sums)])
    return rows


TWINS: dict[str, Callable[..., object]] = {
    "embedding.advance": context_sum,
    "embedding.embed": embed,
}
