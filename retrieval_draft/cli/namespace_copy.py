"""`retrieval-draft namespace copy`."""

from contextlib import closing
from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import print_json


@click.command()
@click.argument("source")
@click.argument("target")
@click.option(
    "--decay",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="What old counts are multiplied with: below 1 they give way sooner to what comes.",
)
@click.option("--model", default="", metavar="TEXT", help="Of the target.  [default: the source's]")
@click.option(
    "--adapter", default="", metavar="TEXT", help="Of the target.  [default: the source's]"
)
@click.option(
    "--revision", default="", metavar="TEXT", help="Of the target.  [default: the source's]"
)
@options.sidecar
@options.data
@options.as_json
def copy(
    source: str,
    target: str,
    decay: float,
    model: str,
    adapter: str,
    revision: str,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Create namespace TARGET with what SOURCE has learned, as a prior for a new revision.

    Counts of n-grams and visits of probabilities are multiplied with the decay; recent outputs and Token
    Recycling's rows stay as they are. Corpora are not copied.

    \b
    Examples:
      retrieval-draft namespace copy llama-r1 llama-r2 --revision r2 --decay 0.25
    """
    from retrieval_draft.v1.store_pb2 import CopyNamespaceRequest, CreateNamespaceRequest

    with closing(options.client_of(sidecar, data)) as client:
        old = client.get_namespace(source)
        wanted = CreateNamespaceRequest(
            namespace=target,
            vocab_size=old.vocab_size,
            model=model or old.model,
            tokenizer_fingerprint=old.tokenizer_fingerprint,
            adapter=adapter or old.adapter,
            revision=revision or old.revision,
            learn_prompts=old.learn_prompts,
            end_tokens=old.end_tokens,
            learned_bytes_max=old.learned_bytes_max,
        )
        made = client.copy_namespace(
            CopyNamespaceRequest(source=source, target=wanted, decay=decay)
        )
    if as_json:
        print_json({"source": source, "target": made.namespace, "decay": decay})
    else:
        click.echo(
            f"{made.namespace} starts with what {source} has learned, counts times {decay:g}"
        )
