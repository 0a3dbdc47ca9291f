"""The corpus tier: one suffix array over the tokens of one warmed corpus, never changed once built."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval_draft.store.kernels import suffix_array as kernels
from retrieval_draft.tree import Int32Array


def suffix_array(tokens: Int32Array) -> Int32Array:
    """Start positions of all suffixes in sorted order (divsufsort); O(n log n), 8 bytes a token more."""
    from pydivsufsort import divsufsort

    if not len(tokens):
        return np.empty(0, np.int32)
    # Shifted so that the boundary, -1, sorts first, as the search expects.
    ranks: npt.NDArray[np.int32] = divsufsort((tokens + 1).astype(np.uint32))
    return np.ascontiguousarray(ranks, np.int32)


@dataclass(frozen=True, slots=True)
class Match:
    """The ranks low..high-1 of `corpus.order` whose suffixes begin with the query's last `length` tokens."""

    corpus: "CorpusTier"
    length: int
    low: int
    high: int

    @property
    def occurrences(self) -> int:
        return self.high - self.low


class CorpusTier:
    """Documents behind one another, each followed by a boundary."""

    def __init__(self, documents: Sequence[Int32Array]) -> None:
        parts = [part for tokens in documents for part in (tokens, np.array([-1], np.int32))]
        self.tokens = np.concatenate(parts).astype(np.int32) if parts else np.empty(0, np.int32)
        self.order = suffix_array(self.tokens)
        self.documents = len(documents)
        for array in (self.tokens, self.order):
            array.flags.writeable = False

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + self.order.nbytes

    @property
    def token_count(self) -> int:
        return len(self.tokens) - self.documents

    def match(self, query: Int32Array, length_min: int, length_max: int) -> "Match":
        """Where the longest known end of the query stands, if it has `length_min`..`length_max` tokens.

        O(log length_max x log tokens).
        """
        length = kernels.longest(self.tokens, self.order, query, length_max)
        if length < max(1, length_min):
            return Match(self, 0, 0, 0)
        first = len(query) - length
        low = kernels.bound(self.tokens, self.order, query, first, 0)
        return Match(self, length, low, kernels.bound(self.tokens, self.order, query, first, 1))

    def continuations(
        self,
        query: Int32Array,
        length_min: int,
        length_max: int,
        windows: Int32Array,
        lengths: Int32Array,
        count: int,
    ) -> int:
        """Append what follows the longest agreements with the query's end; the new count of rows."""
        return kernels.continuations(
            self.tokens, self.order, query, length_min, length_max, windows, lengths, count
        )
