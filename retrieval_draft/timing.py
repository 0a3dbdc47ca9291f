"""What a step's stages took, counted by their length: integers that add up over steps and replicas."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

STAGES = ("take", "draft", "cut", "step", "settle")
"""Reading what was committed; learning from it and growing the trees, for `mix` one call with their cut;
cutting them to the batch's budget otherwise, and handing them out; these three and what stands between
them; and what the step teaches the journal, behind the answer."""
STEPPED = 4
BUCKETS_PER_DOUBLING = 4
BUCKETS = 96
"""The last one holds all that took longer than some 14 s."""
KEPT = 4096
TIME = "time"
SUM_US = "us"

Step = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one stage: how often it was timed, how long in all, and how often between bounds of microseconds."""

    stage: str
    count: int
    sum_us: int
    buckets: tuple[tuple[float, int], ...]
    """Upper bound (exclusive, microseconds) and count, ascending, of those that are not empty."""


class Timings:
    """Of one namespace. A step costs an append; folding is done for thousands of them at once."""

    def __init__(self) -> None:
        self._counts = np.zeros((len(STAGES), BUCKETS), np.int64)
        self._sums = np.zeros(len(STAGES), np.int64)
        self._steps: list[Step] = []
        self._settled: list[float] = []
        self._recent: deque[float] = deque(maxlen=KEPT)
        self._folding = threading.Lock()

    def stepped(self, began: float, taken: float, grown: float, ended: float) -> None:
        """The clock (`now`) as a step's stages went by."""
        self._steps.append((began, taken, grown, ended))
        if len(self._steps) >= KEPT:
            self._fold()

    def settled(self, seconds: float) -> None:
        """So long went into what follows the answer."""
        self._settled.append(seconds)
        if len(self._settled) >= KEPT:
            self._fold()

    def counts(self) -> Iterator[tuple[str, int]]:
        """Flat names and integers that only rise, without zeros."""
        self._fold()
        for stage, sum_us, row in zip(STAGES, self._sums, self._counts, strict=True):
            if row.any():
                yield f"{TIME}:{stage}:{SUM_US}", int(sum_us)
            for bucket in np.flatnonzero(row).tolist():
                yield f"{TIME}:{stage}:{bucket}", int(row[bucket])

    def step_us_quantile(self, share: float) -> int:
        """Of the newest KEPT steps; 0 before the first."""
        self._fold()
        recent = list(self._recent)
        return int(np.quantile(recent, share)) if recent else 0

    def _fold(self) -> None:
        with self._folding:
            steps, self._steps = self._steps, []
            settled, self._settled = self._settled, []
            if steps:
                clock = np.array(steps)
                us = np.diff(clock, axis=1) * 1e6
                whole = (clock[:, 3] - clock[:, 0]) * 1e6
                for stage in range(3):
                    self._add(stage, us[:, stage])
                self._add(3, whole)
                self._recent.extend(whole.tolist())
            if settled:
                self._add(STEPPED, np.array(settled) * 1e6)

    def _add(self, stage: int, us: np.ndarray) -> None:
        # A microsecond and less is the first bucket.
        place = np.ceil(np.log2(np.maximum(us, 1.0)) * BUCKETS_PER_DOUBLING).astype(np.int64)
        self._counts[stage] += np.bincount(np.minimum(place, BUCKETS - 1), minlength=BUCKETS)
        self._sums[stage] += int(us.sum())


def bound_us(bucket: int) -> float:
    """The upper bound of a bucket in microseconds."""
    return float(2 ** (bucket / BUCKETS_PER_DOUBLING))


def timings_of(counts: Mapping[str, int]) -> list[Timing]:
    """The stages that were timed, in their order, from flat counts of one replica or many."""
    return [timing for stage in STAGES for timing in _timing(stage, counts)]


def _timing(stage: str, counts: Mapping[str, int]) -> Iterable[Timing]:
    prefix = f"{TIME}:{stage}:"
    found = sorted(
        (int(name.removeprefix(prefix)), count)
        for name, count in counts.items()
        if name.startswith(prefix) and name.removeprefix(prefix).isdecimal()
    )
    if found:
        total = sum(count for _, count in found)
        buckets = tuple((bound_us(bucket), count) for bucket, count in found)
        yield Timing(stage, total, counts.get(f"{prefix}{SUM_US}", 0), buckets)
