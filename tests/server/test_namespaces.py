"""Namespaces over the wire: created once, told apart, and gone when deleted."""

import msgspec
import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.errors import AlreadyExists, DraftError, NotFound
from retrieval_draft.step import Status
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import SPEC, Caller, part
from tests.server.sidecars import STORE, RawCalls, create

FULL = NamespaceSpec(
    "full/name:with@all.of-it", 50, "model", "print", "adapter", "revision", True, (1, 2), 1 << 20
)


def test_a_namespace_comes_back_as_it_was_created(client: GrpcClient) -> None:
    created = create(client, FULL)
    assert client.get_namespace(FULL.namespace) == created
    assert created.vocab_size == 50
    assert created.end_tokens == bytes([1, 0, 0, 0, 2, 0, 0, 0])


def test_creating_it_again_is_the_same_and_creating_another_under_its_name_is_refused(
    client: GrpcClient,
) -> None:
    assert create(client) == create(client)
    with pytest.raises(AlreadyExists, match="exists and differs"):
        create(client, msgspec.structs.replace(SPEC, vocab_size=7))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("namespace", ""),
        ("namespace", "n" * 129),
        ("namespace", "ünï"),
        ("vocab_size", 0),
        ("model", "m" * 257),
        ("end_tokens", (100,)),
        ("end_tokens", (-1,)),
        ("learned_bytes_max", 2**63),
    ],
)
def test_wrong_fields_are_refused_by_name(client: GrpcClient, field: str, value: object) -> None:
    with pytest.raises(DraftError, match=field) as caught:
        create(client, msgspec.structs.replace(SPEC, **{field: value}))
    assert caught.value.status == "INVALID_ARGUMENT"


def test_a_deleted_namespace_is_gone_and_its_sequences_resync_when_it_is_there_again(
    client: GrpcClient, raw: RawCalls
) -> None:
    spec = msgspec.structs.replace(SPEC, namespace="short-lived")
    create(client, spec)
    calls = Caller(client, namespace=spec.namespace)
    calls.step(part("s", 0, [1, 2], prompt=2))
    client.delete_namespace(spec.namespace)
    with pytest.raises(NotFound, match="'short-lived' does not exist"):
        calls.step(part("s", 2, [3]))
    with pytest.raises(NotFound):
        client.get_namespace(spec.namespace)
    create(client, spec)
    assert calls.step(part("s", 2, [3])).statuses == [Status.RESYNC]
    answer = raw.unary(STORE, "ListNamespaces", b"")
    names = [
        n.namespace for n in store_pb2.ListNamespacesResponse.FromString(answer.data[0]).namespaces
    ]
    assert spec.namespace in names
    assert names == sorted(names)


def test_figures_are_per_namespace(client: GrpcClient) -> None:
    spec = msgspec.structs.replace(SPEC, namespace="counted")
    create(client, spec)
    calls = Caller(client, namespace=spec.namespace)
    calls.step(part("s", 0, [1, 2, 1, 2], prompt=4), method="lookup")
    calls.step(part("s", 4, [1, 9], verified_step=1, accepted=1), method="lookup")
    calls.step(part("t", 4, [1]))
    (one,) = client.stats(spec.namespace).namespaces
    assert (one.steps, one.tokens, one.drafted_steps, one.drafted, one.accepted) == (1, 2, 1, 2, 1)
    assert (one.sequences, one.resyncs, one.rejected) == (1, 1, 0)
    assert (one.tiers[0].name, one.tiers[0].hits) == ("context", 1)
    assert one.draft_us_p99 >= one.draft_us_p50 > 0
    everything = client.stats()
    assert len(everything.namespaces) > 1
    assert everything.uptime_seconds > 0
