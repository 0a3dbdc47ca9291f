"""`retrieval-draft stats`."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, print_table, share, size

if TYPE_CHECKING:
    from rich.console import Console

    from retrieval_draft.v1 import store_pb2 as pb


@click.command()
@click.option("--namespace", default="", metavar="NAME", help="Only this one.  [default: all]")
@click.option(
    "--fleet",
    is_flag=True,
    help="What all replicas counted since the namespace was created, and who they are.",
)
@click.option(
    "--digest", is_flag=True, help="Also digests of what was learned, to compare replicas."
)
@options.sidecar
@options.data
@options.as_json
def stats(
    namespace: str,
    fleet: bool,
    digest: bool,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show what drafting brought since the sidecar started: hit rates per tier, method and source.

    With --fleet also by match length and depth. Replicas at equal journal positions have equal digests.

    \b
    hit rate         verified steps in which at least one node of that row was accepted, of those in
                     which it drafted
    acceptance rate  accepted nodes of those drafted
    MAT              tokens gained per step over all steps, the bonus token included
    A node that several tiers or sources proposed counts for each of them.
    """
    with closing(options.client_of(sidecar, data)) as client:
        answer = client.stats(namespace, fleet=fleet, digest=digest)
    if as_json:
        from google.protobuf.json_format import MessageToDict

        print_json(
            MessageToDict(
                answer,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
        )
        return
    console = out()
    console.print(f"replica {answer.replica_id}, up {answer.uptime_seconds:.0f} s")
    if not answer.namespaces:
        console.print("no namespaces yet: retrieval-draft warm, or a worker, creates one")
    for one in answer.namespaces:
        if fleet:
            print_fleet_namespace(one, answer.unix_seconds, console)
        else:
            print_namespace(one, console)


def print_namespace(one: "pb.NamespaceStats", console: "Console") -> None:
    """One namespace's figures as tables."""
    from rich.markup import escape

    print_sums(one, console)
    console.print(
        f"draft p50 {one.draft_us_p50} us, p99 {one.draft_us_p99} us   "
        f"open sequences {one.sequences} ({size(one.context_bytes)})   "
        f"resyncs {one.resyncs}   rejected {one.rejected}"
    )
    console.print(
        f"learned {one.learned_tokens} tokens   lag {one.lag_records} records   "
        f"dropped {one.dropped_records}   snapshot {one.snapshot_generation or 'none'}"
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
    for title, rows in (("tier", one.tiers), ("method", one.methods), ("source", one.sources)):
        if rows:
            print_hits(title, rows, console)


def print_fleet_namespace(one: "pb.NamespaceStats", now: float, console: "Console") -> None:
    """What the replicas counted together, then each of them."""
    print_sums(one, console)
    console.print(f"resyncs {one.resyncs}   rejected {one.rejected}")
    for title, rows in (
        ("tier", one.tiers),
        ("method", one.methods),
        ("source", one.sources),
        ("match length", one.match_lengths),
        ("depth", one.depths),
    ):
        if rows:
            print_hits(title, rows, console)
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
    console.rule(f"[bold]{one.namespace}", align="left")
    mat = f"{one.tokens / one.steps:.2f}" if one.steps else "-"
    expected = f"{one.expected / one.accepted:.2f}" if one.accepted else "-"
    console.print(
        f"MAT {mat}   steps {one.steps}   drafted {one.drafted}   accepted {one.accepted} "
        f"({share(one.accepted, one.drafted)})   expected/kept {expected}"
    )


def print_hits(title: str, rows: Iterable["pb.Hits"], console: "Console") -> None:
    """Hit and acceptance rates, one row a name."""
    columns = (title, "steps", "hit rate", "drafted", "accepted", "acceptance rate")
    print_table(
        "",
        columns,
        [
            (
                row.name,
                str(row.steps),
                share(row.hits, row.steps),
                str(row.drafted),
                str(row.accepted),
                share(row.accepted, row.drafted),
            )
            for row in rows
        ],
        console,
    )
