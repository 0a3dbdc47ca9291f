"""Arrays by their addresses: those of a whole batch in one argument.

A kernel takes every array as an argument of its own, and a batch has several of each sequence. So it takes
rows of addresses instead. Whoever writes such a row holds its arrays until the kernel has returned; nothing
here looks whether they are still there.
"""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import config, int64, njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from retrieval_draft.tree import Int32Array, UInt8Array, UInt64Array

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")
bytes_t = types.Array(types.uint8, 2, "C")
shares_t = types.Array(types.uint16, 2, "C")
keys_t = types.Array(types.uint64, 1, "C")


def _pointer_to(item: types.Type, plain: Any) -> Any:
    """A kernel's function of an address: what it points to there."""

    def compiled(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        pointer: Any = types.CPointer
        return pointer(item)(types.int64), generate

    def interpreted(address: int) -> Any:
        return ctypes.cast(int(address), ctypes.POINTER(plain))

    return interpreted if config.DISABLE_JIT else intrinsic(compiled)  # type: ignore[attr-defined]


words_at = _pointer_to(types.int32, ctypes.c_int32)
octets_at = _pointer_to(types.uint8, ctypes.c_uint8)
halves_at = _pointer_to(types.uint16, ctypes.c_uint16)
longs_at = _pointer_to(types.uint64, ctypes.c_uint64)


@njit(row_t(int64, int64), nogil=True, cache=True)
def row_at(address: int, count: int) -> Int32Array:
    """The int32[count] that begins there, not a copy of it."""
    found: Int32Array = carray(words_at(address), (count,))
    return found


@njit(table_t(int64, int64, int64), nogil=True, cache=True)
def table_at(address: int, rows: int, columns: int) -> Int32Array:
    """int32[rows, columns]."""
    found: Int32Array = carray(words_at(address), (rows, columns))
    return found


@njit(cube_t(int64, int64, int64, int64), nogil=True, cache=True)
def cube_at(address: int, tables: int, rows: int, columns: int) -> Int32Array:
    """int32[tables, rows, columns]."""
    found: Int32Array = carray(words_at(address), (tables, rows, columns))
    return found


@njit(bytes_t(int64, int64, int64), nogil=True, cache=True)
def bytes_at(address: int, rows: int, columns: int) -> UInt8Array:
    """uint8[rows, columns]."""
    found: UInt8Array = carray(octets_at(address), (rows, columns))
    return found


@njit(shares_t(int64, int64, int64), nogil=True, cache=True)
def shares_at(address: int, rows: int, columns: int) -> npt.NDArray[np.uint16]:
    """uint16[rows, columns]."""
    found: npt.NDArray[np.uint16] = carray(halves_at(address), (rows, columns))
    return found


@njit(keys_t(int64, int64), nogil=True, cache=True)
def keys_at(address: int, count: int) -> UInt64Array:
    """uint64[count]."""
    found: UInt64Array = carray(longs_at(address), (count,))
    return found
