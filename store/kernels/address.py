"""Arrays by their addresses: those of a whole batch in one argument.

A kernel takes every array as an argument of its own, and a batch has several of each sequence. So it takes
rows of addresses instead. Whoever writes such a row holds its arrays until the kernel has returned; nothing
here looks whether they are still there.
"""

import ctypes
from typing import Any

from numba import config, int64, njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from retrieval_draft.tree import Int32Array

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")


def _pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    pointer: Any = types.CPointer
    return pointer(types.int32)(types.int64), generate


def _plain_pointer(address: int) -> Any:
    return ctypes.cast(int(address), ctypes.POINTER(ctypes.c_int32))


pointer_to: Any = _plain_pointer if config.DISABLE_JIT else intrinsic(_pointer)  # type: ignore[attr-defined]


@njit(row_t(int64, int64), nogil=True, cache=True)
def row_at(address: int, count: int) -> Int32Array:
    """The int32[count] that begins there, not a copy of it."""
    found: Int32Array = carray(pointer_to(address), (count,))
    return found


@njit(table_t(int64, int64, int64), nogil=True, cache=True)
def table_at(address: int, rows: int, columns: int) -> Int32Array:
    """int32[rows, columns]."""
    found: Int32Array = carray(pointer_to(address), (rows, columns))
    return found


@njit(cube_t(int64, int64, int64, int64), nogil=True, cache=True)
def cube_at(address: int, tables: int, rows: int, columns: int) -> Int32Array:
    """int32[tables, rows, columns]."""
    found: Int32Array = carray(pointer_to(address), (tables, rows, columns))
    return found


@njit(int64(cube_t), nogil=True, cache=True)
def address_of(array: Int32Array) -> int:
    """Where it begins; numpy takes ten times as long to say it."""
    address: int = array.ctypes.data
    return address
