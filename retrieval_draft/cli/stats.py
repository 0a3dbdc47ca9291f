"""`retrieval-draft stats`."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, share

if TYPE_CHECKING:
    from retrieval_draft.v1 import store_pb2 as pb

HEAD = "time      namespace             steps/s  tokens/s   MAT  accept  draft p50    p99 us    lag"


@click.command()
@options.only_namespace
@click.option(
    "--fleet",
    is_flag=True,
    help="What all replicas counted since the namespace was created, and who they are.",
)
@click.option(
    "--digest", is_flag=True, help="Also digests of what was learned, to compare replicas."
)
@click.option(
    "--full",
    is_flag=True,
    help="Also by match length, depth, tree size and probability, and the stages of a step.",
)
@click.option(
    "--watch", is_flag=True, help="A line a namespace for every interval, until interrupted."
)
@options.interval("Of --watch; 2 or more with --fleet.")
@options.sidecar
@options.data
@options.as_json
def stats(
    namespace: str,
    fleet: bool,
    digest: bool,
    full: bool,
    watch: bool,
    interval: float,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show what drafting brought since the sidecar started: hit rates per tier, method and source.

    With --fleet or --full also by match length, depth, tree size and probability. With --watch what each
    interval brought; --watch --json prints every reading whole, one a line. Replicas at equal journal
    positions have equal digests.

    \b
    hit rate         verified steps in which at least one node of that row was accepted, of those in
                     which it drafted
    acceptance       accepted nodes of those drafted
    length           mean accepted length: 1 + accepted nodes per step in which that row drafted
    expected/kept    the nodes' summed probabilities, of those accepted; 1 is right
    MAT              tokens gained per step over all steps, the bonus token included
    wasted           nodes drafted and not accepted
    A node that several tiers or sources proposed counts for each of them.
    """
    from retrieval_draft.cli.figures import as_document, print_fleet_namespace, print_namespace

    with closing(options.client_of(sidecar, data)) as client:
        if watch:
            readings = client.watch_stats(
                namespace, interval_ms=round(interval * 1000), fleet=fleet
            )
            _watch(readings, as_json=as_json)
            return
        answer = client.stats(namespace, fleet=fleet, digest=digest)
    if as_json:
        print_json(as_document(answer))
        return
    console = out()
    console.print(f"replica {answer.replica_id}, up {answer.uptime_seconds:.0f} s")
    if not answer.namespaces:
        console.print("no namespaces yet: retrieval-draft warm, or a worker, creates one")
    for one in answer.namespaces:
        if fleet:
            print_fleet_namespace(one, answer.unix_seconds, console)
        else:
            print_namespace(one, console, full=full)


def _watch(readings: Iterator["pb.Stats"], *, as_json: bool) -> None:
    """Print readings as they come; Ctrl-C, or who reads our output and goes, ends it."""
    import msgspec

    from retrieval_draft.cli.figures import as_document

    before: pb.Stats | None = None
    for now in readings:
        if as_json:
            click.echo(msgspec.json.encode(as_document(now)))
        elif before is None:
            click.echo(HEAD)
        else:
            for line in lines(before, now):
                click.echo(line)
        before = now


def lines(before: "pb.Stats", now: "pb.Stats") -> Iterator[str]:
    """What came between two readings, a line a namespace."""
    import time

    from retrieval_draft.cli.figures import figure
    from retrieval_draft.rates import rates_of, since, step_us

    clock = time.strftime("%H:%M:%S", time.localtime(now.unix_seconds))
    seconds = max(1e-3, now.unix_seconds - before.unix_seconds)
    known = {one.namespace: one for one in before.namespaces}
    for one in now.namespaces:
        if one.namespace not in known:
            continue
        new = since(known[one.namespace], one)
        rates = rates_of(new)
        p50, p99 = step_us(new)
        yield (
            f"{clock}  {one.namespace[:20]:<20}{new.steps / seconds:9.1f} "
            f"{new.tokens / seconds:9.1f} {figure(rates.mat):>5} "
            f"{share(new.accepted, new.drafted):>7} {figure(p50, 0):>10} {figure(p99, 0):>9} "
            f"{one.lag_records:6}"
        )
