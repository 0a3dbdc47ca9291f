"""Arrays by address in plain Python: what stands there is the array that is meant."""

from collections.abc import Callable

import numpy as np


def at(array: np.ndarray, *shape: int) -> np.ndarray:
    return array.reshape(shape)


TWINS: dict[str, Callable[..., object]] = {
    "address.row_at": at,
    "address.table_at": at,
    "address.cube_at": at,
    "address.bytes_at": at,
    "address.shares_at": at,
    "address.keys_at": at,
    # Rows name what the twins of following and growth are given as it is.
    "contexts.tiers_of": at,
    "contexts.root_of": at,
}
