"""A namespace that somebody else made, having said less or more about it, is still the model's own."""

from collections.abc import Iterator

import pytest

from retrieval_draft.client import ensure_namespace
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.tree import int32s
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest

WARMED = CreateNamespaceRequest(namespace="n", vocab_size=64, tokenizer_fingerprint="abc")


@pytest.fixture
def client() -> Iterator[EngineClient]:
    engine = Engine(MemoryBackend())
    engine.start("test")
    client = EngineClient(engine)
    client.create_namespace(WARMED)
    yield client
    engine.stop()


def test_one_that_is_missing_is_made(client: EngineClient) -> None:
    made = ensure_namespace(client, CreateNamespaceRequest(namespace="new", vocab_size=8))
    assert (made.namespace, made.vocab_size) == ("new", 8)


@pytest.mark.parametrize("fingerprint", ["abc", ""])
def test_a_worker_may_use_what_warm_has_made(client: EngineClient, fingerprint: str) -> None:
    wanted = CreateNamespaceRequest(
        namespace="n",
        vocab_size=64,
        tokenizer_fingerprint=fingerprint,
        end_tokens=int32s([3]).tobytes(),
    )
    assert ensure_namespace(client, wanted).tokenizer_fingerprint == "abc"


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (CreateNamespaceRequest(namespace="n", vocab_size=65), "vocabulary of 64"),
        (
            CreateNamespaceRequest(namespace="n", vocab_size=64, tokenizer_fingerprint="xyz"),
            "another tokenizer",
        ),
    ],
)
def test_one_of_other_tokens_is_refused(
    client: EngineClient, wanted: CreateNamespaceRequest, named: str
) -> None:
    with pytest.raises(FailedPrecondition, match=named):
        ensure_namespace(client, wanted)


def test_a_model_may_pad_the_vocabulary_of_its_tokenizer(client: EngineClient) -> None:
    """Equal fingerprints are equal ids, and what lies beyond the tokenizer is checked token by token."""
    for size in (63, 65):
        wanted = CreateNamespaceRequest(namespace="n", vocab_size=size, tokenizer_fingerprint="abc")
        assert ensure_namespace(client, wanted).vocab_size == 64
