"""Warming a sidecar: once, again, interrupted anywhere, and more slowly than it is fed."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from retrieval_draft.client import GrpcClient, ensure_namespace
from retrieval_draft.config import Config
from retrieval_draft.errors import DraftError, NotFound, Unreachable
from retrieval_draft.store.records import document_digest
from retrieval_draft.tokenizer import fingerprint, load_tokenizer, model_vocab_size, vocab_size
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2 as pb
from retrieval_draft.warming import sending, tokenising
from retrieval_draft.warming.digests import Digests, Tokenised, text_digest
from retrieval_draft.warming.documents import Document, Ids, Text
from retrieval_draft.warming.estimating import estimate
from retrieval_draft.warming.sending import UNACKNOWLEDGED_MAX, Warmed, warm
from tests.server.sidecars import connected, running_sidecar

NAMESPACE = "warming"
TEXTS: list[Document] = [Text(f"{i}.txt", f"def f{i}(x):\n    return x + {i}\n") for i in range(60)]
DOCUMENTS = [*TEXTS, Ids("ids", int32s([5, 6, 7])), Text("empty", ""), Text("copy", "def f0")]
ROUNDS = 50


@pytest.fixture(scope="module")
def client() -> Iterator[GrpcClient]:
    with running_sidecar(Config()) as sidecar, connected(sidecar.targets[0]) as ready:
        wanted = pb.CreateNamespaceRequest(namespace=NAMESPACE, vocab_size=4096)
        ensure_namespace(ready, wanted)
        yield ready


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("demo")


@pytest.fixture
def digests(tmp_path: Path, tokenizer: Tokenizer) -> Iterator[Digests]:
    kept = Digests(tmp_path, fingerprint(tokenizer))
    yield kept
    kept.close()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches and messages of few documents, as large sources would have."""
    monkeypatch.setattr(tokenising, "BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(sending, "MESSAGE_DOCUMENTS", 3)


class Counting:
    """Documents as they are read, ended by an error or by a request to stop at one of them."""

    def __init__(self, stop_at: int = -1, fail_at: int = -1) -> None:
        self.read, self.stop = 0, threading.Event()
        self._stop_at, self._fail_at = stop_at, fail_at

    def __iter__(self) -> Iterator[Document]:
        for number, document in enumerate(DOCUMENTS):
            if number == self._fail_at:
                raise OSError("the disk is gone")
            if number == self._stop_at:
                self.stop.set()
            self.read += 1
            yield document


def content(client: GrpcClient, corpus: str, tokenizer: Tokenizer) -> tuple[int, int, int]:
    """The corpus: how many of all documents it has, and its own count of documents and tokens."""
    encodings = (tokenizer.encode(one.text).ids for one in DOCUMENTS if isinstance(one, Text))
    all_of = [document_digest(int32s(ids).tobytes()) for ids in (*encodings, [5, 6, 7]) if ids]
    known = sum(client.known_documents(NAMESPACE, corpus, all_of))
    corpora = client.stats(NAMESPACE).namespaces[0].corpora
    documents, tokens = next(
        ((one.documents, one.tokens) for one in corpora if one.corpus == corpus), (0, 0)
    )
    return known, documents, tokens


def test_a_repeated_warming_sends_nothing_and_tokenises_nothing(
    client: GrpcClient, tokenizer: Tokenizer, digests: Digests
) -> None:
    first = warm(client, NAMESPACE, "again", DOCUMENTS, tokenizer, digests)
    assert (first.documents, first.documents_sent) == (63, 63)
    assert first.documents_known == 1  # the empty one, which is never stored
    assert first.corpus_documents == 62
    again = warm(client, NAMESPACE, "again", DOCUMENTS, tokenizer, digests)
    assert (again.documents, again.tokens) == (first.documents, first.tokens)
    assert (again.tokenised.tokens, again.documents_sent) == (0, 1)
    assert again.documents_known == 63
    assert (again.corpus_documents, again.corpus_tokens) == (62, first.corpus_tokens)


def test_without_what_is_remembered_it_is_sent_and_not_stored(
    client: GrpcClient, tokenizer: Tokenizer
) -> None:
    first = warm(client, NAMESPACE, "forgetful", DOCUMENTS, tokenizer)
    again = warm(client, NAMESPACE, "forgetful", DOCUMENTS, tokenizer)
    assert again.documents_known == 63
    assert again.documents_sent == 62  # ids need no tokenising to be known
    assert again.corpus_tokens == first.corpus_tokens


def test_what_is_remembered_does_not_stand_for_the_sidecar(
    client: GrpcClient, tokenizer: Tokenizer, digests: Digests
) -> None:
    one = warm(client, NAMESPACE, "one", TEXTS, tokenizer, digests)
    other = warm(client, NAMESPACE, "other", TEXTS, tokenizer, digests)
    assert (other.documents_sent, other.documents_known) == (60, 0)
    assert other.corpus_tokens == one.corpus_tokens


@pytest.mark.parametrize("kind", ["stopped", "failed"])
def test_interrupted_anywhere_and_repeated_the_corpus_is_the_same(
    client: GrpcClient, tokenizer: Tokenizer, digests: Digests, kind: str
) -> None:
    warm(client, NAMESPACE, "whole", DOCUMENTS, tokenizer)
    whole = content(client, "whole", tokenizer)
    assert whole[:2] == (62, 62)
    dice = np.random.default_rng(5)
    lengths = set()
    for number in range(ROUNDS // 2):
        corpus, at = f"{kind}-{number}", int(dice.integers(len(DOCUMENTS)))
        if kind == "stopped":
            source = Counting(stop_at=at)
            warmed = warm(client, NAMESPACE, corpus, source, tokenizer, digests, source.stop)
            assert warmed.is_interrupted
            assert at < source.read < len(DOCUMENTS) or at >= len(DOCUMENTS) - 7
            assert content(client, corpus, tokenizer)[1] == warmed.corpus_documents
        else:
            with pytest.raises(OSError, match="disk"):
                warm(client, NAMESPACE, corpus, Counting(fail_at=at), tokenizer, digests)
        lengths.add(content(client, corpus, tokenizer)[0])
        warm(client, NAMESPACE, corpus, DOCUMENTS, tokenizer, digests)
        assert content(client, corpus, tokenizer) == whole
    assert len(lengths) > 3


def test_no_more_than_a_few_messages_wait_for_their_acknowledgement(
    tokenizer: Tokenizer,
) -> None:
    class Slow(GrpcClient):
        """Takes what it is given at once, and acknowledges when nothing more comes."""

        def __init__(self) -> None:
            super().__init__("unix:/nowhere")
            self.unacknowledged: list[int] = []

        def known_documents(self, namespace: str, corpus: str, digests: object) -> list[bool]:
            return [False]  # only the document that came as ids is asked for

        def warm(self, requests: object) -> Iterator[pb.WarmProgress]:
            feed = iter(requests)  # type: ignore[call-overload]
            taken: list[pb.WarmRequest] = []
            # As gRPC does: a thread of its own takes what there is.
            thread = threading.Thread(target=lambda: taken.extend(feed))
            thread.start()
            acknowledged = 0
            while thread.is_alive() or acknowledged < len(taken):
                thread.join(0.02)
                if acknowledged < len(taken):
                    self.unacknowledged.append(len(taken) - acknowledged)
                    acknowledged += 1
                    yield pb.WarmProgress(documents=acknowledged)

    slow = Slow()
    warmed = warm(slow, NAMESPACE, "slow", TEXTS[:40], tokenizer)
    assert warmed.documents == 40
    assert max(slow.unacknowledged) == UNACKNOWLEDGED_MAX
    assert len(slow.unacknowledged) == 17  # batches of 7, messages of 3: 5 x (3, 3, 1) and (3, 2)


def test_messages_are_bounded_in_tokens(
    client: GrpcClient, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MESSAGE_TOKENS", 10)
    sent: list[int] = []

    class Watching(GrpcClient):
        def warm(self, requests: object) -> Iterator[pb.WarmProgress]:
            def watched() -> Iterator[pb.WarmRequest]:
                for request in requests:  # type: ignore[attr-defined]
                    sent.append(len(request.tokens) // 4)
                    yield request

            return super().warm(watched())

    watching = Watching(client.target)
    documents = [Ids(str(n), int32s([n] * n)) for n in (4, 6, 1, 30, 9, 2)]
    warm(watching, NAMESPACE, "bounded", documents, tokenizer)
    watching.close()
    assert sent == [10, 1, 30, 9, 2]


def test_a_sidecar_that_goes_away_is_named_and_nothing_hangs(tokenizer: Tokenizer) -> None:
    with running_sidecar(Config()) as sidecar, connected(sidecar.targets[0]) as client:
        wanted = pb.CreateNamespaceRequest(namespace=NAMESPACE, vocab_size=4096)
        ensure_namespace(client, wanted)

        def failing() -> Iterator[Document]:
            yield from DOCUMENTS[:20]
            sidecar.stop()
            yield from DOCUMENTS[20:]

        with pytest.raises(Unreachable):
            warm(client, NAMESPACE, "gone", failing(), tokenizer)


def test_without_documents_nothing_is_sent(client: GrpcClient, tokenizer: Tokenizer) -> None:
    assert warm(client, NAMESPACE, "nothing", [], tokenizer) == Warmed()
    with pytest.raises(NotFound, match="nowhere"):
        warm(client, "nowhere", "x", DOCUMENTS, tokenizer)


def test_too_many_digests_are_refused(client: GrpcClient) -> None:
    with pytest.raises(DraftError, match="digests"):
        client.known_documents(NAMESPACE, "x", [b""] * ((1 << 16) + 1))
    assert client.known_documents(NAMESPACE, "nocorpus", [b"1" * 16]) == [False]


def test_an_estimate_needs_no_sidecar(tokenizer: Tokenizer, client: GrpcClient) -> None:
    counted = estimate(DOCUMENTS, tokenizer, threading.Event())
    warmed = warm(client, NAMESPACE, "estimated", DOCUMENTS, tokenizer)
    assert (counted.documents, counted.tokens) == (warmed.documents, warmed.tokens)
    assert counted.tokenised.tokens == counted.tokens - 3


def test_digests_survive_their_process_and_damage(tmp_path: Path) -> None:
    keys = [text_digest("a"), text_digest("b")]
    became = [Tokenised(b"1" * 16, 3), Tokenised(b"2" * 16, 0)]
    kept = Digests(tmp_path, "f")
    kept.keep(keys, became)
    assert kept.find([keys[1], b"none", keys[0]]) == [became[1], None, became[0]]
    kept.close()
    again = Digests(tmp_path, "f")
    assert again.find(keys) == became
    again.close()
    other = Digests(tmp_path, "another tokenizer")
    assert other.find(keys) == [None, None]
    other.close()
    (file,) = tmp_path.glob("texts-f*.sqlite")
    file.write_bytes(b"no database" * 1000)
    damaged = Digests(tmp_path, "f")
    damaged.keep(keys, became)
    assert damaged.find(keys) == [None, None]
    damaged.close()
    nowhere = Digests(file / "below a file", "f")
    assert nowhere.find(keys) == [None, None]


def test_a_models_configuration_may_have_more_rows_than_its_tokenizer(tmp_path: Path) -> None:
    demo = load_tokenizer("demo")
    assert model_vocab_size("demo", demo) == vocab_size(demo) == 4096
    assert model_vocab_size(tmp_path, demo) == 4096
    for config, expected in (({"vocab_size": 5000}, 5000), ({"vocab_size": 9}, 4096)):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert model_vocab_size(tmp_path, demo) == expected
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 6000}}))
    assert model_vocab_size(tmp_path / "tokenizer.json", demo) == 6000
