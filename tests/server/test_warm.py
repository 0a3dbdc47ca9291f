"""Warming: acknowledged when it is stored, drafted from when it says so, and stored once."""

from collections.abc import Iterable

import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.errors import DraftError, NotFound, ResourceExhausted
from retrieval_draft.step import SequenceStart
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import NAMESPACE, Caller, part
from tests.server.sidecars import STORE, RawCalls, connected, documents, running_sidecar

MEMORY = store_pb2.DURABILITY_MEMORY


def warmed(client: GrpcClient, *requests: store_pb2.WarmRequest) -> list[store_pb2.WarmProgress]:
    return list(client.warm(requests))


def drafted(client: GrpcClient, corpus: str, context: list[int]) -> list[int]:
    start = SequenceStart(0, corpora=(corpus,))
    tree = Caller(client).tree(
        part("s", 0, context, prompt=len(context), start=start), method="suffix"
    )
    return [int(token) for token in tree.token]


def test_each_message_is_acknowledged_and_the_last_answer_says_that_drafts_use_it(
    client: GrpcClient,
) -> None:
    answers = warmed(
        client,
        documents([1, 2, 3, 4], [5, 6], corpus="a"),
        documents([7, 8, 9], corpus="a"),
    )
    assert [(a.documents, a.tokens, a.documents_known, a.ready) for a in answers] == [
        (2, 6, 0, False),
        (3, 9, 0, False),
        (3, 9, 0, True),
    ]
    assert {a.durability for a in answers} == {MEMORY}
    assert (answers[-1].corpus_documents, answers[-1].corpus_tokens) == (3, 9)
    assert drafted(client, "a", [1, 2]) == [3, 4]


def test_documents_that_are_known_are_not_stored_again(client: GrpcClient) -> None:
    texts: list[list[int]] = [[1, 2, 3], [4, 5], [4, 5], []]
    (first, _) = warmed(client, documents(*texts, corpus="b"))
    assert (first.documents, first.documents_known) == (4, 2)
    (again, last) = warmed(client, documents(*texts, corpus="b"))
    assert (again.documents, again.documents_known) == (4, 4)
    assert (last.corpus_documents, last.corpus_tokens) == (2, 5)
    (more, last) = warmed(client, documents([1, 2, 3], [6, 7], corpus="b"))
    assert (more.documents_known, last.corpus_documents) == (1, 3)


@pytest.mark.parametrize("token", [-1, 100, 2**31 - 1])
def test_a_document_with_a_wrong_id_is_refused_and_nothing_of_its_message_is_stored(
    client: GrpcClient, token: int
) -> None:
    with pytest.raises(DraftError, match=f"tokens is {token}, the limit is 0 to 99"):
        warmed(client, documents([1, 2], [3, token], corpus="c"))
    assert "c" not in [corpus.corpus for corpus in listed(client)]


def test_what_was_acknowledged_before_an_error_stays_stored(client: GrpcClient) -> None:
    with pytest.raises(DraftError, match="tokens is 100"):
        warmed(client, documents([1, 2], corpus="d"), documents([100], corpus="d"))
    (again, _) = warmed(client, documents([1, 2], corpus="d"))
    assert again.documents_known == 1


def test_an_empty_stream_is_refused(client: GrpcClient) -> None:
    with pytest.raises(DraftError, match="at least one WarmRequest"):
        warmed(client)


def test_a_stream_without_a_document_is_refused(client: GrpcClient) -> None:
    with pytest.raises(NotFound, match="corpus 'e' has no documents"):
        warmed(client, documents(corpus="e"))


def change(**fields: object) -> store_pb2.WarmRequest:
    request = documents([1, 2], [3], corpus="f")
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(request, name)[:] = value
        else:
            setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (change(document_offsets=b""), "document_offsets is '0 entries'"),
        (change(document_offsets=int32s([0, 2]).tobytes()), "document_offsets is '0..2'"),
        (change(document_offsets=int32s([0, 3, 2, 3]).tobytes()), "ascending from 0 to 3"),
        (change(tokens=bytes(5)), "tokens is '5 bytes', it must be a multiple of 4"),
        (change(document_names=["one"]), "document_names is '1 names', the limit is 2 names"),
        (change(document_names=["one", "n" * 1025]), "document_names"),
        (change(corpus=""), "corpus is ''"),
        (change(corpus="a b"), "corpus is 'a b'"),
        (change(namespace=""), "namespace is ''"),
        (change(namespace="unknown"), "namespace 'unknown' does not exist"),
    ],
)
def test_wrong_messages_are_refused_by_name(
    client: GrpcClient, request_: store_pb2.WarmRequest, said: str
) -> None:
    with pytest.raises(DraftError) as caught:
        warmed(client, request_)
    assert said in str(caught.value)
    assert caught.value.status in ("INVALID_ARGUMENT", "NOT_FOUND")


def test_one_stream_warms_one_corpus(client: GrpcClient) -> None:
    with pytest.raises(DraftError, match=f"{NAMESPACE}/h.*{NAMESPACE}/g, as in the stream's first"):
        warmed(client, documents([1], corpus="g"), documents([1], corpus="h"))


def test_a_corpus_can_be_listed_and_deleted(client: GrpcClient, raw: RawCalls) -> None:
    warmed(client, documents([1, 2, 3, 50], corpus="i"))
    (found,) = [corpus for corpus in listed(client) if corpus.corpus == "i"]
    assert (found.documents, found.tokens, found.segments) == (1, 4, 1)
    request = store_pb2.DeleteCorpusRequest(namespace=NAMESPACE, corpus="i")
    assert raw.send(STORE, "DeleteCorpus", request).status == "OK"
    assert "i" not in [corpus.corpus for corpus in listed(client)]
    answer = raw.send(STORE, "DeleteCorpus", request)
    assert answer.status == "NOT_FOUND"


def test_a_corpus_is_bounded() -> None:
    with (
        running_sidecar(Config(corpus_tokens_max=6)) as sidecar,
        connected(sidecar.targets[0]) as client,
    ):
        warmed(client, documents([1, 2, 3], [4, 5, 6]))
        with pytest.raises(ResourceExhausted, match="would have 7 tokens, the limit is 6"):
            warmed(client, documents([7]))
        assert drafted(client, "books", [1, 2]) == [3]


def test_what_arrives_in_pieces_is_drafted_from_while_steps_go_on(
    client: GrpcClient,
) -> None:
    calls = Caller(client)
    calls.step(part("s", 0, [1, 2], prompt=2))

    def pieces() -> Iterable[store_pb2.WarmRequest]:
        for number in range(5):
            answer = calls.step(part("s", 2 + number, [number]))
            assert answer.statuses == [1]
            yield documents([20 + number, 30, 40 + number], corpus="j")

    assert [a.documents for a in client.warm(pieces())] == [1, 2, 3, 4, 5, 5]
    assert drafted(client, "j", [22, 30]) == [42]


def listed(client: GrpcClient) -> list[store_pb2.Corpus]:
    return list(client.stats(NAMESPACE).namespaces[0].corpora)
