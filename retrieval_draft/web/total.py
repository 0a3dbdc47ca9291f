"""The figures of several namespaces as those of one."""

from collections.abc import Iterable, MutableSequence

from retrieval_draft.rates import COLUMNS, ROWS, set_quantiles
from retrieval_draft.v1 import store_pb2 as pb

SUMMED = (
    *("steps", "tokens", "drafted_steps", "drafted", "accepted", "expected"),
    *("sequences", "context_bytes", "learned_bytes", "learned_tokens", "corpus_bytes"),
    *("resyncs", "rejected", "evicted_sequences", "ignored_feedback"),
    *("lag_records", "journal_records", "dropped_records", "gaps", "corrupt_records"),
)


def total(parts: Iterable[pb.NamespaceStats]) -> pb.NamespaceStats:
    """Counts, bytes and times added up; problems with the name of their namespace before them."""
    whole = pb.NamespaceStats(connected=True)
    for one in parts:
        for name in SUMMED:
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in ROWS:
            _add_rows(getattr(whole, name), getattr(one, name))
        _add_timings(whole, one)
        whole.connected = whole.connected and one.connected
        whole.problems.extend(f"{one.namespace}: {problem}" for problem in one.problems)
    for name in ROWS:
        rows = sorted(getattr(whole, name), key=_place)
        whole.ClearField(name)
        getattr(whole, name).extend(rows)
    for timing in whole.timings:
        set_quantiles(timing)
    return whole


def _place(row: pb.Hits) -> int:
    """Rows that are numbers stand in their order, all others as they came."""
    return int(row.name) if row.name.isdecimal() else 0


def _add_rows(into: MutableSequence[pb.Hits], rows: Iterable[pb.Hits]) -> None:
    known = {row.name: row for row in into}
    for row in rows:
        if (mine := known.get(row.name)) is None:
            into.append(row)
            continue
        for column in COLUMNS:
            setattr(mine, column, getattr(mine, column) + getattr(row, column))


def _add_timings(whole: pb.NamespaceStats, one: pb.NamespaceStats) -> None:
    known = {timing.stage: timing for timing in whole.timings}
    for timing in one.timings:
        if (mine := known.get(timing.stage)) is None:
            whole.timings.append(timing)
            continue
        counts = dict(zip(mine.bounds_us, mine.counts, strict=True))
        for bound, count in zip(timing.bounds_us, timing.counts, strict=True):
            counts[bound] = counts.get(bound, 0) + count
        mine.ClearField("bounds_us")
        mine.ClearField("counts")
        mine.bounds_us.extend(sorted(counts))
        mine.counts.extend(counts[bound] for bound in sorted(counts))
        mine.count += timing.count
        mine.sum_us += timing.sum_us
