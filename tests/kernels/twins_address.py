"""Arrays by address in plain Python: what stands there is the array that is meant."""

from collections.abc import Callable

import numpy as np


def at(array: np.ndarray, *shape: int) -> np.ndarray:
    return array.reshape(shape)


def address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


TWINS: dict[str, Callable[..., object]] = {
    "address.row_at": at,
    "address.table_at": at,
    "address.cube_at": at,
    "address.address_of": address_of,
    # Rows name what the twins of following and growth are given as it is.
    "contexts.tiers_of": at,
    "contexts.root_of": at,
}
