"""`retrieval-draft draft`."""

import sys
import uuid
from contextlib import closing
from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, print_trimmed


@click.command()
@click.argument("text")
@options.namespace
@options.tokenizer
@options.method
@click.option("--nodes-max", default=16, show_default=True, help="Nodes of the tree.")
@click.option("--chain", is_flag=True, help="A chain instead of a tree.")
@options.sidecar
@options.data
@options.as_json
def draft(
    text: str,
    namespace: str,
    tokenizer: str | None,
    method: str,
    nodes_max: int,
    chain: bool,
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Draw the draft tree that TEXT (- for standard input) gets, with sources and probabilities.

    Nothing is learned from it.

    \b
    Example:
      retrieval-draft draft --namespace demo --tokenizer demo "def __init__(self,"
    """
    from retrieval_draft.cli.drawing import drawn, source_names
    from retrieval_draft.client import check_namespace
    from retrieval_draft.errors import InvalidInput, Unreachable
    from retrieval_draft.step import (
        DraftOptions,
        Learning,
        SequenceStart,
        SequenceStep,
        Status,
        StepRequest,
        TreeShape,
    )
    from retrieval_draft.tokenizer import fingerprint, load_tokenizer
    from retrieval_draft.tree import int32s

    if tokenizer is None:
        raise click.UsageError("--tokenizer is needed: tokens must be the model's own")
    loaded = load_tokenizer(tokenizer)
    text = sys.stdin.read() if text == "-" else text
    tokens = int32s(loaded.encode(text, add_special_tokens=False).ids)
    if not len(tokens):
        raise InvalidInput("text", text, "one token or more")
    client_id, shape = uuid.uuid4().hex, TreeShape.CHAIN if chain else TreeShape.TREE
    start = SequenceStart(prompt_length=len(tokens), learning=Learning.NONE)
    with closing(options.client_of(sidecar, data)) as client:
        wanted = DraftOptions(nodes_max=nodes_max, method=method, shape=shape)
        part = SequenceStep("draft", 0, tokens, start)
        client.send(StepRequest(1, namespace, client_id, [part], wanted))
        answer = client.receive(1, 10.0)
        if answer is None:
            raise Unreachable(f"{client.target} did not answer in 10 s")
        ended = SequenceStep("draft", len(tokens), tokens[:0], finished=True)
        client.send(StepRequest(2, namespace, client_id, [ended], wanted))
        client.receive(2, 1.0)
        found = client.get_namespace(namespace)
    # Tokens of another tokenizer would be drawn as nonsense.
    check_namespace(found, found.vocab_size, fingerprint(loaded))
    if answer.statuses[0] != Status.OK:
        problem = answer.problems[0]
        raise InvalidInput(problem.field, problem.value, problem.limit, problem.reason)
    tree = answer.trees[0]
    if as_json:
        nodes = [
            {
                "token": int(tree.token[i]),
                "text": loaded.decode([int(tree.token[i])]),
                "parent": int(tree.parent[i]),
                "probability": round(float(tree.probability[i]), 4),
                "sources": source_names(int(tree.source[i])),
            }
            for i in range(len(tree))
        ]
        print_json({"method": method, "draft_us": answer.draft_us, "nodes": nodes})
        return
    console = out()
    print_trimmed(drawn(tree, text[-24:], lambda token: loaded.decode([token])), console)
    expected = float(tree.probability.sum())
    console.print(
        f"{len(tree)} nodes by {method} in {answer.draft_us} us, {expected:.2f} accepted expected"
    )
