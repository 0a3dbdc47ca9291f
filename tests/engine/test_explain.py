"""Explain: evidence as it can be counted by hand, and no trace of the question."""

import numpy as np
import pytest

from retrieval_draft.cli.drawing import source_names
from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput, NotFound
from retrieval_draft.explaining import explained
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.stores import Document
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import draft_pb2 as pb
from retrieval_draft.wire import decode_trees
from tests.engine.driving import (
    METHODS,
    NAMESPACE,
    TENANT,
    VOCAB,
    caller,
    learned,
    part,
    state_of,
    warm,
)


def ask(engine: Engine, tokens: list[int], **more: object) -> pb.ExplainResponse:
    options = pb.DraftOptions(nodes_max=8, method=str(more.pop("method", "")))
    request = pb.ExplainRequest(
        namespace=NAMESPACE,
        tokens=int32s(tokens).tobytes(),
        options=options,
        corpora=more.get("corpora", ()),  # type: ignore[arg-type]
    )
    return explained(engine, TENANT, request)


def evidence(answer: pb.ExplainResponse, token: int) -> dict[str, pb.Evidence]:
    """Of the node with this token below the root, by source."""
    (tree,) = decode_trees(answer.trees, "trees", 1)
    roots = np.flatnonzero((tree.parent < 0) & (tree.token == token))
    (node,) = [one for one in answer.nodes if one.node == int(roots[0])]
    return {source_names(one.source): one for one in node.evidence}


def test_orders_and_matches_of_the_context_are_its_counts(engine: Engine) -> None:
    text = [1, 2, 3, 9, 1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3]
    found = evidence(ask(engine, text), 9)
    orders = {name: one for name, one in found.items() if name.startswith("context order")}
    assert {name: (one.count, one.total) for name, one in orders.items()}["context order3"] == (
        2,
        3,
    )
    assert orders["context order1"].match_length == 1
    match = found["context match"]
    assert (match.match_length, match.count, match.total) == (3, 2, 3)
    assert match.probability == pytest.approx(2 / 3)


def test_what_other_sequences_taught_is_of_the_learned_tier(engine: Engine) -> None:
    calls = caller(engine)
    calls.step(part("s", 0, [5, 6, 7, 40], prompt=1))
    calls.step(part("s", 4, [41, 42], finished=True))
    learned(engine)
    found = evidence(ask(engine, [5, 6, 7]), 40)
    assert found["learned match"].match_length == 3
    assert (found["learned order3"].count, found["learned order3"].total) == (1, 1)
    assert found["learned recycling"].count == 1, "the first of what followed 7"
    assert not any(name.startswith("context") for name in found)


def test_a_corpus_says_in_which_document_and_where(engine: Engine) -> None:
    stores = engine.stores
    documents = [
        Document("one.txt", int32s([30, 31, 32, 33])),
        Document("two.txt", int32s([20, 20, 21, 22, 23, 24])),
        Document("three.txt", int32s([22, 23, 25])),
    ]
    stores.store_documents(TENANT, NAMESPACE, "books", documents)
    stores.publish(TENANT, NAMESPACE, "books")
    found = evidence(ask(engine, [9, 21, 22, 23], method="rest"), 24)["corpus"]
    assert (found.corpus, found.document, found.position) == ("books", "two.txt", 5)
    assert (found.match_length, found.count, found.total) == (3, 1, 1)
    other = evidence(ask(engine, [9, 9, 22, 23], method="rest"), 25)["corpus"]
    assert (other.document, other.position, other.total) == ("three.txt", 2, 2)
    with pytest.raises(InvalidInput, match="corpora is 'unknown'"):
        ask(engine, [1, 2], corpora=["unknown"])


@pytest.mark.parametrize("method", METHODS)
def test_it_leaves_no_trace(engine: Engine, method: str) -> None:
    calls = caller(engine)
    calls.step(part("s", 0, [1, 2, 3, 4, 1, 2, 3], prompt=2), method=method)
    warm(engine, "books", [1, 2, 3, 50, 51])
    learned(engine)
    state = state_of(engine)

    def trace() -> tuple[object, ...]:
        mixer = state.methods.mix
        arrays = [*mixer.state().values(), *mixer._common]
        bytes_ = b"".join(array.tobytes() for array in arrays)
        open_ = len(engine.clients.open_sequences())
        return state.learned.digest(), state.counters.counts(), bytes_, open_

    before = trace()
    answer = ask(engine, [7, 1, 2, 3], method=method)
    assert trace() == before
    (tree,) = decode_trees(answer.trees, "trees", 1)
    assert len(answer.nodes) == len(tree)
    assert ask(engine, [7, 1, 2, 3], method=method).trees == answer.trees


def test_the_tree_is_that_which_a_step_would_get(engine: Engine) -> None:
    warm(engine, "books", [1, 2, 3, 50, 51, 1, 2, 3, 60])
    (tree,) = decode_trees(ask(engine, [8, 1, 2, 3]).trees, "trees", 1)
    given = caller(engine).tree(part("s", 0, [8, 1, 2, 3], prompt=4), nodes_max=8)
    assert tree.token.tolist() == given.token.tolist()
    assert tree.probability.tolist() == given.probability.tolist()


def test_what_cannot_be_explained_says_why(engine: Engine) -> None:
    for tokens, said in (([], "tokens is '0 tokens'"), ([VOCAB], "tokens is 100"), ([-1], "-1")):
        with pytest.raises(InvalidInput, match=said):
            ask(engine, tokens)
    with pytest.raises(InvalidInput, match=r"options\.method is 'guess'"):
        ask(engine, [1], method="guess")
    with pytest.raises(NotFound):
        explained(engine, TENANT, pb.ExplainRequest(namespace="other", tokens=bytes(4)))
    engine.stores.create("other", NamespaceSpec("secret", VOCAB))
    with pytest.raises(NotFound):
        explained(engine, TENANT, pb.ExplainRequest(namespace="secret", tokens=bytes(4)))
