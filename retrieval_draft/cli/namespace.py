"""`retrieval-draft namespace`."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.namespace_copy import copy
from retrieval_draft.cli.output import err, out, print_json, print_table

if TYPE_CHECKING:
    from retrieval_draft.v1 import store_pb2 as pb

FINGERPRINT_CHARACTERS = 12
TOKEN_MAX, BYTES_MAX = (1 << 31) - 1, (1 << 63) - 1
"""What the wire carries; the sidecar's own limits are lower."""


@click.group()
def namespace() -> None:
    """Create, list, show, copy and delete namespaces: what may share learned tokens.

    One for each model, tokenizer and adapter revision; a tenant sees its own alone.
    """


@namespace.command()
@click.argument("name")
@options.tokenizer
@click.option(
    "--vocab-size",
    type=click.IntRange(1, TOKEN_MAX),
    metavar="N",
    help="[default: the tokenizer's]",
)
@click.option("--model", default="", metavar="TEXT", help="Which model it is for.")
@click.option("--adapter", default="", metavar="TEXT", help="Which LoRA or other adapter.")
@click.option("--revision", default="", metavar="TEXT", help="Which revision of these.")
@click.option("--learn-prompts", is_flag=True, help="Learn prompts too, not only outputs.")
@click.option(
    "--end-token",
    "end_tokens",
    type=click.IntRange(0, TOKEN_MAX),
    multiple=True,
    metavar="ID",
    help="Repeatable.",
)
@click.option(
    "--learned-bytes-max",
    type=click.IntRange(0, BYTES_MAX),
    default=0,
    metavar="N",
    help="[default: the sidecar's]",
)
@options.sidecar
@options.data
@options.as_json
def create(
    name: str,
    tokenizer: str | None,
    vocab_size: int | None,
    model: str,
    adapter: str,
    revision: str,
    learn_prompts: bool,
    end_tokens: tuple[int, ...],
    learned_bytes_max: int,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Create NAME; one that exists and is equal is left as it is, one that differs is an error.

    \b
    Examples:
      retrieval-draft namespace create demo --tokenizer demo
      retrieval-draft namespace create llama-r2 --tokenizer models/llama --vocab-size 128256
    """
    from retrieval_draft import tokenizer as tokenizers
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.tree import int32s
    from retrieval_draft.v1 import store_pb2 as pb

    fingerprint = ""
    if tokenizer is not None:
        loaded = tokenizers.load_tokenizer(tokenizer)
        fingerprint, least = tokenizers.fingerprint(loaded), tokenizers.vocab_size(loaded)
        if vocab_size is None:
            vocab_size = least
        elif vocab_size < least:
            raise InvalidInput("--vocab-size", vocab_size, f"{least} or more, as the tokenizer has")
    if vocab_size is None:
        raise click.UsageError("--tokenizer or --vocab-size is needed")
    request = pb.CreateNamespaceRequest(
        namespace=name,
        vocab_size=vocab_size,
        model=model,
        tokenizer_fingerprint=fingerprint,
        adapter=adapter,
        revision=revision,
        learn_prompts=learn_prompts,
        end_tokens=int32s(end_tokens).tobytes(),
        learned_bytes_max=learned_bytes_max,
    )
    with closing(options.client_of(sidecar, data)) as client:
        made = client.create_namespace(request)
    if as_json:
        print_json(as_row(made))
        return
    click.echo(f"namespace {name} of {made.vocab_size} tokens")


@namespace.command(name="list")
@options.sidecar
@options.data
@options.as_json
def list_(sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """List the tenant's namespaces."""
    with closing(options.client_of(sidecar, data)) as client:
        found = client.list_namespaces()
    if as_json:
        print_json([as_row(one) for one in found])
        return
    if not found:
        err().print("no namespaces yet: `namespace create`, `warm` or a worker makes one")
        return
    cells = [
        (
            one.namespace,
            one.model or "-",
            one.tokenizer_fingerprint[:FINGERPRINT_CHARACTERS] or "-",
            "/".join(filter(None, (one.adapter, one.revision))) or "-",
            str(one.vocab_size),
        )
        for one in found
    ]
    columns = ("namespace", "model", "tokenizer", "adapter/revision", "vocabulary")
    print_table("", columns, cells, out(), text_columns=4)


@namespace.command()
@click.argument("name")
@options.sidecar
@options.data
@options.as_json
def show(name: str, sidecar: str | None, data: Path | None, as_json: bool) -> None:
    """Show what NAME is for and what it holds."""
    with closing(options.client_of(sidecar, data)) as client:
        found = client.get_namespace(name)
        (figures,) = client.stats(name).namespaces
    row = {
        **as_row(found),
        "learned_tokens": figures.learned_tokens,
        "learned_bytes": figures.learned_bytes,
        "corpora": {corpus.corpus: corpus.tokens for corpus in figures.corpora},
        "sequences": figures.sequences,
    }
    if as_json:
        print_json(row)
        return
    width = max(map(len, row))
    for key, value in row.items():
        click.echo(f"{key:<{width}}  {_text(value)}")


@namespace.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.sidecar
@options.data
def delete(name: str, yes: bool, sidecar: str | None, data: Path | None) -> None:
    """Delete NAME with all that was learned and warmed there, for every replica."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("say --yes: there is nobody to ask")
        click.confirm(f"delete namespace {name} and all it holds?", abort=True, err=True)
    with closing(options.client_of(sidecar, data)) as client:
        client.delete_namespace(name)
    click.echo(f"deleted {name}")


namespace.add_command(copy)


def as_row(one: "pb.Namespace") -> dict[str, object]:
    """A namespace's fields for JSON."""
    import numpy as np

    from retrieval_draft.columns import column

    return {
        "namespace": one.namespace,
        "vocab_size": one.vocab_size,
        "model": one.model,
        "tokenizer_fingerprint": one.tokenizer_fingerprint,
        "adapter": one.adapter,
        "revision": one.revision,
        "learn_prompts": one.learn_prompts,
        "end_tokens": column(one.end_tokens, np.int32, "end_tokens").tolist(),
        "learned_bytes_max": one.learned_bytes_max,
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({tokens} tokens)" for name, tokens in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return str(value) or "-"
