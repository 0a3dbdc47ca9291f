"""Building a segment: suffix sorting by divsufsort over prefix-free byte codes.

Few bytes stand for frequent tokens, so the text's bytes are little longer than its tokens are many, and
sorting bytes is what divsufsort is best at: measured twice as fast as on 32-bit tokens, in a third of the
memory (docs/corpora.md). All long work holds no interpreter lock: drafting goes on beside it.
"""

import os
import zlib
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.kernels import segment_build as kernels
from retrieval_draft.store.kernels.segment import SAMPLE
from retrieval_draft.store.segment import (
    ALIGNMENT,
    NARROW_CODES_MAX,
    PAGE_BYTES,
    SECTIONS,
    SEGMENT_TOKENS_HARD_MAX,
    Header,
    framed_header,
)
from retrieval_draft.tree import Int32Array, Int64Array, UInt64Array, int32s

PIECE = 1 << 20
"""Ranks or codes converted and written at a time."""
THREE_BYTE_LEADS_MAX = 16
"""65,536 codes each: a vocabulary has at most 2^20 tokens."""


class SegmentBuilder:
    """Collects documents, then writes the segment: `text_max` is the sum of their tokens plus one each."""

    def __init__(self, vocab_size: int, text_max: int) -> None:
        if not 0 < text_max <= SEGMENT_TOKENS_HARD_MAX:
            raise InvalidInput("segment tokens", text_max, f"1 to {SEGMENT_TOKENS_HARD_MAX}")
        self.vocab_size = vocab_size
        self._text: Int32Array = np.empty(text_max, np.int32)
        self._starts = [0]
        self._names: list[str] = []
        self._digests: list[bytes] = []

    def __len__(self) -> int:
        """How many documents were added."""
        return len(self._names)

    def add(self, name: str, digest: bytes, tokens: Int32Array) -> None:
        """One more document. Raises InvalidInput for a token outside the vocabulary."""
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_size:
            raise InvalidInput("tokens", "an unknown id", f"0 to {self.vocab_size - 1}")
        start = self._starts[-1]
        stop = start + len(tokens)
        self._text[start:stop] = tokens
        self._text[stop] = -1
        self._starts.append(stop + 1)
        self._names.append(name)
        self._digests.append(digest)

    def write(self, path: Path) -> None:
        """`write_to` a file that is on the disk when it returns."""
        with path.open("w+b") as file:
            self.write_to(file)
            file.flush()
            os.fsync(file.fileno())

    def write_to(self, file: BinaryIO) -> None:
        """Write the segment and give the documents up. At least one is needed.

        O(n log n) time. Peak memory about 4 bytes a token for the text, which `add` took, and five for
        each byte that the codes take: some 12 bytes a token of natural text in all.
        """
        if not self._names:
            raise InvalidInput("documents", 0, "at least one")
        text, self._text = self._text[: self._starts[-1]], np.empty(0, np.int32)
        counts = np.zeros(self.vocab_size + 1, np.int64)
        kernels.count(text, counts)
        # The boundary first, then by falling frequency; of equals the smaller token.
        seen = np.flatnonzero(counts[1:])
        tokens = int32s(seen[np.argsort(-counts[1:][seen], kind="stable")])
        frequency = counts[np.concatenate([[0], tokens + 1])]
        codes = np.zeros(self.vocab_size + 1, np.int32)
        codes[tokens + 1] = np.arange(1, len(tokens) + 1)
        kernels.encode(text, codes)

        narrow = len(tokens) < NARROW_CODES_MAX
        slots = np.zeros(1 << (2 * len(tokens) + 1).bit_length(), np.int32)
        kernels.fill_slots(tokens, slots)
        firsts = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        names = msgspec.msgpack.encode(self._names)
        n = len(text)
        sizes = {
            "vocabulary": tokens.nbytes,
            "slots": slots.nbytes,
            "firsts": firsts.nbytes,
            "keys": 8 * -(-n // SAMPLE),
            "codes": n * (2 if narrow else 4),
            "order": 4 * n,
            "starts": 8 * len(self._starts),
            "digests": sum(map(len, self._digests)),
            "names": len(names),
        }
        out = _Sections(file, sizes)
        out.put("vocabulary", tokens)
        out.put("slots", slots)
        out.put("firsts", firsts)
        for at in range(0, n, PIECE):
            piece = text[at : at + PIECE]
            out.put("codes", piece.astype(np.uint16) if narrow else piece)
        order = _sorted(text, frequency)
        keys: UInt64Array = np.empty(-(-n // SAMPLE), np.uint64)
        kernels.sample_keys(text, order, keys)
        out.put("keys", keys)
        out.put("order", order)
        out.put("starts", np.array(self._starts, np.int64))
        out.put("digests", np.frombuffer(b"".join(self._digests), np.uint8))
        out.put("names", np.frombuffer(names, np.uint8))
        out.finish(self.vocab_size, len(self._names), n, len(tokens))


def leads(frequency: Int64Array) -> tuple[int, int]:
    """How many of the 256 first bytes stand alone, and how many begin two bytes; the rest begin three.

    The choice that makes the text shortest, for codes that occur so often.
    """
    beyond = np.concatenate([np.cumsum(frequency[::-1])[::-1], [0]])
    best, chosen = -1, (0, 0)
    for threes in range(THREE_BYTE_LEADS_MAX + 1):
        doubles = np.arange(256 - threes + 1)
        singles = 256 - threes - doubles
        two = np.minimum(singles, len(frequency))
        three = np.minimum(singles + (doubles << 8), len(frequency))
        longer = beyond[two] + beyond[three]
        fits = singles + (doubles << 8) + (threes << 16) >= len(frequency)
        if fits.any():
            at = int(np.argmin(np.where(fits, longer, np.iinfo(np.int64).max)))
            if best < 0 or longer[at] < best:
                best, chosen = int(longer[at]), (int(singles[at]), int(doubles[at]))
    return chosen


def _sorted(text: Int32Array, frequency: Int64Array) -> Int32Array:
    """The suffix array of the codes; what needs most memory is over when it returns."""
    from pydivsufsort import divsufsort

    singles, doubles = leads(frequency)
    length = int(
        frequency.sum() + frequency[singles:].sum() + frequency[singles + doubles * 256 :].sum()
    )
    spelled = np.empty(length, np.uint8)
    starts = np.zeros(length // 64 + 1, np.uint64)
    kernels.spell(text, singles, doubles, spelled, starts)
    order: Int32Array = divsufsort(spelled)
    del spelled
    before = np.empty(len(starts), np.int32)
    kernels.rank_words(starts, before)
    return order[: kernels.keep_starts(order, starts, before)]


class _Sections:
    """A file whose sections have their place beforehand and are filled in any order."""

    def __init__(self, file: BinaryIO, sizes: dict[str, int]) -> None:
        self._file = file
        self._sizes = sizes
        self._at: dict[str, int] = dict.fromkeys(SECTIONS, 0)
        self._offsets: dict[str, int] = {}
        end = 0
        for name in SECTIONS:
            end += -end % ALIGNMENT
            self._offsets[name] = end
            end += sizes[name]
        self._end = end
        self._pages = -(-end // PAGE_BYTES)
        # Checksums change no header's length: they are one byte string.
        self._base = len(framed_header(self._header(0, 0, 0, 0)))

    def put(self, name: str, array: npt.NDArray[np.generic]) -> None:
        """Append to a section."""
        self._file.seek(self._base + self._offsets[name] + self._at[name])
        self._file.write(np.ascontiguousarray(array).view(np.uint8).data)
        self._at[name] += array.nbytes

    def finish(self, vocab_size: int, documents: int, text: int, distinct: int) -> None:
        """Checksums and header."""
        if self._at != self._sizes:
            raise AssertionError(f"sections {self._at}, not {self._sizes}")
        self._file.truncate(self._base + self._end)
        self._file.seek(self._base)
        checksums = [zlib.crc32(self._file.read(PAGE_BYTES)) for _ in range(self._pages)]
        pages = np.array(checksums, np.uint32).tobytes()
        self._file.seek(0)
        self._file.write(framed_header(self._header(vocab_size, documents, text, distinct, pages)))

    def _header(
        self, vocab_size: int, documents: int, text: int, distinct: int, pages: bytes = b""
    ) -> Header:
        sections = tuple((self._offsets[name], self._sizes[name]) for name in SECTIONS)
        return Header(
            vocab_size, documents, text, distinct, sections, pages or bytes(4 * self._pages)
        )
