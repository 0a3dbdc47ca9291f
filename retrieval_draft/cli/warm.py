"""`retrieval-draft warm`."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, print_json, size

if TYPE_CHECKING:
    from rich.progress import Progress
    from tokenizers import Tokenizer

    from retrieval_draft.client import GrpcClient
    from retrieval_draft.warming.documents import Document
    from retrieval_draft.warming.formats import Formats
    from retrieval_draft.warming.sending import Warmed
    from retrieval_draft.warming.sources import Reading

INTERRUPTED = 130
SKIPPED_SHOWN_MAX = 20
STORED_BYTES = 4
"""Of a token where blocks are kept."""
INDEXED_BYTES = 8
"""Of a token in a sidecar's memory: the token and its place in the suffix array."""


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.namespace
@click.option("--corpus", default="default", show_default=True, metavar="NAME", help="Corpus.")
@options.tokenizer
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Of records: the field to take; repeat it to take several.  "
    "[default: text, content, messages, ...]",
)
@click.option("--chat", is_flag=True, help="The fields are turns of user and assistant.")
@click.option(
    "--format",
    "format_name",
    default="text",
    show_default=True,
    metavar="NAME",
    help="Of standard input: text, jsonl, npy or ids.",
)
@click.option(
    "--id-type",
    type=click.Choice(("uint16", "int32", "uint32", "int64")),
    help="Of token ids in .bin and .ids files.",
)
@click.option("--dry-run", is_flag=True, help="Read and tokenise, send nothing; needs no sidecar.")
@options.sidecar
@options.data
@options.as_json
def warm(
    sources: tuple[str, ...],
    namespace: str,
    corpus: str,
    tokenizer: str | None,
    fields: tuple[str, ...],
    chat: bool,
    format_name: str,
    id_type: str | None,
    dry_run: bool,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Put texts into a corpus of a namespace, which is created if it is missing.

    SOURCE is a text file, a folder (what .gitignore leaves out stays out), JSON lines, Parquet, token ids
    (.npy, or .bin and .ids with --id-type), each also as .gz or .zst; a URL that fsspec opens; a dataset,
    hf://OWNER/NAME[:CONFIG][@SPLIT]; or - for standard input. A file, a line or a row is a document.

    What is stored already is not stored again: run the same command again to go on after an interruption.

    \b
    Examples:
      retrieval-draft warm --tokenizer demo --namespace demo src/
      retrieval-draft warm --tokenizer models/llama --field answer train.jsonl.gz
      retrieval-draft warm --tokenizer models/llama --field question --field answer --chat train.parquet
      retrieval-draft warm --tokenizer models/llama --dry-run s3://bucket/texts/
    """
    from retrieval_draft.tokenizer import load_tokenizer
    from retrieval_draft.warming.estimating import estimate
    from retrieval_draft.warming.sources import Reading, extent_of

    if tokenizer is None:
        raise click.UsageError("--tokenizer is needed: tokens must be the model's own")
    if chat and not fields:
        raise click.UsageError("--chat needs --field: the user's turn, the assistant's, ...")
    loaded = load_tokenizer(tokenizer)
    formats = formats_of(tokenizer, loaded, fields, chat, format_name, id_type)
    extent = extent_of(sources)
    with _progress() as bar, _ctrl_c_sets(threading.Event()) as stop:
        task = bar.add_task("warming", total=extent.nbytes, tokens=0)
        reading = Reading(sources, formats, lambda nbytes: bar.update(task, completed=nbytes))

        def advance(warmed: "Warmed") -> None:
            bar.update(task, tokens=warmed.tokens)

        if dry_run:
            warmed = estimate(reading.documents(), loaded, stop, advance)
        else:
            client = options.client_of(sidecar, data)
            warmed = _sent(
                client, namespace, corpus, tokenizer, loaded, reading.documents(), stop, advance
            )
        bar.update(task, completed=extent.nbytes)
    if as_json:
        print_json({**asdict(warmed), "skipped": [asdict(one) for one in reading.skipped]})
    elif dry_run:
        _show_estimate(warmed, reading)
    else:
        _show(warmed, namespace, corpus)
    show_skipped(reading)
    if warmed.is_interrupted:
        err().print("interrupted; what was sent is stored. The same command goes on from there")
        sys.exit(INTERRUPTED)
    if reading.skipped and not warmed.documents:
        sys.exit(1)


def formats_of(
    tokenizer: str,
    loaded: "Tokenizer",
    fields: tuple[str, ...],
    chat: bool = False,
    format_name: str = "text",
    id_type: str | None = None,
) -> "Formats":
    """How these options read files. Raises FailedPrecondition for chat without a chat template."""
    from retrieval_draft.chat_template import ChatTemplate
    from retrieval_draft.errors import FailedPrecondition
    from retrieval_draft.tokenizer import vocab_size
    from retrieval_draft.warming.fields import Fields
    from retrieval_draft.warming.formats import Formats, known_format

    template = ChatTemplate.of(tokenizer)
    if chat and template is None:
        raise FailedPrecondition(f"--chat: the tokenizer {tokenizer} has no chat template")
    return Formats(
        Fields(fields, template, chat), vocab_size(loaded), known_format(format_name), id_type
    )


def _sent(
    client: "GrpcClient",
    namespace: str,
    corpus: str,
    name: str,
    loaded: "Tokenizer",
    found: "Iterator[Document]",
    stop: threading.Event,
    advance: "Callable[[Warmed], None]",
) -> "Warmed":
    from retrieval_draft.client import ensure_namespace
    from retrieval_draft.tokenizer import fingerprint, model_vocab_size
    from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest
    from retrieval_draft.warming.digests import Digests, default_folder
    from retrieval_draft.warming.sending import warm as send

    identity = fingerprint(loaded)
    digests = Digests(default_folder(), identity)
    try:
        ensure_namespace(
            client,
            CreateNamespaceRequest(
                namespace=namespace,
                vocab_size=model_vocab_size(name, loaded),
                tokenizer_fingerprint=identity,
            ),
        )
        return send(client, namespace, corpus, found, loaded, digests, stop, advance)
    finally:
        client.close()
        digests.close()


@contextmanager
def _ctrl_c_sets(stop: threading.Event) -> Iterator[threading.Event]:
    """The first Ctrl-C asks to stop, so that what was sent is stored and used; the second kills."""

    def asked(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()
        err().print("stopping after what was read; once more to stop at once")

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _progress() -> "Progress":
    """Bytes read, tokens and their rate, and the time left; silent where it is no terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class TokensColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            tokens = task.fields["tokens"]
            return Text(f"{tokens:,} tokens, {tokens / max(1e-9, task.elapsed or 0):,.0f}/s")

    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TokensColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _show(warmed: "Warmed", namespace: str, corpus: str) -> None:
    if not warmed.documents:
        click.echo("no documents")
        return
    click.echo(
        f"{warmed.documents} documents of {warmed.tokens} tokens: sent {warmed.documents_sent}, "
        f"{warmed.documents_known} known before; corpus {corpus} of {namespace} has "
        f"{warmed.corpus_documents} of {warmed.corpus_tokens} tokens, "
        f"durable: {warmed.durability.lower()}"
    )


def _show_estimate(warmed: "Warmed", reading: "Reading") -> None:
    work = warmed.tokenised
    click.echo(
        f"{warmed.documents} documents of {warmed.tokens} tokens in {size(reading.nbytes)}; "
        f"about {size(STORED_BYTES * warmed.tokens)} stored and "
        f"{size(INDEXED_BYTES * warmed.tokens)} in a sidecar's memory"
    )
    if work.tokens:
        rate = work.tokens / max(1e-9, work.seconds)
        click.echo(f"tokenised {work.tokens} in {work.seconds:.1f} s: {rate:,.0f} tokens/s")


def show_skipped(reading: "Reading") -> None:
    """What was left out and why, on standard error."""
    for one in reading.skipped[:SKIPPED_SHOWN_MAX]:
        err().print(f"left out: {one.name}: {one.reason}", markup=False, soft_wrap=True)
    if (more := reading.skipped_count - SKIPPED_SHOWN_MAX) > 0:
        err().print(f"left out: {more} more")
