"""`retrieval-draft corpus`: what was warmed."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, out, print_json, print_table, size

if TYPE_CHECKING:
    from retrieval_draft.v1 import store_pb2 as pb

NAME = click.argument("name", metavar="CORPUS")


@click.group()
def corpus() -> None:
    """List, show, delete and compact the corpora of a namespace."""


@corpus.command("list")
@options.namespace
@options.sidecar
@options.data
@options.as_json
def list_(namespace: str, sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """The corpora that drafts use, by name."""
    with closing(options.client_of(sidecar, data)) as client:
        found = client.corpora(namespace)
    if as_json:
        print_json([_fields(one) for one in found])
    elif found:
        _print(found)
    else:
        err().print(f"namespace {namespace} has no corpus: retrieval-draft warm makes one")


@corpus.command()
@NAME
@options.namespace
@options.sidecar
@options.data
@options.as_json
def show(name: str, namespace: str, sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """One corpus: documents, tokens, bytes on disk and segments."""
    from retrieval_draft.errors import NotFound

    with closing(options.client_of(sidecar, data)) as client:
        found = [one for one in client.corpora(namespace) if one.corpus == name]
    if not found:
        raise NotFound(f"there is no corpus {name} in namespace {namespace}")
    if as_json:
        print_json(_fields(found[0]))
    else:
        _print(found)


@corpus.command()
@NAME
@options.namespace
@options.sidecar
@options.data
def delete(name: str, namespace: str, sidecar: str | None, data: Path | None) -> None:
    """Remove a corpus: documents, segments and what every sidecar has of it."""
    with closing(options.client_of(sidecar, data)) as client:
        client.delete_corpus(namespace, name)
    out().print(f"deleted corpus {name} of {namespace}")


@corpus.command()
@NAME
@options.namespace
@options.sidecar
@options.data
@options.as_json
def compact(
    name: str, namespace: str, sidecar: str | None, data: Path | None, as_json: bool
) -> None:
    """Merge a corpus into as few segments as may be; drafting goes on meanwhile."""
    with closing(options.client_of(sidecar, data)) as client:
        found = client.compact_corpus(namespace, name)
    if as_json:
        print_json(_fields(found))
    else:
        _print([found])


def _fields(one: "pb.Corpus") -> dict[str, str | int]:
    return {
        "corpus": one.corpus,
        "documents": one.documents,
        "tokens": one.tokens,
        "bytes": one.bytes,
        "segments": one.segments,
    }


def _print(found: "Sequence[pb.Corpus]") -> None:
    print_table(
        "Corpora",
        ("corpus", "documents", "tokens", "on disk", "bytes/token", "segments"),
        [
            (
                one.corpus,
                f"{one.documents:,}",
                f"{one.tokens:,}",
                size(one.bytes),
                f"{one.bytes / max(1, one.tokens):.2f}",
                str(one.segments),
            )
            for one in found
        ],
        out(),
    )
