"""What the page is sent: figures as plain data, without a single token of text."""

import math
from collections.abc import Iterable

import msgspec

from retrieval_draft.rates import Rates, rates_of, ratio, step_us
from retrieval_draft.v1 import store_pb2 as pb

NAMESPACES_MAX = 100
"""Of the table: those with most steps."""


class Row(msgspec.Struct, frozen=True):
    """A tier's, source's, method's, depth's, match length's, size's or tenth's counts."""

    name: str
    steps: int
    hits: int
    drafted: int
    accepted: int
    expected: float


class Stage(msgspec.Struct, frozen=True):
    """What a part of a step takes."""

    name: str
    p50_us: float | None
    p99_us: float | None


class Corpus(msgspec.Struct, frozen=True):
    """What was warmed."""

    name: str
    documents: int
    tokens: int
    bytes: int


class Brief(msgspec.Struct, frozen=True):
    """A namespace's line in the table."""

    name: str
    steps: int
    mat: float | None
    acceptance_rate: float | None
    p99_us: float | None
    sequences: int
    bytes: int
    lag_records: int
    problems: int


class Figures(msgspec.Struct, frozen=True):
    """All of the chosen namespace, or of all together."""

    unix_seconds: float
    replica_id: str
    version: str
    uptime_seconds: float
    namespace: str
    can_show_text: bool
    namespaces: list[Brief]
    steps: int
    tokens: int
    drafted_steps: int
    drafted: int
    accepted: int
    rates: dict[str, float | None]
    rows: dict[str, list[Row]]
    stages: list[Stage]
    corpora: list[Corpus]
    states: dict[str, float]
    connected: bool
    problems: list[str]


def figures(
    stats: pb.Stats,
    chosen: pb.NamespaceStats,
    version: str,
    briefs: Iterable[pb.NamespaceStats],
    *,
    can_show_text: bool,
) -> Figures:
    """`chosen` in full and `briefs` a line each; what cannot be said yet is null."""
    busiest = sorted(briefs, key=lambda one: (-one.steps, one.namespace))[:NAMESPACES_MAX]
    return Figures(
        unix_seconds=stats.unix_seconds,
        replica_id=stats.replica_id,
        version=version,
        uptime_seconds=stats.uptime_seconds,
        namespace=chosen.namespace,
        can_show_text=can_show_text,
        namespaces=[brief(one) for one in busiest],
        steps=chosen.steps,
        tokens=chosen.tokens,
        drafted_steps=chosen.drafted_steps,
        drafted=chosen.drafted,
        accepted=chosen.accepted,
        rates=rates(rates_of(chosen)),
        rows={
            name: [_row(row) for row in getattr(chosen, name)]
            for name in ("tiers", "sources", "methods", "depths", "match_lengths", "tenths")
        },
        stages=[
            Stage(timing.stage, known(timing.p50_us), known(timing.p99_us))
            for timing in chosen.timings
        ],
        corpora=[Corpus(c.corpus, c.documents, c.tokens, c.bytes) for c in chosen.corpora],
        states={
            name: float(getattr(chosen, name))
            for name in (
                *("sequences", "context_bytes", "learned_bytes", "learned_tokens", "corpus_bytes"),
                *("lag_records", "dropped_records", "evicted_sequences", "resyncs", "gaps"),
                *("corrupt_records", "snapshot_unix_seconds"),
            )
        },
        connected=chosen.connected,
        problems=list(chosen.problems),
    )


def brief(one: pb.NamespaceStats) -> Brief:
    """A namespace in one line."""
    return Brief(
        one.namespace,
        one.steps,
        known(ratio(one.tokens, one.steps)),
        known(ratio(one.accepted, one.drafted)),
        step_p99_us(one),
        one.sequences,
        one.context_bytes + one.learned_bytes + one.corpus_bytes,
        one.lag_records,
        len(one.problems),
    )


def rates(found: Rates) -> dict[str, float | None]:
    """By name."""
    return {name: known(value) for name, value in _items(found)}


def step_p99_us(one: pb.NamespaceStats) -> float | None:
    """Of all stages together; None before the first step."""
    return known(step_us(one)[1])


def known(value: float) -> float | None:
    """None for what cannot be said: JSON has no nan."""
    return value if math.isfinite(value) else None


def _items(found: Rates) -> Iterable[tuple[str, float]]:
    return ((name, getattr(found, name)) for name in found.__slots__)


def _row(row: pb.Hits) -> Row:
    return Row(row.name, row.steps, row.hits, row.drafted, row.accepted, row.expected)
