"""`retrieval-draft snapshot`."""

import datetime
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, print_table, size
from retrieval_draft.errors import NotFound

if TYPE_CHECKING:
    from retrieval_draft.v1 import store_pb2 as pb

CORRUPT = 5
PIECE_BYTES = 1 << 20


@click.group()
def snapshot() -> None:
    """Save what a namespace has learned, look at what is kept, carry it elsewhere.

    A running sidecar saves by itself, and at its end; a start loads the newest valid snapshot.
    """


@snapshot.command()
@options.namespace
@options.sidecar
@options.data
@options.as_json
def save(namespace: str, sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """Save the learned tier now."""
    with closing(options.client_of(sidecar, data)) as client:
        saved = client.save_snapshot(namespace)
    if as_json:
        print_json(figures(saved))
    else:
        click.echo(
            f"saved generation {saved.generation} of {namespace}: {size(saved.bytes)}, "
            f"journal position {saved.journal_position}"
        )


@snapshot.command(name="list")
@options.namespace
@options.sidecar
@options.data
@options.as_json
def list_(namespace: str, sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """Show what is kept, newest first."""
    with closing(options.client_of(sidecar, data)) as client:
        found = client.snapshots(namespace)
    if as_json:
        print_json([figures(one) for one in found])
    elif not found:
        click.echo(f"no snapshot of {namespace}: a start replays its whole journal")
    else:
        columns = ("generation", "taken", "size", "journal position")
        print_table("", columns, [cells(one) for one in found], out())


@snapshot.command()
@options.namespace
@options.sidecar
@options.data
@options.as_json
def verify(namespace: str, sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """Read every block of what is kept; exit code 5 if one is damaged or missing."""
    with closing(options.client_of(sidecar, data)) as client:
        verdicts = client.verify_snapshots(namespace)
    if as_json:
        print_json([{**figures(v.snapshot), "problem": v.problem} for v in verdicts])
    else:
        columns = ("generation", "taken", "size", "journal position", "verdict")
        rows = [(*cells(v.snapshot), v.problem or "good") for v in verdicts]
        print_table("", columns, rows, out())
    if any(verdict.problem for verdict in verdicts):
        sys.exit(CORRUPT)


@snapshot.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@options.namespace
@options.sidecar
@options.data
def export(file: Path, namespace: str, sidecar: str | None, data: Path | None) -> None:
    """Write what the namespace has learned to FILE, to be imported into another cluster.

    Corpora are not part of it: warm them where it goes.

    \b
    Examples:
      retrieval-draft snapshot export demo.rdn --namespace demo
    """
    unfinished = file.with_name(f"{file.name}.unfinished")
    written = 0
    with closing(options.client_of(sidecar, data)) as client:
        try:
            with unfinished.open("wb") as opened:
                for piece in client.export_namespace(namespace):
                    opened.write(piece)
                    written += len(piece)
                opened.flush()
                os.fsync(opened.fileno())
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    click.echo(f"exported {namespace} to {file}: {size(written)}")


@snapshot.command(name="import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--namespace", default="", metavar="NAME", help="What to call it.  [default: as it was called]"
)
@options.sidecar
@options.data
def import_(file: Path, namespace: str, sidecar: str | None, data: Path | None) -> None:
    """Create a namespace with what FILE holds; nothing is stored unless all of it is good.

    \b
    Examples:
      retrieval-draft snapshot import demo.rdn --namespace demo-2
    """
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    with closing(options.client_of(sidecar, data)) as client:
        made = client.import_namespace(namespace, pieces_of(file))
    click.echo(f"imported {file} as {made.namespace}: vocabulary of {made.vocab_size} tokens")


def figures(one: "pb.Snapshot") -> dict[str, object]:
    """A snapshot as data."""
    return {
        "namespace": one.namespace,
        "generation": one.generation,
        "journal_position": one.journal_position,
        "bytes": one.bytes,
        "unix_seconds": one.unix_seconds,
    }


def cells(one: "pb.Snapshot") -> tuple[str, str, str, str]:
    """A snapshot as a row."""
    taken = datetime.datetime.fromtimestamp(one.unix_seconds, datetime.UTC)
    return str(one.generation), f"{taken:%F %T} UTC", size(one.bytes), one.journal_position


def pieces_of(file: Path) -> Iterator[bytes]:
    """The file, piece by piece."""
    with file.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece
