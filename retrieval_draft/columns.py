"""The wire's columns: a batch's numbers in one field of bytes, little-endian."""

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import InvalidInput

_Scalar = TypeVar("_Scalar", bound=np.generic)

_CODES = {np.dtype(np.int32): "i", np.dtype(np.uint8): "B", np.dtype(np.uint64): "Q"}
"""Of columns that are read as lists: for a batch's worth of numbers `struct` is four times numpy's speed."""


def column(
    data: bytes, dtype: type[_Scalar], field: str, count: int | None = None
) -> npt.NDArray[_Scalar]:
    """A writable array of the column; InvalidInput unless it has `count` entries, where given."""
    wire = np.dtype(dtype).newbyteorder("<")
    _entries(data, wire.itemsize, field, count)
    return np.frombuffer(data, wire).astype(dtype)


def numbers(data: bytes, dtype: type[np.integer], field: str, count: int) -> list[int]:
    """The column's `count` entries as Python's; InvalidInput unless it has so many."""
    wire = np.dtype(dtype)
    _entries(data, wire.itemsize, field, count)
    return list(struct.unpack(f"<{count}{_CODES[wire]}", data))


def optional(data: bytes, dtype: type[np.integer], field: str, count: int) -> list[int] | None:
    """The same, but None for a column that was left out."""
    return numbers(data, dtype, field, count) if data else None


def offsets(data: bytes, field: str, count: int, total: int) -> list[int]:
    """count + 1 offsets that ascend from 0 to `total`."""
    values = numbers(data, np.int32, field, count + 1)
    if values[0] != 0 or values[-1] != total or any(b < a for a, b in pairwise(values)):
        raise InvalidInput(field, f"{values[0]}..{values[-1]}", f"ascending from 0 to {total}")
    return values


def encode_offsets(lengths: Iterable[int]) -> bytes:
    """The offsets column of parts with these lengths."""
    return packed("i", list(accumulate(lengths, initial=0)))


def packed(code: str, values: Sequence[int]) -> bytes:
    """The column of values of one of `struct`'s types."""
    return struct.pack(f"<{len(values)}{code}", *values)


def joined(parts: Iterable[npt.NDArray[np.generic]], wire: np.dtype[np.generic]) -> bytes:
    """One column of all parts."""
    return b"".join(
        [(part if part.dtype == wire else part.astype(wire)).tobytes() for part in parts]
    )


def _entries(data: bytes, size: int, field: str, count: int | None) -> None:
    if len(data) % size:
        raise InvalidInput(field, f"{len(data)} bytes", f"a multiple of {size}")
    if count is not None and len(data) != count * size:
        raise InvalidInput(field, f"{len(data) // size} entries", f"{count} entries")
