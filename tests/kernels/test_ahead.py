"""Fetching ahead changes nothing that is read, and never faults."""

import numpy as np
from numba import int64, types

from retrieval_draft.store.kernels.ahead import ahead
from retrieval_draft.store.kernels.leaf import leaf


@leaf(int64(types.Array(types.int32, 1, "C"), int64))
def fetched_sum(tokens: np.ndarray, at: int) -> int:
    ahead(tokens, at)
    total = 0
    for i in range(len(tokens)):
        total += tokens[i]
    return total


def test_a_hint_may_lie_outside_the_array() -> None:
    tokens = np.arange(7, dtype=np.int32)
    for at in (0, 6, 7, -1, 1 << 40, -(1 << 40)):
        assert fetched_sum(tokens, at) == 21
