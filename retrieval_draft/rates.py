"""Figures that follow from counts: one definition each, for every command, page and metric.

Work on the wire's messages, of one replica or of the fleet. A ratio without anything to divide by is nan.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from retrieval_draft.timing import BUCKETS_PER_DOUBLING
from retrieval_draft.v1 import store_pb2 as pb

Rows = Iterable[pb.Hits]
ROWS = ("methods", "tiers", "sources", "depths", "match_lengths", "sizes", "tenths")
"""The fields of NamespaceStats that hold rows."""
COLUMNS = ("steps", "hits", "drafted", "accepted", "expected")
"""What a row counts."""
_SUMS = (
    *("steps", "tokens", "drafted_steps", "drafted", "accepted", "expected"),
    *("resyncs", "rejected", "evicted_sequences", "ignored_feedback", "dropped_records"),
)


@dataclass(frozen=True, slots=True)
class Rates:
    """What drafting brought in one namespace.

    `mat` is tokens gained per step over all steps, the bonus token included. `acceptance_rate` and
    `mean_accepted_length` (1 + accepted per drafted step) are as vLLM defines them. `wasted` nodes were
    drafted and not accepted. `expected_over_kept` is 1 where probabilities are right, and
    `calibration_error` the mean distance of the tenths' probability from their acceptance rate, weighted
    by nodes. `nodes` is the mean size of a verified tree. `corpus_coverage` is the share of verified
    trees in which a corpus proposed a node.
    """

    mat: float
    acceptance_rate: float
    mean_accepted_length: float
    wasted: int
    expected_over_kept: float
    calibration_error: float
    nodes: float
    corpus_coverage: float


def rates_of(one: pb.NamespaceStats) -> Rates:
    """The rates of a namespace's counts."""
    corpus = next((row.steps for row in one.tiers if row.name == "corpus"), 0)
    return Rates(
        mat=ratio(one.tokens, one.steps),
        acceptance_rate=ratio(one.accepted, one.drafted),
        mean_accepted_length=1 + ratio(one.accepted, one.drafted_steps),
        wasted=one.drafted - one.accepted,
        expected_over_kept=ratio(one.expected, one.accepted),
        calibration_error=calibration_error(one.tenths),
        nodes=ratio(one.drafted, one.drafted_steps),
        corpus_coverage=ratio(corpus, one.drafted_steps),
    )


def ratio(part: float, whole: float) -> float:
    """nan where there is nothing to divide by."""
    return part / whole if whole else math.nan


def mean_accepted_length(row: pb.Hits) -> float:
    """Of a row: 1 + its accepted nodes per step in which it drafted."""
    return 1 + ratio(row.accepted, row.steps)


def calibration_error(tenths: Rows) -> float:
    """The mean distance of probability and acceptance over tenths, weighted by nodes."""
    rows = list(tenths)
    apart = sum(abs(row.expected - row.accepted) for row in rows)
    return ratio(apart, sum(row.drafted for row in rows))


def since(before: pb.NamespaceStats, now: pb.NamespaceStats) -> pb.NamespaceStats:
    """What was counted between two readings of one life of a replica; states (sizes, lag) are those of now.

    A reading from before a restart, or of a namespace that was deleted and created anew, is of no use: then
    all of `now` is new.
    """
    try:
        return _difference(before, now)
    except ValueError:  # a count fell, and the wire has no negative ones
        found = pb.NamespaceStats()
        found.CopyFrom(now)
        return found


def _difference(before: pb.NamespaceStats, now: pb.NamespaceStats) -> pb.NamespaceStats:
    found = pb.NamespaceStats()
    found.CopyFrom(now)
    for name in _SUMS:
        setattr(found, name, getattr(now, name) - getattr(before, name))
    for name in ROWS:
        earlier = {row.name: row for row in getattr(before, name)}
        for row in getattr(found, name):
            if (old := earlier.get(row.name)) is not None:
                for column in COLUMNS:
                    setattr(row, column, getattr(row, column) - getattr(old, column))
    past = {timing.stage: timing for timing in before.timings}
    for timing in found.timings:
        if (then := past.get(timing.stage)) is not None:
            _subtract(timing, then)
    return found


def step_us(one: pb.NamespaceStats) -> tuple[float, float]:
    """Median and 99th percentile of its steps, all stages together; nan where none was timed."""
    timing = next((timing for timing in one.timings if timing.stage == "step"), None)
    return (timing.p50_us, timing.p99_us) if timing else (math.nan, math.nan)


def quantile_us(timing: pb.Timing, share: float) -> float:
    """Within 10 %: the middle of the bucket that it falls into; nan without any."""
    rest = share * timing.count
    for bound, count in zip(timing.bounds_us, timing.counts, strict=True):
        rest -= count
        if rest <= 0 and timing.count:
            return float(bound / 2 ** (0.5 / BUCKETS_PER_DOUBLING))
    return math.nan


def set_quantiles(timing: pb.Timing) -> None:
    """Its median and 99th percentile, from its counts."""
    timing.p50_us, timing.p99_us = quantile_us(timing, 0.5), quantile_us(timing, 0.99)


def _subtract(timing: pb.Timing, then: pb.Timing) -> None:
    counted = dict(zip(then.bounds_us, then.counts, strict=True))
    counts = [
        count - counted.get(bound, 0)
        for bound, count in zip(timing.bounds_us, timing.counts, strict=True)
    ]
    timing.ClearField("counts")
    timing.counts.extend(counts)
    timing.count -= then.count
    timing.sum_us -= then.sum_us
    set_quantiles(timing)
