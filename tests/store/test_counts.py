"""What replicas count together: each count once, whatever becomes of answers and connections."""

import time
from typing import cast

import pytest
import redis

from retrieval_draft import __version__
from retrieval_draft.errors import Corrupt, InvalidInput, NotFound, Unreachable
from retrieval_draft.store.connection import describe
from retrieval_draft.store.counts import (
    COUNT_CHARACTERS_MAX,
    COUNT_MAX,
    COUNTS_MAX,
    REPLICA_SECONDS_KEPT,
    REPLICAS_KEPT_MAX,
    Heartbeat,
    decode_heartbeat,
    encode_heartbeat,
    outdated,
)
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.store.redis_counts import RedisCounts, count_keys, read_counts
from tests.store.conftest import Shared, SharedRedis, flushed, paused, record
from tests.store.learning import DEMO, SPEC

BEAT = Heartbeat(time.time())


# Every backend


def test_counts_of_all_replicas_and_lives_add_up(shared: Shared) -> None:
    (one, _), (two, heard) = shared.started("a"), shared.started("b")
    one.create_namespace(DEMO, SPEC)
    heard.wait_for(lambda: bool(heard.namespaces))
    one.add_counts(DEMO, {"steps": 3, "tier:context:accepted": 1 << 40})
    two.add_counts(DEMO, {"steps": 4})
    one.add_counts(DEMO, {"steps": 5})
    assert one.stop(1)
    again, _ = shared.started("a")
    again.add_counts(DEMO, {"tier:context:accepted": 1})
    fleet = two.counts(DEMO)
    assert fleet.counts == {"steps": 12, "tier:context:accepted": (1 << 40) + 1}
    assert [name.partition("/")[0] for name in fleet.replicas] == ["a", "a", "b"]
    assert {beat.version for beat in fleet.replicas.values()} == {__version__}


def test_a_replica_says_what_became_of_its_records(shared: Shared) -> None:
    backend, _ = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    for position in range(7):
        backend.append(DEMO, record(position))
    flushed(backend)
    began = time.time()
    backend.add_counts(DEMO, {})
    (beat,) = backend.counts(DEMO).replicas.values()
    assert (beat.written, beat.dropped, beat.lag_records) == (7, 0, 0)
    assert began <= beat.unix_seconds <= time.time()


def test_counts_of_tenants_and_namespaces_stay_apart(shared: Shared) -> None:
    backend, _ = shared.started("a")
    keys = [NamespaceKey("a", "demo"), NamespaceKey("b", "demo"), NamespaceKey("a", "other")]
    for number, key in enumerate(keys):
        backend.create_namespace(key, NamespaceSpec(key.namespace, 9))
        backend.add_counts(key, {"steps": number + 1})
    assert [backend.counts(key).counts for key in keys] == [{"steps": n} for n in (1, 2, 3)]


def test_a_namespace_takes_its_counts_with_it(shared: Shared) -> None:
    backend, _ = shared.started("a")
    with pytest.raises(NotFound, match="demo"):
        backend.counts(DEMO)
    backend.add_counts(DEMO, {"steps": 1})  # given up
    backend.create_namespace(DEMO, SPEC)
    assert (backend.counts(DEMO).counts, backend.counts(DEMO).replicas) == ({}, {})
    backend.add_counts(DEMO, {"steps": 1})
    backend.delete_namespace(DEMO)
    backend.add_counts(DEMO, {"steps": 1})
    assert shared.keys(DEMO) == []
    backend.create_namespace(DEMO, SPEC)
    backend.add_counts(DEMO, {"steps": 2})
    assert backend.counts(DEMO).counts == {"steps": 2}


@pytest.mark.parametrize(
    ("counts", "field"),
    [
        ({f"n{i}": 1 for i in range(COUNTS_MAX + 1)}, "counts"),
        ({"n" * (COUNT_CHARACTERS_MAX + 1): 1}, "counts"),
        ({"": 1}, "counts"),
        ({"steps": -1}, "counts[steps]"),
        ({"steps": COUNT_MAX + 1}, "counts[steps]"),
    ],
)
def test_what_is_beyond_the_limits_is_refused(
    shared: Shared, counts: dict[str, int], field: str
) -> None:
    backend, _ = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    with pytest.raises(InvalidInput) as refused:
        backend.add_counts(DEMO, counts)
    assert refused.value.field == field
    backend.add_counts(DEMO, {f"n{i}": COUNT_MAX for i in range(COUNTS_MAX)})
    assert len(backend.counts(DEMO).counts) == COUNTS_MAX


def test_replicas_silent_for_a_day_are_forgotten() -> None:
    now = 1e9
    fresh = {f"f{i}": Heartbeat(now - i) for i in range(REPLICAS_KEPT_MAX)}
    assert outdated(fresh, now) == []
    assert outdated({"old": Heartbeat(now - REPLICA_SECONDS_KEPT - 1), "new": BEAT}, now) == ["old"]
    assert outdated({"one more": Heartbeat(now - 5000), **fresh}, now) == ["one more"]


def test_a_heartbeat_is_decoded_or_refused() -> None:
    assert decode_heartbeat(encode_heartbeat(BEAT)) == BEAT
    for damaged in (b"", b"\xff", encode_heartbeat(BEAT)[:-1]):
        with pytest.raises(Corrupt):
            decode_heartbeat(damaged)


# Answers that are lost


class LostAnswers:
    """A client whose additions arrive, or do not, while the caller is told that they failed."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.plan: list[str] = []
        self.sent: list[tuple[object, ...]] = []

    def eval(self, *words: object) -> object:
        fate = self.plan.pop(0) if self.plan else "answered"
        if fate == "never sent":
            raise redis.ConnectionError("cut off by the test")
        self.sent.append(words)
        answer = self.again(-1)
        if fate == "answer lost":
            raise redis.TimeoutError("cut off by the test")
        return answer

    def again(self, which: int) -> object:
        """What a connection that was given up delivers late."""
        return self._client.eval(*self.sent[which])  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)


@pytest.fixture
def journal(shared_redis: SharedRedis) -> Journal:
    backend = cast(RedisBackend, shared_redis.open())
    backend.create_namespace(DEMO, SPEC)
    (name,) = [name for name in shared_redis.keys(DEMO) if ":journal:" in name]
    return Journal(DEMO, name.rpartition(":")[2])


def test_what_is_sent_again_is_counted_once(shared_redis: SharedRedis, journal: Journal) -> None:
    lossy = LostAnswers(shared_redis.client)
    counts = RedisCounts(cast(redis.Redis, lossy), shared_redis.url, "a/1")
    fates = ["answered", "answer lost", "answer lost", "answered", "never sent", "answer lost"]
    expected = 0
    for step, fate in enumerate(fates):
        lossy.plan = [fate]
        expected += 10**step
        if fate == "answered":
            counts.add(journal, {"steps": 10**step}, BEAT)
        else:
            with pytest.raises(Unreachable):
                counts.add(journal, {"steps": 10**step}, BEAT)
    counts.add(journal, {}, BEAT)
    for late in range(len(lossy.sent)):
        assert lossy.again(late) == 0, "what arrives late changes nothing"
    fleet = read_counts(shared_redis.client, shared_redis.url, journal)
    assert fleet.counts == {"steps": expected}
    assert list(fleet.replicas) == ["a/1"]


def test_a_replica_that_was_forgotten_does_not_count_twice(
    shared_redis: SharedRedis, journal: Journal
) -> None:
    lossy = LostAnswers(shared_redis.client)
    counts = RedisCounts(cast(redis.Redis, lossy), shared_redis.url, "a/1")
    counts.add(journal, {"steps": 1}, BEAT)
    lossy.plan = ["answer lost"]
    with pytest.raises(Unreachable):
        counts.add(journal, {"steps": 10}, BEAT)
    shared_redis.client.delete(count_keys(journal)[1])
    counts.add(journal, {"steps": 100}, BEAT)
    fleet = read_counts(shared_redis.client, shared_redis.url, journal)
    assert fleet.counts == {"steps": 111}


def test_a_new_life_of_a_process_forgets_old_replicas(
    shared_redis: SharedRedis, journal: Journal
) -> None:
    old = Heartbeat(time.time() - REPLICA_SECONDS_KEPT - 60)
    for name, beat in (("old", old), ("new", BEAT)):
        RedisCounts(shared_redis.client, shared_redis.url, name).add(journal, {"steps": 1}, beat)
    RedisCounts(shared_redis.client, shared_redis.url, "mine").add(journal, {"steps": 1}, BEAT)
    fleet = read_counts(shared_redis.client, shared_redis.url, journal)
    assert (sorted(fleet.replicas), fleet.counts) == (["mine", "new"], {"steps": 3})
    shared_redis.client.hset(count_keys(journal)[1], "odd", b"1 \xff")
    assert sorted(read_counts(shared_redis.client, "", journal).replicas) == ["mine", "new"]


def test_a_silent_redis_delays_counts_and_loses_none(shared_redis: SharedRedis) -> None:
    backend, _ = shared_redis.started("a")
    backend.create_namespace(DEMO, SPEC)
    backend.add_counts(DEMO, {"steps": 1})
    with paused(describe(shared_redis.client).process_id), pytest.raises(Unreachable):
        backend.add_counts(DEMO, {"steps": 10})
    backend.add_counts(DEMO, {"steps": 100})
    assert backend.counts(DEMO).counts == {"steps": 111}


def test_every_namespace_keeps_its_counts_in_its_own_slot(
    shared_redis: SharedRedis, journal: Journal
) -> None:
    RedisCounts(shared_redis.client, shared_redis.url, "a/1").add(journal, {"steps": 1}, BEAT)
    keys = [name for name in shared_redis.keys(DEMO) if "counts" in name or "replicas" in name]
    assert len(keys) == 2
    assert all("{5:local|4:demo}" in name for name in keys)
