"""A namespace's figures as tables and JSON, for the verbs that show them."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from retrieval_draft.cli.output import print_table, share, size

if TYPE_CHECKING:
    from rich.console import Console

    from retrieval_draft.v1 import store_pb2 as pb

COLUMNS = ("steps", "hit rate", "drafted", "accepted", "acceptance", "length", "expected/kept")


def as_document(stats: "pb.Stats") -> dict[str, object]:
    """The wire's message as JSON has it, with the rates of every namespace."""
    from google.protobuf.json_format import MessageToDict

    from retrieval_draft.rates import rates_of

    document: dict[str, object] = MessageToDict(
        stats, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    namespaces = document["namespaces"]
    assert isinstance(namespaces, list)
    for found, one in zip(namespaces, stats.namespaces, strict=True):
        found["rates"] = asdict(rates_of(one))
    return document


def print_namespace(one: "pb.NamespaceStats", console: "Console", *, full: bool) -> None:
    """One namespace's figures in one sidecar."""
    from rich.markup import escape

    from retrieval_draft.rates import rates_of

    print_sums(one, console)
    # 0 before the first step.
    timed = f"draft p50 {one.draft_us_p50} us, p99 {one.draft_us_p99} us   "
    console.print(
        f"{timed if one.draft_us_p50 else ''}"
        f"open sequences {one.sequences} ({size(one.context_bytes)})   "
        f"evicted {one.evicted_sequences}   resyncs {one.resyncs}   rejected {one.rejected}"
    )
    away = "" if one.connected else "   [bold red]store away[/]"
    console.print(
        f"learned {one.learned_tokens} tokens ({size(one.learned_bytes)})   "
        f"lag {one.lag_records} records   dropped {one.dropped_records}   "
        f"snapshot {one.snapshot_generation or 'none'}{away}"
    )
    if one.journal_position:
        digest = f"   digest {one.learned_digest}" if one.learned_digest else ""
        console.print(f"journal position {one.journal_position}{digest}")
    for problem in one.problems:
        console.print(f"[bold red]problem:[/] {escape(problem)}")
    for corpus in one.corpora:
        console.print(
            f"corpus {corpus.corpus}: {corpus.documents} documents, {corpus.tokens} tokens, "
            f"{size(corpus.bytes)}"
        )
    if one.corpora:
        coverage = percent(rates_of(one).corpus_coverage)
        console.print(f"corpora proposed a node in {coverage} of the verified trees")
    print_rows(one, console, full=full)


def print_fleet_namespace(one: "pb.NamespaceStats", now: float, console: "Console") -> None:
    """What the replicas counted together, then each of them."""
    print_sums(one, console)
    console.print(
        f"evicted {one.evicted_sequences}   resyncs {one.resyncs}   rejected {one.rejected}"
    )
    print_rows(one, console, full=True)
    print_table(
        "",
        ("replica", "version", "heard of", "records written", "dropped", "lag"),
        [
            (
                replica.replica_id,
                replica.version,
                f"{max(0.0, now - replica.unix_seconds):.0f} s ago",
                str(replica.journal_records),
                str(replica.dropped_records),
                str(replica.lag_records),
            )
            for replica in one.replicas
        ],
        console,
    )


def print_sums(one: "pb.NamespaceStats", console: "Console") -> None:
    """The namespace's name and what drafting brought there in all."""
    from retrieval_draft.rates import rates_of

    rates = rates_of(one)
    console.rule(f"[bold]{one.namespace}", align="left")
    console.print(
        f"MAT {figure(rates.mat)}   steps {one.steps}   drafted {one.drafted}   "
        f"accepted {one.accepted} ({share(one.accepted, one.drafted)})   "
        f"expected/kept {figure(rates.expected_over_kept)}"
    )
    console.print(
        f"mean accepted length {figure(rates.mean_accepted_length)}   "
        f"nodes per tree {figure(rates.nodes, 1)}   wasted {rates.wasted}   "
        f"calibration error {figure(rates.calibration_error, 3)}"
    )


def print_rows(one: "pb.NamespaceStats", console: "Console", *, full: bool) -> None:
    """Tiers, methods and sources; `full`: also match lengths, depths, sizes, probabilities and stages."""
    tables = [("tier", one.tiers), ("method", one.methods), ("source", one.sources)]
    if full:
        tables += [
            ("match length", one.match_lengths),
            ("depth", one.depths),
            ("nodes", one.sizes),
        ]
    for title, rows in tables:
        if rows:
            print_hits(title, rows, console)
    if full and one.tenths:
        _print_tenths(one.tenths, console)
    if full and one.timings:
        _print_timings(one.timings, console)


def print_hits(title: str, rows: Iterable["pb.Hits"], console: "Console") -> None:
    """Hit and acceptance rates, one row a name."""
    from retrieval_draft.rates import mean_accepted_length, ratio

    print_table(
        "",
        (title, *COLUMNS),
        [
            (
                row.name,
                str(row.steps),
                share(row.hits, row.steps),
                str(row.drafted),
                str(row.accepted),
                share(row.accepted, row.drafted),
                figure(mean_accepted_length(row)),
                figure(ratio(row.expected, row.accepted)),
            )
            for row in rows
        ],
        console,
    )


def _print_tenths(rows: Iterable["pb.Hits"], console: "Console") -> None:
    print_table(
        "",
        ("probability", "drafted", "said", "accepted"),
        [
            (
                f"{int(row.name) / 10:.1f} to {int(row.name) / 10 + 0.1:.1f}",
                str(row.drafted),
                share(row.expected, row.drafted),
                share(row.accepted, row.drafted),
            )
            for row in rows
        ],
        console,
    )


def _print_timings(timings: Iterable["pb.Timing"], console: "Console") -> None:
    print_table(
        "",
        ("stage", "steps", "mean us", "p50 us", "p99 us"),
        [
            (
                timing.stage,
                str(timing.count),
                f"{timing.sum_us / max(1, timing.count):.0f}",
                f"{timing.p50_us:.0f}",
                f"{timing.p99_us:.0f}",
            )
            for timing in timings
        ],
        console,
    )


def figure(value: float, digits: int = 2) -> str:
    """A dash for nan."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """A dash for nan."""
    return "-" if math.isnan(value) else f"{value:.1%}"
