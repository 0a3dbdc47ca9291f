"""A segment: an immutable part of a corpus in one file, indexed by a suffix array and memory-mapped.

The file is a header and nine sections. The header (magic, version, its length and CRC-32, then msgpack)
says how long everything is and holds a CRC-32 of every page behind it, so that a start reads little more
than the header and `damaged_page` can check the rest in the background. Integers are little-endian.

Tokens are stored as codes: their numbers by falling frequency within the segment, 0 behind every document.
Up to 65,535 distinct tokens take two bytes a token, more take four; the suffix array takes four, and the
index above it 0.25.
"""

import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import Corrupt
from retrieval_draft.store.kernels.segment import SAMPLE, Index
from retrieval_draft.tree import Int32Array

MAGIC = b"rdseg\r\n\x00"
VERSION = 1
PREFIX = struct.Struct("<8sIII")
"""Magic, version, bytes of the header behind it, CRC-32 of these."""
ALIGNMENT = 4096
DIGEST_BYTES = 16
"""Of a document's digest: what it is made of is the business of who builds."""
PAGE_BYTES = 1 << 20
SEGMENT_TOKENS_HARD_MAX = 1 << 29
"""Boundaries included: three bytes each while it is sorted, whose positions are int32."""
NARROW_CODES_MAX = 1 << 16
SECTIONS = (
    "vocabulary", "slots", "firsts", "keys", "codes", "order", "starts", "digests", "names"
)  # fmt: skip


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What a segment holds: `text` codes, boundaries included, and where each section lies."""

    vocab_size: int
    documents: int
    text: int
    distinct: int
    sections: tuple[tuple[int, int], ...]
    """Offset behind the header, and bytes."""
    pages: bytes
    """uint32 each: CRC-32 of PAGE_BYTES behind the header, the last page shorter."""


_headers = msgspec.msgpack.Decoder(Header)


def framed_header(header: Header) -> bytes:
    """The header as it begins the file, padded: sections are aligned."""
    body = msgspec.msgpack.encode(header)
    data = PREFIX.pack(MAGIC, VERSION, len(body), zlib.crc32(body)) + body
    return data + bytes(-len(data) % ALIGNMENT)


@dataclass(frozen=True, slots=True)
class SegmentDocument:
    """One document of a segment, in the order of the text."""

    name: str
    digest: bytes
    tokens: Int32Array


class Segment:
    """Read-only arrays over the bytes of a segment; they stay valid as long as something refers to them.

    Raises Corrupt if the header, or what is small enough to be checked at once, is damaged. Searching a
    segment whose pages are damaged gives wrong places, never an invalid access.
    """

    def __init__(
        self, data: "mmap.mmap | bytes", digest: str = "", file: int | None = None
    ) -> None:
        self.digest = digest
        self._file = file
        self._closing = weakref.finalize(self, os.close, file) if file is not None else None
        self._data = memoryview(data)
        self._header, self._base = _read_header(self._data)
        header = self._header
        codes: npt.DTypeLike = np.uint16 if header.distinct < NARROW_CODES_MAX else np.int32
        self.index = Index(
            np.frombuffer(self._section("codes"), codes),
            np.frombuffer(self._section("order"), np.int32),
            np.frombuffer(self._section("firsts"), np.int64),
            np.frombuffer(self._section("keys"), np.uint64),
            np.frombuffer(self._section("vocabulary"), np.int32),
            np.frombuffer(self._section("slots"), np.int32),
        )
        self._check()

    @classmethod
    def open(cls, path: Path, digest: str = "") -> "Segment":
        """Map the file. O(distinct tokens), whatever its size; OSError if it cannot be read."""
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            os.close(file)
            raise Corrupt(f"segment {digest or path.name}: {error}") from error
        return cls(data, digest, file)

    def close(self) -> None:
        """Give the file up; the arrays stay. Pages can no more be checked."""
        if self._closing is not None:
            self._closing()

    @property
    def documents(self) -> int:
        return self._header.documents

    @property
    def token_count(self) -> int:
        return self._header.text - self._header.documents

    @property
    def vocab_size(self) -> int:
        return self._header.vocab_size

    @property
    def nbytes(self) -> int:
        """Of the file."""
        return len(self._data)

    @cached_property
    def names(self) -> list[str]:
        """Of the documents. Raises Corrupt if they are damaged."""
        try:
            names = msgspec.msgpack.decode(self._section("names"), type=list[str])
        except msgspec.DecodeError as error:
            raise Corrupt(f"segment {self.digest}: its names are damaged") from error
        if len(names) != self.documents:
            raise Corrupt(f"segment {self.digest}: {len(names)} names of {self.documents}")
        return names

    def document_at(self, position: int) -> tuple[str, int]:
        """The document that a position of the text lies in, and where in it. Raises Corrupt."""
        starts = np.frombuffer(self._section("starts"), np.int64)
        document = int(np.searchsorted(starts, position, "right")) - 1
        if not 0 <= document < self.documents:
            raise Corrupt(f"segment {self.digest}: position {position} lies in no document")
        return self.names[document], position - int(starts[document])

    def read(self) -> Iterator[SegmentDocument]:
        """The documents. Raises Corrupt where they are damaged: check `damaged_page` before."""
        starts = np.frombuffer(self._section("starts"), np.int64)
        digests = bytes(self._section("digests"))
        vocabulary = np.concatenate([np.array([-1], np.int32), self.index.vocabulary])
        for i, name in enumerate(self.names):
            stop = int(starts[i + 1]) - 1
            codes = self.index.codes[int(starts[i]) : stop]
            if len(codes) and not 0 < int(codes.min()) <= int(codes.max()) < len(vocabulary):
                raise Corrupt(f"segment {self.digest}: document {i} is damaged")
            digest = digests[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]
            yield SegmentDocument(name, digest, vocabulary[codes])

    def damaged_page(self, first: int = 0, count: int | None = None) -> int | None:
        """The first of `count` pages from `first` on whose content does not fit its CRC-32, or None."""
        stop = self.pages if count is None else min(self.pages, first + count)
        stored = np.frombuffer(self._header.pages, np.uint32)
        for page in range(first, stop):
            at = self._base + page * PAGE_BYTES
            if zlib.crc32(self._page(at)) != stored[page]:
                return page
        return None

    def _page(self, at: int) -> "bytes | memoryview":
        # Read, not mapped: what was only checked is no memory of this process.
        if self._file is not None:
            return os.pread(self._file, PAGE_BYTES, at)
        return self._data[at : at + PAGE_BYTES]

    @property
    def pages(self) -> int:
        return len(self._header.pages) // 4

    def _section(self, name: str) -> memoryview:
        offset, size = self._header.sections[SECTIONS.index(name)]
        return self._data[self._base + offset : self._base + offset + size]

    def _check(self) -> None:
        header, index = self._header, self.index
        slots = len(index.slots)
        lengths = (
            len(index.codes) == len(index.order) == header.text <= SEGMENT_TOKENS_HARD_MAX,
            len(index.firsts) == header.distinct + 2,
            len(index.keys) == -(-header.text // SAMPLE),
            len(index.vocabulary) == header.distinct,
            slots > header.distinct and slots & (slots - 1) == 0,
            len(self._section("starts")) == 8 * (header.documents + 1),
            len(self._section("digests")) == DIGEST_BYTES * header.documents,
        )
        if not all(lengths):
            raise Corrupt(f"segment {self.digest}: its sections do not fit its header")
        tokens = index.vocabulary
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < header.vocab_size:
            raise Corrupt(f"segment {self.digest}: a token outside its vocabulary")


def _read_header(data: memoryview) -> tuple[Header, int]:
    if len(data) < PREFIX.size:
        raise Corrupt(f"segment: {len(data)} bytes")
    magic, version, size, checksum = PREFIX.unpack(data[: PREFIX.size])
    if magic != MAGIC or version != VERSION:
        raise Corrupt(f"segment: magic {magic!r}, version {version}, not {MAGIC!r}, {VERSION}")
    body = data[PREFIX.size : PREFIX.size + size]
    if len(body) != size or zlib.crc32(body) != checksum:
        raise Corrupt("segment: its header is damaged")
    try:
        header = _headers.decode(body)
    except msgspec.DecodeError as error:
        raise Corrupt(f"segment: its header is damaged: {error}") from error
    base = -(-(PREFIX.size + size) // ALIGNMENT) * ALIGNMENT
    ends = [offset + length for offset, length in header.sections]
    if len(ends) != len(SECTIONS) or base + max(ends) != len(data):
        raise Corrupt(f"segment: {len(data)} bytes, not what its header says")
    return header, base
