"""Fetching memory ahead of its use: the cache lines of several searches come at once, not one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core.typing.context import BaseContext
from numba.extending import lower_builtin, type_callable

READ, KEEP, DATA = 0, 3, 1
LINE_WORDS = 16
"""int32 in a cache line."""


def ahead(array: npt.NDArray[np.generic], at: int) -> None:
    """In a kernel: entry `at` of a C-contiguous array, counted over all its dimensions, will soon be read.

    A hint that never faults, whatever `at` is. In plain Python nothing.
    """


@type_callable(ahead)
def _type_of_ahead(
    context: BaseContext,
) -> Callable[[types.Array, types.Integer], types.Type | None]:
    def typer(array: types.Array, at: types.Integer) -> types.Type | None:
        if isinstance(array, types.Array) and isinstance(at, types.Integer):
            return types.void
        return None

    return typer


@lower_builtin(ahead, types.Array, types.Integer)  # type: ignore[no-untyped-call, untyped-decorator]
def _lower_ahead(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array_t, at_t = sig.args
    array = context.make_array(array_t)(context, builder, args[0])
    at = context.cast(builder, args[1], at_t, types.intp)
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    )
    address = builder.bitcast(builder.gep(array.data, [at]), byte)
    builder.call(prefetch, [address, word(READ), word(KEEP), word(DATA)])
    return context.get_dummy_value()
