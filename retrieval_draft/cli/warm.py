"""`retrieval-draft warm`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, print_json, progress


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.namespace
@click.option("--corpus", default="default", show_default=True, metavar="NAME", help="Corpus.")
@options.tokenizer
@click.option(
    "--field", default="text", show_default=True, help="Of JSON lines: the field to take."
)
@options.sidecar
@options.data
@options.as_json
def warm(
    sources: tuple[str, ...],
    namespace: str,
    corpus: str,
    tokenizer: str | None,
    field: str,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Put texts into a corpus of a namespace, which is created if it is missing.

    SOURCE is a text file, a folder of them, a .jsonl file, or - for standard input. A file, or a line of
    JSON lines, is a document; what is stored already is not stored again.

    \b
    Examples:
      retrieval-draft warm --tokenizer demo --namespace demo src/
      retrieval-draft warm --tokenizer models/llama --namespace llama --field answer train.jsonl
    """
    from retrieval_draft import warming
    from retrieval_draft.client import ensure_namespace
    from retrieval_draft.tokenizer import fingerprint, load_tokenizer, vocab_size
    from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest

    if tokenizer is None:
        raise click.UsageError("--tokenizer is needed: tokens must be the model's own")
    loaded = load_tokenizer(tokenizer)
    files = [] if sources == ("-",) else warming.files_of(sources)
    skipped: list[str] = []

    def texts() -> Iterator[warming.Text]:
        if sources == ("-",):
            yield warming.standard_input()
            bar.advance(task)
        for path in files:
            try:
                yield from warming.texts_of(path, field)
            except UnicodeDecodeError:
                skipped.append(str(path))
            bar.advance(task)

    client = options.client_of(sidecar, data)
    with progress() as bar:
        task = bar.add_task("files", total=len(files) or 1)
        try:
            ensure_namespace(
                client,
                CreateNamespaceRequest(
                    namespace=namespace,
                    vocab_size=vocab_size(loaded),
                    tokenizer_fingerprint=fingerprint(loaded),
                ),
            )
            warmed = warming.warm(client, namespace, corpus, texts(), loaded)
        finally:
            client.close()
    warmed.skipped = skipped
    if as_json:
        print_json(warmed)
        return
    click.echo(
        f"sent {warmed.documents} documents of {warmed.tokens} tokens, "
        f"{warmed.documents_known} known before; corpus {corpus} of {namespace} has "
        f"{warmed.corpus_documents} of {warmed.corpus_tokens} tokens, "
        f"durable: {warmed.durability.lower()}"
    )
    for path in skipped:
        err().print(f"not UTF-8, left out: {path}")
    if files and len(skipped) == len(files):
        sys.exit(1)
