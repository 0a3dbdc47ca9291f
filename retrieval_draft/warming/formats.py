"""A file's documents, read as a stream: text, JSON lines, Parquet, or arrays of token ids."""

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import InvalidInput
from retrieval_draft.tree import Int32Array, int32s
from retrieval_draft.warming.documents import (
    PART_CHARACTERS_MAX,
    PART_TOKENS_MAX,
    Found,
    Ids,
    Skipped,
    Text,
    Unreadable,
    cut,
    part_name,
    parts,
)
from retrieval_draft.warming.fields import Fields, json_document
from retrieval_draft.warming.files import STANDARD_INPUT, File

FORMATS = ("text", "jsonl", "parquet", "npy", "ids")
LINE_CHARACTERS_MAX = 1 << 26
_PARQUET_ROWS = 128
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".npy": "npy"}

Count = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Formats:
    """How files become documents.

    `format` is that of standard input; other files have that of their suffix. `id_type` is of raw ids
    (.bin, .ids), which are left out without one: their bytes do not tell. Ids must be below `vocab_size`.
    """

    fields: Fields
    vocab_size: int
    format: str = "text"
    id_type: str | None = None

    def documents(self, file: File, count: Count = lambda nbytes: None) -> Iterator[Found]:
        """Everything in the file; what cannot be read comes as Skipped, never as an exception."""
        try:
            with file.open(count) as stream:
                for found in self._read(file, stream):
                    yield from self._checked(found)
        except Unreadable as error:
            yield Skipped(file.name, f"{error}{self._hint(file)}")
        except UnicodeDecodeError:
            yield Skipped(file.name, f"it is not UTF-8{self._hint(file)}")
        except (OSError, EOFError, zlib.error) as error:
            yield Skipped(file.name, f"it cannot be read: {error}")
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("pyarrow", "zstandard", "zstd"):
                raise
            yield Skipped(file.name, f"it is damaged: {error}")

    def _read(self, file: File, stream: BinaryIO) -> Iterator[Found]:
        kind = self._format_of(file)
        if kind == "jsonl":
            return json_lines(file.name, stream, self.fields)
        if kind == "parquet":
            return parquet(file.name, stream, self.fields)
        if kind == "npy":
            return array(file.name, stream)
        if kind == "ids":
            return raw_ids(file.name, stream, self.id_type)
        return text(file.name, stream)

    def _format_of(self, file: File) -> str:
        if file.name == STANDARD_INPUT:
            return self.format
        if file.kind == ".ids" or (file.kind == ".bin" and self.id_type):
            return "ids"
        return _BY_SUFFIX.get(file.kind, "text")

    def _hint(self, file: File) -> str:
        """For a file that was read as text and may hold ids."""
        return "; raw ids need --id-type" if file.kind == ".bin" and not self.id_type else ""

    def _checked(self, found: Found) -> Iterator[Found]:
        if isinstance(found, Skipped):
            yield found
        elif isinstance(found, Ids) and len(found.ids) and found.ids.max() >= self.vocab_size:
            yield Skipped(
                found.name,
                f"token id {found.ids.max()} is not below {self.vocab_size}, the vocabulary",
            )
        else:
            yield from parts(found)


def text(name: str, stream: BinaryIO) -> Iterator[Found]:
    """One document, or several where it is longer than a document may be."""
    reader = io.TextIOWrapper(stream, encoding="utf-8-sig")
    rest, number = "", 1
    while more := reader.read(PART_CHARACTERS_MAX):
        if "\0" in more:
            raise Unreadable("it is binary")
        rest += more
        while len(rest) > PART_CHARACTERS_MAX:
            end = cut(rest)
            yield Text(part_name(name, number), rest[:end])
            rest, number = rest[end:], number + 1
    if rest:
        yield Text(part_name(name, number), rest)


def json_lines(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Found]:
    """One document a line; a line that gives none is skipped alone."""
    reader = io.TextIOWrapper(stream, encoding="utf-8-sig")
    number = 0
    while line := reader.readline(LINE_CHARACTERS_MAX):
        number += 1
        where = f"{name}:{number}"
        if len(line) == LINE_CHARACTERS_MAX:
            raise Unreadable(f"line {number} has more than {LINE_CHARACTERS_MAX} characters")
        if line.strip():
            try:
                yield json_document(where, line, fields)
            except Unreadable as error:
                yield Skipped(where, str(error))


def parquet(name: str, stream: BinaryIO, fields: Fields) -> Iterator[Found]:
    """One document a row; reads the wanted columns, a few rows at a time."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise Unreadable("it needs pyarrow: pip install 'retrieval-draft[warm]'") from error
    if not stream.seekable():
        raise Unreadable("Parquet cannot be read from a stream: decompress it, or save it first")
    rows = ParquetFile(stream)
    columns = list(fields.names) or None
    if columns and not set(columns) <= set(rows.schema_arrow.names):
        has = ", ".join(rows.schema_arrow.names)
        raise Unreadable(f"it has no field {columns[0]!r}, but {has}")
    number = 0
    for batch in rows.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
        for record in batch.to_pylist():
            number += 1
            try:
                yield fields.document(f"{name}:{number}", record)
            except Unreadable as error:
                yield Skipped(f"{name}:{number}", str(error))


def array(name: str, stream: BinaryIO) -> Iterator[Found]:
    """A numpy array of ids: one document, or one a row."""
    try:
        shape, is_fortran, dtype = _header(stream)
    except ValueError as error:
        raise Unreadable(f"it is no array of ids: {error}") from error
    if dtype.kind not in "iu" or len(shape) not in (1, 2) or (is_fortran and len(shape) == 2):
        raise Unreadable(f"it has {dtype} of shape {shape}, not integers in one or two dimensions")
    if len(shape) == 1:
        yield from _ids(name, stream, dtype)
        return
    for row in range(shape[0]):
        ids = np.frombuffer(_exactly(stream, shape[1] * dtype.itemsize), dtype)
        yield Ids(f"{name}:{row + 1}", _checked_ids(ids))


def raw_ids(name: str, stream: BinaryIO, id_type: str | None) -> Iterator[Found]:
    """Nothing but ids, little-endian: one document."""
    if id_type is None:
        raise Unreadable("raw ids need --id-type")
    return _ids(name, stream, np.dtype(id_type).newbyteorder("<"))


def _ids(name: str, stream: BinaryIO, dtype: npt.DTypeLike) -> Iterator[Found]:
    size, number = np.dtype(dtype).itemsize, 1
    while data := _up_to(stream, PART_TOKENS_MAX * size):
        if len(data) % size:
            raise Unreadable(f"its length is no multiple of {size} bytes")
        yield Ids(part_name(name, number), _checked_ids(np.frombuffer(data, dtype)))
        number += 1


def _checked_ids(ids: npt.NDArray[np.generic]) -> Int32Array:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) <= np.iinfo(np.int32).max:
        raise Unreadable("it has a token id below 0 or above 2147483647")
    return int32s(ids)


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"its version is {version}")


def _up_to(stream: BinaryIO, nbytes: int) -> bytes:
    """So many bytes, or what is left: a raw stream may give fewer at a time."""
    pieces: list[bytes] = []
    while nbytes and (piece := stream.read(nbytes)):
        pieces.append(piece)
        nbytes -= len(piece)
    return b"".join(pieces)


def _exactly(stream: BinaryIO, nbytes: int) -> bytes:
    if len(data := _up_to(stream, nbytes)) < nbytes:
        raise Unreadable("it ends early")
    return data


def known_format(name: str) -> str:
    """The name of a format, or InvalidInput."""
    if name not in FORMATS:
        raise InvalidInput("--format", name, ", ".join(FORMATS))
    return name
