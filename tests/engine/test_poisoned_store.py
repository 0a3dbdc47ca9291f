"""Whatever stands in the store, drafts hold ids of the vocabulary and nothing is read out of bounds."""

import numpy as np
import pytest

from retrieval_draft.drafting.sight import Limits
from retrieval_draft.engine import Engine
from retrieval_draft.store.records import Block, BlockDocument, Record, document_digest
from retrieval_draft.tree import int32s
from tests.drafting.sights import broken_limit
from tests.engine.driving import METHODS, VOCAB, Caller, learned, part, state_of

WILD = [-2, VOCAB, 2**31 - 1, -(2**31)]


def document(*tokens: int) -> tuple[BlockDocument, bytes]:
    data = int32s(tokens).tobytes()
    return BlockDocument("d", document_digest(data), len(tokens)), data


@pytest.mark.parametrize("wild", WILD)
def test_a_document_with_ids_outside_the_vocabulary_is_left_out_of_its_corpus(
    engine: Engine, calls: Caller, wild: int, caplog: pytest.LogCaptureFixture
) -> None:
    documents = [document(1, 2, wild, 3), document(1, 2, 50, 51)]
    block = Block(tuple(d for d, _ in documents), b"".join(data for _, data in documents))
    backend, key = engine.stores.backend, state_of(engine).key
    backend.corpora.put_block(key, "red", block)
    engine.stores.publish("local", "code", "red")
    (corpus,) = state_of(engine).corpora(("red",))
    assert corpus.documents == 1
    assert "left out a document" in caplog.text
    for method in METHODS:
        tree = calls.tree(part(method, 0, [1, 2], prompt=2), method=method)
        assert not broken_limit(tree, Limits(nodes_max=32), VOCAB)
    assert calls.tree(part("s", 0, [1, 2], prompt=2)).token.tolist() == [50, 51]


@pytest.mark.parametrize("wild", WILD)
def test_records_with_ids_outside_the_vocabulary_teach_nothing(
    engine: Engine, calls: Caller, wild: int
) -> None:
    backend, key = engine.stores.backend, state_of(engine).key
    row = int32s([wild] * 10).tobytes()
    unknown = np.full(10, 255, np.uint8).tobytes()
    for number, record in enumerate(
        (
            Record(1, 0, tokens=int32s([1, wild, 2]).tobytes()),
            Record(2, 0, context=int32s([wild]).tobytes(), tokens=int32s([1, 2]).tobytes()),
            Record(
                3,
                0,
                row_contexts=int32s([-1, -1, -1, 1]).tobytes(),
                row_tokens=row,
                row_logprobs=unknown,
            ),
            Record(
                4,
                0,
                row_contexts=int32s([-1, -1, -1, wild]).tobytes(),
                row_tokens=int32s(range(10)).tobytes(),
                row_logprobs=unknown,
            ),
        )
    ):
        backend.append(key, record)
        assert learned(engine) == 0, number
    assert (state_of(engine).learned.recycling.successors == -1).all()
    for method in METHODS:
        tree = calls.tree(part(method, 0, [2, 1], prompt=2), method=method)
        assert len(tree) == 0
