"""What one tenant takes is its own: others keep their share of memory, clients and namespaces."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import ResourceExhausted
from retrieval_draft.step import Status
from tests.engine.driving import NAMESPACE, SPEC, Caller, part, running_engine, wait_for
from tests.engine.test_memory import SEQUENCE_BYTES, TEXT

TENANTS = ("acme", "bolt", "cord")


@contextmanager
def shared_engine(config: Config) -> Iterator[Engine]:
    """An engine with one namespace of each tenant."""
    with running_engine(config, spec=None) as engine:
        for tenant in TENANTS:
            engine.stores.create(tenant, SPEC)
        yield engine


def caller(engine: Engine, tenant: str) -> Caller:
    return Caller(EngineClient(engine, tenant))


def evicted(engine: Engine) -> dict[str, int]:
    states = {tenant: engine.stores.state(tenant, NAMESPACE) for tenant in TENANTS}
    return {tenant: state.counters.evicted_sequences for tenant, state in states.items()}


def held(engine: Engine, tenant: str) -> int:
    return sum(s.nbytes for s in engine.clients.open_sequences() if s.state.key.tenant == tenant)


def test_a_greedy_tenant_evicts_its_own_sequences_and_not_the_idler_ones_of_others() -> None:
    with shared_engine(Config(context_bytes_max=4 * SEQUENCE_BYTES)) as engine:
        modest, greedy = caller(engine, "bolt"), caller(engine, "acme")
        modest.step(part("idle", 0, TEXT, prompt=4))
        for i in range(20):
            greedy.step(part(f"{i}", 0, TEXT, prompt=4))
        assert evicted(engine) == {"acme": 17, "bolt": 0, "cord": 0}
        assert modest.step(part("idle", 4, [5])).statuses == [Status.OK]
        assert greedy.step(part("0", 4, [5])).statuses == [Status.RESYNC]
        assert greedy.step(part("19", 4, [5])).statuses == [Status.OK]


def test_one_long_sequence_counts_for_its_bytes() -> None:
    with shared_engine(Config(context_bytes_max=6 * SEQUENCE_BYTES)) as engine:
        greedy, modest = caller(engine, "acme"), caller(engine, "bolt")
        greedy.step(part("long", 0, TEXT * 1000, prompt=4))
        assert evicted(engine)["acme"] == 1, "alone it is above the bound"
        for name in "abc":
            modest.step(part(name, 0, TEXT, prompt=4))
        greedy.step(part("long", 0, TEXT * 1000, prompt=4))
        assert evicted(engine) == {"acme": 2, "bolt": 0, "cord": 0}
        assert held(engine, "bolt") == 3 * SEQUENCE_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_nobody_within_an_equal_share_loses_anything(seed: int) -> None:
    """And the figures of each tenant stay those of its open sequences."""
    dice = random.Random(seed)  # noqa: S311 - a test's
    bound = 9 * SEQUENCE_BYTES
    with shared_engine(Config(context_bytes_max=bound)) as engine:
        callers = {tenant: caller(engine, tenant) for tenant in TENANTS}
        for _ in range(150):
            before, shares = evicted(engine), {t: held(engine, t) for t in TENANTS}
            tenant = dice.choice(TENANTS)
            name = f"{dice.randrange(6)}"
            text = TEXT * dice.choice((1, 1, 1, 200, 400))
            callers[tenant].step(part(name, 0, text, prompt=4, finished=dice.random() < 0.2))
            for other in set(TENANTS) - {tenant}:
                if evicted(engine)[other] > before[other]:
                    assert shares[other] > bound / len(TENANTS)
            assert sum(held(engine, t) for t in TENANTS) <= bound
            open_bytes = {t: n for t in TENANTS if (n := held(engine, t))}
            assert engine.clients._bytes_of == open_bytes
        assert sum(evicted(engine).values()) > 0


def test_while_the_greedy_tenants_steps_are_running_others_do_not_pay() -> None:
    with shared_engine(Config(context_bytes_max=3 * SEQUENCE_BYTES)) as engine:
        greedy, modest = caller(engine, "acme"), caller(engine, "bolt")
        for name in "abc":
            greedy.step(part(name, 0, TEXT, prompt=4))
        with engine.clients.get("acme", greedy.client_id).lock:
            modest.step(part("s", 0, TEXT, prompt=4))
            assert evicted(engine) == {"acme": 0, "bolt": 0, "cord": 0}
        modest.step(part("s", 4, [5]))
        assert evicted(engine) == {"acme": 1, "bolt": 0, "cord": 0}


def test_clients_of_one_tenant_are_bounded_and_those_that_are_gone_make_room() -> None:
    config = Config(clients_max=4, tenant_clients_max=2, idle_seconds_max=0.05)
    with shared_engine(config) as engine:
        for _ in range(2):
            caller(engine, "acme").step(part("s", 0, TEXT, prompt=4))
        third = caller(engine, "acme")
        with pytest.raises(ResourceExhausted, match="clients: the limit of a tenant is 2"):
            third.step(part("s", 0, TEXT, prompt=4))
        caller(engine, "bolt").step(part("s", 0, TEXT, prompt=4))

        def served() -> bool:
            try:
                return third.step(part("s", 0, TEXT, prompt=4)).statuses == [Status.OK]
            except ResourceExhausted:
                return False

        wait_for(served)


def test_namespaces_of_one_tenant_are_bounded_in_number_and_in_bytes() -> None:
    config = Config(
        learned_bytes_max=1 << 20, tenant_namespaces_max=3, tenant_learned_bytes_max=5 << 20
    )
    with shared_engine(config) as engine:
        stores = engine.stores

        def create(tenant: str, name: str, nbytes: int = 0) -> None:
            spec = msgspec.structs.replace(SPEC, namespace=name, learned_bytes_max=nbytes)
            stores.create(tenant, spec)

        create("acme", "second", 3 << 20)
        with pytest.raises(ResourceExhausted, match=f"would be {6 << 20}, the limit is {5 << 20}"):
            create("acme", "third", 2 << 20)
        create("acme", "third")
        with pytest.raises(ResourceExhausted, match="namespaces: the limit of a tenant is 3"):
            create("acme", "fourth")
        create("acme", "third")
        create("bolt", "second", 4 << 20)
        stores.delete("acme", "second")
        create("acme", "fourth", 3 << 20)
