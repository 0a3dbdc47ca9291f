"""WatchStats: figures that go on, end when they should, and cannot hold all of the server's threads."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from retrieval_draft.call_errors import Refused
from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.errors import NotFound, ResourceExhausted, Unreachable
from retrieval_draft.server.lifecycle import Sidecar
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import NAMESPACE, VOCAB, Caller, wait_for
from tests.engine.test_fleet import decode
from tests.server.sidecars import connected, create, running_sidecar
from tests.server.tenancy import tenancy


def until_steps(readings: Iterator[store_pb2.Stats], steps: int) -> store_pb2.Stats:
    return next(one for one in readings if one.namespaces[0].steps >= steps)


def test_a_watcher_sees_what_is_counted_meanwhile(client: GrpcClient) -> None:
    readings = client.watch_stats(NAMESPACE, interval_ms=100)
    before = next(readings)
    caller = Caller(client)
    decode(caller)
    after = until_steps(readings, before.namespaces[0].steps + 1)
    assert after.unix_seconds > before.unix_seconds
    assert after.namespaces[0].drafted > before.namespaces[0].drafted


def test_it_ends_with_its_namespace(client: GrpcClient) -> None:
    create(client, NamespaceSpec("passing", VOCAB, learned_bytes_max=1 << 20))
    readings = client.watch_stats("passing", interval_ms=100)
    assert next(readings).namespaces[0].namespace == "passing"
    client.delete_namespace("passing")
    with pytest.raises(NotFound):
        list(readings)


@pytest.mark.parametrize("interval_ms", [1, 99, 3_600_001])
def test_an_interval_outside_its_limits_is_refused(client: GrpcClient, interval_ms: int) -> None:
    with pytest.raises(Refused, match=f"interval_ms is {interval_ms}, the limit is 0, or 100"):
        next(client.watch_stats(interval_ms=interval_ms))


def test_watchers_are_bounded_and_make_room_when_they_go(sidecar: Sidecar) -> None:
    most = sidecar.engine.config.watchers_max
    with ExitStack() as stack:
        client = stack.enter_context(connected(sidecar.targets[0]))
        watching = [client.watch_stats(interval_ms=3_600_000) for _ in range(most)]
        for one in watching:
            next(one)
        with pytest.raises(ResourceExhausted, match=f"the limit .*is {most}"):
            next(client.watch_stats())
        assert client.stats().namespaces, "others are served"
        watching.pop().close()

        def has_room() -> bool:
            try:
                next(client.watch_stats())
            except ResourceExhausted:
                return False
            return True

        wait_for(has_room, "a watcher that went still counts")


def test_a_stopping_sidecar_does_not_wait_for_its_watchers() -> None:
    with running_sidecar() as running, connected(running.targets[0]) as client:
        readings = client.watch_stats(interval_ms=3_600_000)
        next(readings)
        running.stop()
        with pytest.raises(Unreachable):
            list(readings)


def test_one_tenants_watchers_leave_room_for_others() -> None:
    most = Config(watchers_max=3, tenant_watchers_max=2)
    with (
        tenancy(most) as running,
        running.client("acme") as greedy,
        running.client("bolt") as other,
    ):
        held = [greedy.watch_stats(interval_ms=3_600_000) for _ in range(2)]
        for one in held:
            next(one)
        with pytest.raises(
            ResourceExhausted, match="watchers of figures: the limit of a tenant is 2"
        ):
            next(greedy.watch_stats())
        assert next(other.watch_stats()).replica_id
