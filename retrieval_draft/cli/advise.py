"""`retrieval-draft advise`."""

from contextlib import closing
from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, progress


@click.command()
@options.namespace
@click.option(
    "--cost",
    metavar="NODES:MS,...",
    help="What a step costs by its drafted nodes: 0:20,32:24,64:31.  [default: the newest table "
    "that an engine sent]",
)
@options.sidecar
@options.data
@options.as_json
def advise(
    namespace: str, cost: str | None, sidecar: str | None, data: Path | None, as_json: bool
) -> None:
    """Say what to change in a namespace's drafting, and what that gains.

    The sidecar replays the newest sequences of the namespace, which it keeps in memory for this
    (`serve --sample-tokens`), with today's settings and with others: nothing is guessed, and the
    sequences never leave it. It takes a minute or some of half a processor beside drafting. Without a cost
    table tokens per step are compared, which more nodes can only raise.

    \b
    Examples:
      retrieval-draft advise --namespace demo
      retrieval-draft advise --namespace demo --cost 0:20,32:24,64:31
    """
    import numpy as np

    from retrieval_draft.tree import int32s
    from retrieval_draft.v1 import store_pb2

    request = store_pb2.AdviseRequest(namespace=namespace)
    if cost is not None:
        nodes, milliseconds = _table(cost)
        request.cost_nodes = int32s(nodes).tobytes()
        request.cost_milliseconds = np.array(milliseconds, "<f4").tobytes()
    answer = store_pb2.AdviseResponse()
    with closing(options.client_of(sidecar, data)) as client, progress() as bar:
        task = bar.add_task("replaying", total=None)
        for answer in client.advise(request):
            bar.update(task, total=answer.replays, completed=answer.replays_done)
    if as_json:
        print_json(_document(answer))
        return
    console = out()
    console.print(
        f"{answer.replays} replays of {answer.sequences} sequences, {answer.tokens} output tokens"
    )
    for one in answer.advice:
        gain = f"[bold]{one.then / one.now - 1:+.1%}[/]  " if one.now else ""
        console.print(f"{gain}{one.text}", soft_wrap=True)
        console.print(f"       {one.action}", style="dim", soft_wrap=True)


def _table(text: str) -> tuple[list[int], list[float]]:
    """Of `0:20,32:24`; raises InvalidInput."""
    from retrieval_draft.errors import InvalidInput

    try:
        pairs = [part.split(":") for part in text.split(",")]
        return [int(nodes) for nodes, _ in pairs], [float(ms) for _, ms in pairs]
    except ValueError:
        limit = "nodes:milliseconds, separated by commas, from 0 nodes up"
        raise InvalidInput("--cost", text, limit) from None


def _document(answer: object) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import Message

    assert isinstance(answer, Message)
    document: dict[str, object] = MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document
