"""The corpus tier: what was warmed, as immutable segments that are searched together."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_draft.store.kernels import segment as kernels
from retrieval_draft.store.segment import DIGEST_BYTES, Segment
from retrieval_draft.store.segment_build import SegmentBuilder
from retrieval_draft.tree import Int32Array, int32s


@dataclass(frozen=True, slots=True)
class Match:
    """Ranks low..high-1 of `segment`, whose suffixes begin with the query's last `length` tokens."""

    segment: Segment
    length: int
    low: int
    high: int

    @property
    def occurrences(self) -> int:
        return self.high - self.low


class Trails:
    """What one sequence keeps from search to search: where its end stood in each segment.

    It makes the next search shorter and never changes its answer. `clear` when tokens are taken back.
    """

    def __init__(self) -> None:
        self._trails: dict[Segment, _Trail] = {}

    def clear(self) -> None:
        self._trails = {}

    def of(self, segments: Sequence[Segment]) -> "list[_Trail]":
        """One for each of the segments; those of others are forgotten."""
        trails = self._trails
        found = [trails.get(segment) or _Trail() for segment in segments]
        if len(trails) != len(segments) or any(segment not in trails for segment in segments):
            self._trails = dict(zip(segments, found, strict=True))
        return found


class _Trail:
    __slots__ = ("codes", "levels", "state")

    def __init__(self) -> None:
        self.state = np.full(kernels.TRAIL_LENGTH, -1, np.int64)
        self.levels = np.zeros((kernels.LEVELS_MAX, 3), np.int64)
        self.codes = np.zeros(0, np.int32)

    def sized(self, length_max: int) -> "_Trail":
        """Itself, for agreements of so many tokens; those of others tell it nothing."""
        if len(self.codes) != length_max:
            self.codes = np.zeros(length_max, np.int32)
            self.state[:] = -1
        return self


@dataclass(frozen=True, slots=True)
class CorpusTier:
    """A corpus as it is searched: its segments, in any order."""

    segments: tuple[Segment, ...]

    @classmethod
    def of_documents(
        cls, documents: Sequence[Int32Array], vocab_size: int = 1 << 20
    ) -> "CorpusTier":
        """One segment of these documents, in memory, numbered for digests; none for no document."""
        if not documents:
            return cls(())
        builder = SegmentBuilder(vocab_size, sum(map(len, documents)) + len(documents))
        for number, tokens in enumerate(documents):
            builder.add(str(number), number.to_bytes(DIGEST_BYTES, "little"), int32s(tokens))
        file = io.BytesIO()
        builder.write_to(file)
        return cls((Segment(file.getvalue()),))

    @property
    def documents(self) -> int:
        return sum(segment.documents for segment in self.segments)

    @property
    def token_count(self) -> int:
        return sum(segment.token_count for segment in self.segments)

    @property
    def nbytes(self) -> int:
        """Of the files."""
        return sum(segment.nbytes for segment in self.segments)


def match(segment: Segment, query: Int32Array, length_min: int, length_max: int) -> Match:
    """Where the longest known end of the query stands, if it has `length_min`..`length_max` tokens.

    O(log length_max x log tokens).
    """
    trail = _Trail()
    rows = _find(segment, trail, query, -1, length_min, length_max, 0)
    if not rows:
        return Match(segment, 0, 0, 0)
    length, low, high = trail.levels[0].tolist()
    return Match(segment, length, low, high)


def places(
    segments: Sequence[Segment],
    trails: Trails,
    query: Int32Array,
    position: int,
    length_min: int,
    length_max: int,
    depth: int,
    windows: Int32Array,
    lengths: Int32Array,
) -> int:
    """Copy `depth` tokens behind the places in all segments that agree with the query's end.

    Returns how many; see `kernels.copy_places` for the rows.

    The longest agreement of each segment, then the powers of two below it, down to `length_min`: over all
    segments the longer first, and of equal ones an even sample of all if there is not room for them.
    Agreements are counted up to `length_max`. `position` is the query's end in its sequence.
    """
    kept = trails.of(segments)
    if len(segments) == 1:
        trail = kept[0].sized(length_max)
        own = (trail.codes, trail.state, trail.levels, windows, lengths)
        index = segments[0].index
        return int(kernels.look(index, query, position, length_min, length_max, depth, *own))
    room, count = len(lengths), 0
    found: list[tuple[int, int, int, int, int]] = []
    for number, (segment, trail) in enumerate(zip(segments, kept, strict=True)):
        rows = _find(segment, trail, query, position, length_min, length_max, room)
        above = length_max + 1
        for length, low, high in trail.levels[:rows].tolist():
            found.append((-length, number, above, low, high))
            above = length
    found.sort()
    at = 0
    while at < len(found) and count < room:
        stop = at + 1
        total = found[at][4] - found[at][3]
        while stop < len(found) and found[stop][0] == found[at][0]:
            total += found[stop][4] - found[stop][3]
            stop += 1
        step = max(1, -(-total // (room - count)))
        for shorter, number, above, low, high in found[at:stop]:
            codes = kept[number].codes
            index = segments[number].index
            count = kernels.copy_places(
                index, codes, -shorter, above, low, high, step, depth, windows, lengths, count
            )
        at = stop
    return count


def _find(
    segment: Segment,
    trail: _Trail,
    query: Int32Array,
    position: int,
    length_min: int,
    length_max: int,
    places_max: int,
) -> int:
    trail.sized(length_max)
    return int(
        kernels.find_levels(
            segment.index,
            query,
            position,
            length_min,
            length_max,
            places_max,
            trail.codes,
            trail.state,
            trail.levels,
        )
    )
