"""Every RPC has a row: what it gives its own tenant, and that it gives another nothing of it.

The RPCs are found by reflection of a running sidecar, so that a new one without a row fails. Assertions come
in pairs, a hit of the owner and a miss of the other, both read from counters: "nothing leaks" alone would
hold for a call that does nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from retrieval_draft.config import Config
from retrieval_draft.credentials import Credentials
from retrieval_draft.step import DraftOptions, StepRequest
from retrieval_draft.store.records import document_digest
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import draft_pb2, store_pb2
from retrieval_draft.wire import decode_response, encode_request
from tests.engine.driving import NAMESPACE, part
from tests.server.sidecars import DRAFT, STORE, Answer, RawCalls
from tests.server.tenancy import tenancy
from tests.server.world import World, deleted, exported, kept, served

CANARY = [70, 71, 72, 73, 74]
"""Warmed by the owner alone, and asked for by both."""
CORPUS = "books"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tenancy(Config(learned_bytes_max=1 << 20)) as running, ExitStack() as stack:
        owner, other = (
            stack.enter_context(running.raw(running.credentials(name))) for name in running.tokens
        )
        made = World(running, owner, other)
        for calls in (owner, other):
            made.make(calls, NAMESPACE)
            made.warm(calls, "shared-name", [1, 2, 3])
        made.warm(owner, CORPUS, CANARY)
        yield made


# Rows: `OWNER` and `OTHER` are told apart by what they get, never by what they ask.


def steps(streaming: bool) -> Callable[[World], None]:
    """Both ask for the canary's continuation, and then commit it."""

    def act(world: World, calls: RawCalls) -> list[int]:
        client = f"matrix-{streaming}"
        options = DraftOptions(nodes_max=8, method="rest")
        asked = part("s", 0, CANARY[:2], prompt=2)
        told = part("s", 2, CANARY[2:], verified_step=1, finished=True)
        messages = [
            encode_request(StepRequest(i, NAMESPACE, client, [one], options))
            for i, one in enumerate((asked, told), start=1)
        ]
        if streaming:
            data = [message.SerializeToString() for message in messages]
            answers = list(calls.stream(DRAFT, "DraftStream", *data).data)
        else:
            answers = [world.ok(calls, DRAFT, "Draft", message) for message in messages]
        assert len(answers) == 2
        first = decode_response(draft_pb2.DraftResponse.FromString(answers[0]), 1)
        tokens: list[int] = first.trees[0].token.tolist()
        return tokens

    def row(world: World) -> None:
        before = world.corpus_hits(world.owner), world.corpus_hits(world.other)
        mine, others = act(world, world.owner), act(world, world.other)
        after = world.corpus_hits(world.owner), world.corpus_hits(world.other)
        assert CANARY[2] in mine
        assert not set(others) & set(CANARY)
        hits = [now[1] - then[1] for then, now in zip(before, after, strict=True)]
        counted = [now[0] - then[0] for then, now in zip(before, after, strict=True)]
        assert hits == [1, 0]
        assert min(counted) >= 1, "the other's step was counted, too"

    return row


def counted(world: World, calls: RawCalls) -> list[int]:
    """What a step or a sequence would change at once; what was journalled before may still come back."""
    found = world.stats(calls)
    timed = sum(timing.count for timing in found.timings)
    return [found.steps, found.drafted_steps, found.sequences, found.rejected, timed]


def explain(world: World) -> None:
    """The owner's corpus stands in the owner's evidence, and in nobody else's."""
    request = draft_pb2.ExplainRequest(
        namespace=NAMESPACE,
        tokens=int32s(CANARY[:2]).tobytes(),
        options=draft_pb2.DraftOptions(nodes_max=8, method="rest"),
    )
    seen = []
    for calls in (world.owner, world.other):
        before = counted(world, calls)
        answer = world.ok(calls, DRAFT, "Explain", request)
        nodes = draft_pb2.ExplainResponse.FromString(answer).nodes
        seen.append({one.corpus for node in nodes for one in node.evidence} - {""})
        assert counted(world, calls) == before
    assert seen == [{CORPUS}, set()]
    named = draft_pb2.ExplainRequest(
        namespace=NAMESPACE, tokens=int32s([1]).tobytes(), corpora=[CORPUS]
    )
    statuses = [
        world.status(calls, DRAFT, "Explain", named) for calls in (world.owner, world.other)
    ]
    assert statuses == ["OK", "INVALID_ARGUMENT"]


def finish_sequences(world: World) -> None:
    request = draft_pb2.FinishSequencesRequest(
        namespace=NAMESPACE, client_id="finish", sequence_ids=["s"]
    )
    opening = encode_request(StepRequest(1, NAMESPACE, "finish", [part("s", 0, [1, 2], prompt=2)]))
    before = world.stats(world.owner).sequences
    world.ok(world.owner, DRAFT, "Draft", opening)
    counts = []
    for calls in (world.other, world.owner):
        answer = world.ok(calls, DRAFT, "FinishSequences", request)
        counts.append(draft_pb2.FinishSequencesResponse.FromString(answer).finished)
        counts.append(world.stats(world.owner).sequences - before)
    assert counts == [0, 1, 1, 0]


def server_info(world: World) -> None:
    request = draft_pb2.GetServerInfoRequest()
    answers = {
        world.ok(calls, DRAFT, "GetServerInfo", request) for calls in (world.owner, world.other)
    }
    (same,) = answers
    assert not any(name.encode() in same for name in (*world.tenancy.tokens, NAMESPACE, CORPUS))


def create_namespace(world: World) -> None:
    """A name that another tenant took is free, and says nothing about the other's."""
    assert world.make(world.owner, "made", 50).vocab_size == 50
    assert world.make(world.other, "made", 60).vocab_size == 60
    differing = store_pb2.CreateNamespaceRequest(namespace="made", vocab_size=61)
    assert world.status(world.other, STORE, "CreateNamespace", differing) == "ALREADY_EXISTS"
    assert world.make(world.owner, "made", 50).vocab_size == 50
    for calls in (world.owner, world.other):
        request = store_pb2.DeleteNamespaceRequest(namespace="made")
        world.ok(calls, STORE, "DeleteNamespace", request)


def get_namespace(world: World) -> None:
    world.make(world.owner, "mine")
    request = store_pb2.GetNamespaceRequest(namespace="mine")
    assert world.status(world.owner, STORE, "GetNamespace", request) == "OK"
    assert world.status(world.other, STORE, "GetNamespace", request) == "NOT_FOUND"


def list_namespaces(world: World) -> None:
    world.make(world.owner, "listed")
    assert "listed" in world.names(world.owner)
    assert world.names(world.other) == {NAMESPACE}


def delete_namespace(world: World) -> None:
    world.make(world.owner, "doomed")
    request = store_pb2.DeleteNamespaceRequest(namespace="doomed")
    assert world.status(world.other, STORE, "DeleteNamespace", request) == "NOT_FOUND"
    assert "doomed" in world.names(world.owner)
    assert world.status(world.owner, STORE, "DeleteNamespace", request) == "OK"
    assert "doomed" not in world.names(world.owner)


def warm(world: World) -> None:
    """Also that the other's documents are known to the other alone: no oracle for what is stored."""
    before = world.corpora(world.other)
    assert world.warm(world.owner, "warmed", [40, 41, 42]).documents_known == 0
    assert world.corpora(world.owner)["warmed"] == 3
    assert world.corpora(world.other) == before
    assert world.warm(world.owner, "warmed", [40, 41, 42]).documents_known == 1
    assert world.warm(world.other, "warmed", [40, 41, 42]).documents_known == 0
    request = store_pb2.DeleteCorpusRequest(namespace=NAMESPACE, corpus="warmed")
    for calls in (world.owner, world.other):
        world.ok(calls, STORE, "DeleteCorpus", request)


def known_documents(world: World) -> None:
    """What a corpus holds is told to its own tenant alone."""
    digests = [document_digest(int32s(CANARY).tobytes()), b"unknown document"]
    request = store_pb2.KnownDocumentsRequest(namespace=NAMESPACE, corpus=CORPUS, digests=digests)
    answers = [
        store_pb2.KnownDocumentsResponse.FromString(
            world.ok(calls, STORE, "KnownDocuments", request)
        ).known
        for calls in (world.owner, world.other)
    ]
    assert answers == [b"\1\0", b"\0\0"]


def list_corpora(world: World) -> None:
    assert world.corpora(world.owner) == {CORPUS: len(CANARY), "shared-name": 3}
    assert world.corpora(world.other) == {"shared-name": 3}


def delete_corpus(world: World) -> None:
    world.warm(world.owner, "doomed", [50, 51])
    request = store_pb2.DeleteCorpusRequest(namespace=NAMESPACE, corpus="doomed")
    assert world.status(world.other, STORE, "DeleteCorpus", request) == "NOT_FOUND"
    assert "doomed" in world.corpora(world.owner)
    assert world.status(world.owner, STORE, "DeleteCorpus", request) == "OK"


def compact_corpus(world: World) -> None:
    world.warm(world.owner, "compacted", [50, 51])
    request = store_pb2.CompactCorpusRequest(namespace=NAMESPACE, corpus="compacted")
    assert world.status(world.other, STORE, "CompactCorpus", request) == "NOT_FOUND"
    answer = world.ok(world.owner, STORE, "CompactCorpus", request)
    assert store_pb2.CompactCorpusResponse.FromString(answer).corpus.tokens == 2
    assert "compacted" not in world.corpora(world.other)


def get_stats(world: World) -> None:
    """Of this replica and of the fleet."""
    world.make(world.owner, "counted")
    for is_fleet in (False, True):
        everything = store_pb2.GetStatsRequest(fleet=is_fleet, digest=not is_fleet)
        seen = [
            {n.namespace for n in store_pb2.Stats.FromString(answer).namespaces}
            for answer in (
                world.ok(calls, STORE, "GetStats", everything)
                for calls in (world.owner, world.other)
            )
        ]
        assert "counted" in seen[0]
        assert seen[1] == {NAMESPACE}
        request = store_pb2.GetStatsRequest(namespace="counted", fleet=is_fleet)
        assert world.status(world.owner, STORE, "GetStats", request) == "OK"
        assert world.status(world.other, STORE, "GetStats", request) == "NOT_FOUND"


def watch_stats(world: World) -> None:
    """The first reading; those that follow are asked of the same tenant's namespaces."""
    world.make(world.owner, "watched")
    for is_fleet in (False, True):
        everything = store_pb2.WatchStatsRequest(fleet=is_fleet).SerializeToString()
        seen = [
            {n.namespace for n in store_pb2.Stats.FromString(answer.data[0]).namespaces}
            for answer in (
                calls.first(STORE, "WatchStats", everything) for calls in (world.owner, world.other)
            )
        ]
        assert "watched" in seen[0]
        assert seen[1] == {NAMESPACE}
        request = store_pb2.WatchStatsRequest(namespace="watched", fleet=is_fleet)
        statuses = [
            calls.first(STORE, "WatchStats", request.SerializeToString()).status
            for calls in (world.owner, world.other)
        ]
        assert statuses == ["OK", "NOT_FOUND"]
    deleted(world, "watched")


def advise(world: World) -> None:
    """Of a namespace that only the owner has; of a shared name each has a sample of its own."""
    world.make(world.owner, "advised")
    request = store_pb2.AdviseRequest(namespace="advised").SerializeToString()
    answers = [calls.stream(STORE, "Advise", request) for calls in (world.owner, world.other)]
    assert [answer.status for answer in answers] == ["OK", "NOT_FOUND"]
    said = store_pb2.AdviseResponse.FromString(answers[0].data[-1])
    assert [one.kind for one in said.advice] == ["sample"]
    deleted(world, "advised")
    client = "advise-matrix"
    text = [*range(1, 20)]
    step = StepRequest(1, NAMESPACE, client, [part("s", 0, text, prompt=2)])
    world.ok(world.owner, DRAFT, "Draft", encode_request(step))
    ended = StepRequest(2, NAMESPACE, client, [part("s", len(text), [], finished=True)])
    world.ok(world.owner, DRAFT, "Draft", encode_request(ended))
    request = store_pb2.AdviseRequest(namespace=NAMESPACE).SerializeToString()
    kept = [
        store_pb2.AdviseResponse.FromString(calls.stream(STORE, "Advise", request).data[-1])
        for calls in (world.owner, world.other)
    ]
    assert kept[0].sequences >= 1
    assert kept[1].sequences == 0


def copy_namespace(world: World) -> None:
    """What another tenant has learned is no source, and a name of ours that it took is free."""
    world.make(world.owner, "source")
    target = store_pb2.CreateNamespaceRequest(namespace="copied")
    request = store_pb2.CopyNamespaceRequest(source="source", target=target)
    assert world.status(world.other, STORE, "CopyNamespace", request) == "NOT_FOUND"
    assert world.status(world.owner, STORE, "CopyNamespace", request) == "OK"
    assert "copied" in world.names(world.owner)
    assert "copied" not in world.names(world.other)
    deleted(world, "source", "copied")


def snapshots(method: str) -> Callable[[World], None]:
    """Of a namespace that only the owner has; the other's of a shared name are its own."""

    def row(world: World) -> None:
        world.make(world.owner, "saved")
        kind = getattr(store_pb2, f"{method}Request")
        request = kind(namespace="saved")
        assert world.status(world.owner, STORE, method, request) == "OK"
        assert world.status(world.other, STORE, method, request) == "NOT_FOUND"
        listing = store_pb2.ListSnapshotsRequest(namespace=NAMESPACE)
        saving = store_pb2.SaveSnapshotRequest(namespace=NAMESPACE)
        counts = []
        for calls in (world.owner, world.other):
            before = kept(world, calls, listing)
            world.ok(world.owner, STORE, "SaveSnapshot", saving)
            counts.append(kept(world, calls, listing) != before)
        assert counts == [True, False]
        deleted(world, "saved")

    return row


def export_namespace(world: World) -> None:
    world.make(world.owner, "carried")
    assert exported(world.owner, "carried").status == "OK"
    refused = exported(world.other, "carried")
    assert (refused.status, refused.data) == ("NOT_FOUND", ())
    deleted(world, "carried")


def import_namespace(world: World) -> None:
    """It is made for who sends it; what another tenant has of that name is another namespace."""
    world.make(world.owner, "carried")
    data = [
        store_pb2.ImportNamespaceRequest(
            data=store_pb2.ExportNamespaceResponse.FromString(one).data
        ).SerializeToString()
        for one in exported(world.owner, "carried").data
    ]
    assert world.owner.stream(STORE, "ImportNamespace", *data).status == "ALREADY_EXISTS"
    deleted(world, "carried")
    assert world.owner.stream(STORE, "ImportNamespace", *data).status == "OK"
    assert "carried" in world.names(world.owner)
    assert "carried" not in world.names(world.other)
    deleted(world, "carried")


MATRIX: dict[tuple[str, str], Callable[[World], None]] = {
    (DRAFT, "Draft"): steps(streaming=False),
    (DRAFT, "DraftStream"): steps(streaming=True),
    (DRAFT, "FinishSequences"): finish_sequences,
    (DRAFT, "GetServerInfo"): server_info,
    (DRAFT, "Explain"): explain,
    (STORE, "CreateNamespace"): create_namespace,
    (STORE, "GetNamespace"): get_namespace,
    (STORE, "ListNamespaces"): list_namespaces,
    (STORE, "DeleteNamespace"): delete_namespace,
    (STORE, "CopyNamespace"): copy_namespace,
    (STORE, "Warm"): warm,
    (STORE, "KnownDocuments"): known_documents,
    (STORE, "ListCorpora"): list_corpora,
    (STORE, "CompactCorpus"): compact_corpus,
    (STORE, "DeleteCorpus"): delete_corpus,
    (STORE, "SaveSnapshot"): snapshots("SaveSnapshot"),
    (STORE, "ListSnapshots"): snapshots("ListSnapshots"),
    (STORE, "VerifySnapshots"): snapshots("VerifySnapshots"),
    (STORE, "ExportNamespace"): export_namespace,
    (STORE, "ImportNamespace"): import_namespace,
    (STORE, "GetStats"): get_stats,
    (STORE, "WatchStats"): watch_stats,
    (STORE, "Advise"): advise,
}


@pytest.mark.parametrize(("service", "method"), MATRIX)
def test_a_call_serves_its_own_tenant_and_tells_another_nothing(
    world: World, service: str, method: str
) -> None:
    MATRIX[service, method](world)


@pytest.mark.parametrize("token", ["", "rdt_" + "w" * 43])
def test_no_call_of_ours_is_answered_without_a_valid_token(world: World, token: str) -> None:
    """Whatever it says: streams end before they have read anything."""
    access = world.tenancy.sidecar.access
    for (service, method), methods in served(world).items():
        before = access.refused
        with world.tenancy.raw(Credentials(token)) as calls:
            for data in (b"", b"\xff"):
                answer: Answer
                if methods.client_streaming:
                    answer = calls.stream(service, method, data)
                else:
                    answer = calls.unary(service, method, data)
                assert (answer.status, answer.data) == ("UNAUTHENTICATED", ()), method
        assert access.refused == before + 2


def test_every_call_has_its_row_and_every_row_its_call(world: World) -> None:
    assert served(world).keys() == MATRIX.keys()
