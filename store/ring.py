"""A ring of tokens with chains and counts of its n-grams: the index of the context and the learned tier."""

import numpy as np
import numpy.typing as npt

from retrieval_draft.store.kernels import ngrams
from retrieval_draft.store.kernels import ring as kernels
from retrieval_draft.store.ngrams import BUCKETS_MIN, bytes_used, empty_table
from retrieval_draft.store.pages import zeroed
from retrieval_draft.tree import Int32Array, int32s

BYTES_PER_TOKEN = 4 + kernels.ORDER_COUNT * 8
REBASE_AT = 1 << 30
"""Positions are int32 in the chains: an older ring is shifted back before they overflow."""


class TokenRing:
    """Keeps the newest `capacity` tokens; `stop` counts all that ever came, `low` is the oldest kept.

    `head` and `prev` chain the ends of equal n-grams (kernels/ring.py); `table` counts what followed
    them (kernels/ngrams.py), beyond what the ring still holds, in `buckets` of a fixed size.

    One thread appends; others may search beside it without a lock. What they find may be torn, which
    costs a bad draft and nothing else.
    """

    def __init__(self, capacity: int, buckets: int) -> None:
        assert capacity & (capacity - 1) == 0, "a power of two, for masking"
        chains = (kernels.ORDER_COUNT, capacity)
        self.capacity = capacity
        self.tokens = zeroed(capacity)
        self.head = zeroed(kernels.ORDER_COUNT * capacity).reshape(chains)
        self.prev = zeroed(kernels.ORDER_COUNT * capacity).reshape(chains)
        self.table = empty_table(buckets)
        self.nbytes = self._nbytes()
        """Once all of it is written."""
        self.addresses = self._addresses()
        """Of tokens, head, prev and table, the capacity, and how many words the table has."""
        self.stop = 0
        # Never falls back when the ring is truncated: what was overwritten does not return.
        self.low = 0

    @property
    def nbytes_used(self) -> int:
        """Now: the table counts as far as it was written."""
        return self.nbytes - self.table.nbytes + bytes_used(self.table)

    def extend(self, tokens: Int32Array, known: int = 0) -> None:
        """Append and index; -1 is a boundary that no gram and no continuation crosses. O(len(tokens)).

        The first `known` tokens are there for the context's sake: they were counted before.
        """
        self.reserve(len(tokens))
        stop = self.stop + len(tokens)
        counted = max(self.stop + known, stop - self.capacity)
        tokens = tokens[-self.capacity :]
        mask = self.capacity - 1
        start = stop - len(tokens)
        first = start & mask
        head = min(len(tokens), self.capacity - first)
        self.tokens[first : first + head] = tokens[:head]
        self.tokens[: len(tokens) - head] = tokens[head:]
        self.low = max(self.low, stop - self.capacity)
        kernels.insert(self.tokens, self.head, self.prev, self.low, start, stop)
        ngrams.count(self.tokens, self.table, self.low, counted, stop, 0)
        self.stop = stop

    def reserve(self, count: int) -> None:
        """See to it that positions of `count` more tokens can be written."""
        if self.stop + count >= REBASE_AT:
            self._rebase()

    def advance(self, count: int) -> None:
        """A kernel appended and indexed `count` tokens."""
        self.stop += count
        if self.stop - self.capacity > self.low:
            self.low = self.stop - self.capacity

    def truncate(self, stop: int) -> None:
        """Forget the positions from `stop` on, which must not lie before `low`. O(positions)."""
        assert self.low <= stop <= self.stop
        ngrams.count(self.tokens, self.table, self.low, stop, self.stop, 1)
        kernels.remove(self.tokens, self.head, self.prev, self.low, stop, self.stop)
        self.stop = stop

    def grown(self, capacity: int, buckets: int) -> "TokenRing":
        """A larger ring with the same tokens at positions counted from 0. O(capacity)."""
        larger = TokenRing(capacity, buckets)
        larger.extend(self.read(self.low, self.stop))
        return larger

    def widened(self, capacity: int) -> "TokenRing":
        """A ring with more room for tokens: the same tokens at the same positions, and this one's table.

        Nothing may have been overwritten yet. O(tokens).
        """
        assert self.low == 0, "positions would change"
        wider = TokenRing(capacity, BUCKETS_MIN)
        wider.table = self.table
        wider.nbytes, wider.addresses = wider._nbytes(), wider._addresses()
        wider.tokens[: self.stop] = self.tokens[: self.stop]
        kernels.insert(wider.tokens, wider.head, wider.prev, 0, 0, self.stop)
        wider.stop = self.stop
        return wider

    def read(self, start: int, stop: int) -> Int32Array:
        """A copy of the tokens at start..stop-1, which must be kept positions."""
        return self.at(np.arange(start, stop))

    def at(self, positions: npt.NDArray[np.integer]) -> Int32Array:
        """A copy of the tokens at these positions, which must be kept."""
        tokens: Int32Array = self.tokens[positions & (self.capacity - 1)]
        return tokens

    def continuations(
        self, query: Int32Array, length_max: int, windows: Int32Array, lengths: Int32Array
    ) -> int:
        """Fill `windows` and `lengths` with what followed the places that agree with the query's end."""
        return kernels.continuations(
            self.tokens,
            self.head,
            self.prev,
            self.low,
            self.stop,
            query,
            length_max,
            windows,
            lengths,
        )

    def occurrence(
        self, query: Int32Array, length_min: int, length_max: int, newest: bool
    ) -> Int32Array:
        """What followed the first (or newest) occurrence of the query's longest known end; or nothing."""
        end = kernels.occurrence(
            self.tokens,
            self.head,
            self.prev,
            self.low,
            self.stop,
            query,
            length_min,
            length_max,
            int(newest),
        )
        if end < 0:
            return np.empty(0, np.int32)
        following = self.read(end + 1, self.stop)
        boundaries = np.flatnonzero(following < 0)
        return following[: boundaries[0]] if len(boundaries) else following

    def _addresses(self) -> tuple[int, int, int, int, int, int]:
        arrays = (self.tokens, self.head, self.prev, self.table)
        tokens, head, prev, table = (array.ctypes.data for array in arrays)
        return tokens, head, prev, table, self.capacity, len(self.table)

    def _nbytes(self) -> int:
        return self.tokens.nbytes + self.head.nbytes + self.prev.nbytes + self.table.nbytes

    def _rebase(self) -> None:
        """Count positions from the oldest kept token's again, on multiples of the capacity."""
        shift = (self.low // self.capacity) * self.capacity
        for links in (self.head, self.prev):
            np.maximum(links - np.int32(shift), 0, out=links)
        self.low -= shift
        self.stop -= shift


def boundary() -> Int32Array:
    """The mark between two texts."""
    return int32s([-1])
