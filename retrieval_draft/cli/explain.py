"""`retrieval-draft explain`."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, print_trimmed

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from retrieval_draft.tree import Int32Array
    from retrieval_draft.v1 import draft_pb2 as pb


@click.command()
@click.argument("text", required=False)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The context is this file's text, instead of TEXT.",
)
@click.option("--tokens", metavar="IDS", help="The context as token ids: 5,17,3.")
@options.namespace
@options.tokenizer
@options.method
@click.option("--nodes-max", default=16, show_default=True, help="Nodes of the tree.")
@click.option("--chain", is_flag=True, help="A chain instead of a tree.")
@click.option("--corpus", multiple=True, metavar="NAME", help="Only these corpora.  [default: all]")
@options.sidecar
@options.data
@options.as_json
def explain(
    text: str | None,
    file: Path | None,
    tokens: str | None,
    namespace: str,
    tokenizer: str | None,
    method: str,
    nodes_max: int,
    chain: bool,
    corpus: tuple[str, ...],
    sidecar: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show the draft tree of one context, and below every node what each source says of it.

    The context is TEXT (- for standard input), --file, or --tokens. It leaves no trace in the sidecar:
    nothing is learned or counted.

    \b
    context order4  6/7 after 4    six of the seven times that these four tokens stood in this
                                   sequence, the node's token followed
    learned match   2/3 after 24   two of the three places with the longest agreement, of 24 tokens
    recycling       rank 1 of 8    the likeliest successor that the target has shown for the token
    corpus          3/3 after 12   and where the longest agreement stands: corpus, document, token
    order0                         frequent, whatever came before
    The number before the sources is the calibrated probability that the whole path is accepted.

    \b
    Example:
      retrieval-draft explain --namespace demo --tokenizer demo "def __init__(self,"
    """
    from retrieval_draft.client import check_namespace
    from retrieval_draft.tokenizer import fingerprint, load_tokenizer
    from retrieval_draft.v1 import draft_pb2

    if sum(one is not None for one in (text, file, tokens)) != 1:
        raise click.UsageError("give one of TEXT, --file and --tokens")
    if tokenizer is None and tokens is None:
        raise click.UsageError("--tokenizer is needed: tokens must be the model's own")
    loaded = load_tokenizer(tokenizer) if tokenizer is not None else None
    context = _context(text, file, tokens, loaded)
    shape = draft_pb2.TREE_SHAPE_CHAIN if chain else draft_pb2.TREE_SHAPE_TREE
    request = draft_pb2.ExplainRequest(
        namespace=namespace,
        tokens=context.tobytes(),
        options=draft_pb2.DraftOptions(nodes_max=nodes_max, method=method, shape=shape),
        corpora=corpus,
    )
    with closing(options.client_of(sidecar, data)) as client:
        if loaded is not None:
            # Tokens of another tokenizer would be explained as nonsense.
            found = client.get_namespace(namespace)
            check_namespace(found, found.vocab_size, fingerprint(loaded))
        answer = client.explain(request)
    if as_json:
        print_json(_document(answer, loaded))
    else:
        _draw(answer, context, loaded, method)


def _context(
    text: str | None, file: Path | None, tokens: str | None, loaded: "Tokenizer | None"
) -> "Int32Array":
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.tree import int32s

    if tokens is not None:
        try:
            ids = [int(one) for one in tokens.replace(",", " ").split()]
        except ValueError:
            raise InvalidInput("--tokens", tokens, "numbers, separated by commas") from None
    else:
        assert loaded is not None
        if file is not None:
            text = file.read_text(encoding="utf-8", errors="replace")
        elif text == "-":
            text = sys.stdin.read()
        ids = loaded.encode(text or "", add_special_tokens=False).ids
    if not ids:
        raise InvalidInput("context", text or tokens, "one token or more")
    if not all(0 <= one < 1 << 31 for one in ids):
        raise InvalidInput("--tokens", tokens, f"0 to {(1 << 31) - 1} each")
    return int32s(ids)


def _draw(
    answer: "pb.ExplainResponse", context: "Int32Array", loaded: "Tokenizer | None", method: str
) -> None:
    from rich.markup import escape
    from rich.tree import Tree

    from retrieval_draft.cli.drawing import source_names, visible
    from retrieval_draft.wire import decode_trees

    (tree,) = decode_trees(answer.trees, "trees", 1)
    console = out()
    root = Tree(f"[dim]…{escape(visible(_text(loaded, context[-12:].tolist())))}[/]")
    branches: dict[int, Tree] = {-1: root}
    evidence = {one.node: one.evidence for one in answer.nodes}
    for node, parent in enumerate(tree.parent.tolist()):
        text = escape(visible(_text(loaded, [int(tree.token[node])])))
        said = "".join(f"\n[dim]  {escape(_said(one))}[/]" for one in evidence.get(node, ()))
        named = source_names(int(tree.source[node]))
        label = f"[bold]{text}[/]  {float(tree.probability[node]):.2f}  [dim]{named}[/]{said}"
        branches[node] = branches[parent].add(label)
    print_trimmed(root, console)
    expected = float(tree.probability.sum())
    console.print(
        f"{len(tree)} nodes by {method} in {answer.draft_us} us, {expected:.2f} accepted expected; "
        f"the context's end agrees over {answer.match_length} tokens with what was seen before"
    )


def _said(one: "pb.Evidence") -> str:
    from retrieval_draft.cli.drawing import source_names

    name = f"{source_names(one.source):<18}"
    if "recycling" in name:
        likely = f"  {one.probability:.2f}" if one.probability else ""
        return f"{name} rank {one.count:.0f} of {one.total:.0f}{likely}"
    text = f"{name} {one.count:.4g}/{one.total:.4g} after {one.match_length}"
    if one.position >= 0:
        text += f"   in {one.corpus}: {one.document or 'a document'}, token {one.position}"
    return text


def _text(loaded: "Tokenizer | None", ids: list[int]) -> str:
    if loaded is None:
        return " ".join(map(str, ids))
    text: str = loaded.decode(ids)
    return text


def _document(answer: "pb.ExplainResponse", loaded: "Tokenizer | None") -> dict[str, object]:
    from retrieval_draft.cli.drawing import source_names
    from retrieval_draft.wire import decode_trees

    (tree,) = decode_trees(answer.trees, "trees", 1)
    evidence = {one.node: one.evidence for one in answer.nodes}
    nodes = [
        {
            "token": int(tree.token[i]),
            "text": _text(loaded, [int(tree.token[i])]) if loaded else None,
            "parent": int(tree.parent[i]),
            "probability": round(float(tree.probability[i]), 4),
            "sources": source_names(int(tree.source[i])),
            "evidence": [
                {
                    "source": source_names(one.source),
                    "match_length": one.match_length,
                    "count": one.count,
                    "total": one.total,
                    "probability": round(one.probability, 4),
                    **(
                        {"corpus": one.corpus, "document": one.document, "position": one.position}
                        if one.position >= 0
                        else {}
                    ),
                }
                for one in evidence.get(i, ())
            ],
        }
        for i in range(len(tree))
    ]
    return {"match_length": answer.match_length, "draft_us": answer.draft_us, "nodes": nodes}
