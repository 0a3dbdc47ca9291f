"""Bounds of memory and time: sequences that are closed cost a RESYNC, never a token."""

import time
import weakref

import pytest

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import ResourceExhausted
from retrieval_draft.sequence import CAPACITY_MIN, context_buckets
from retrieval_draft.step import Status
from retrieval_draft.store.records import Batch
from retrieval_draft.store.ring import TokenRing
from tests.engine.driving import Caller, caller, learned, part, running_engine, state_of, wait_for

TEXT = [1, 2, 3, 4]
OK, RESYNC = [Status.OK], [Status.RESYNC]


def ring_bytes(capacity: int) -> int:
    """Of a context's ring and its counts."""
    return TokenRing(capacity, context_buckets(capacity)).nbytes


SEQUENCE_BYTES = ring_bytes(CAPACITY_MIN)


def much_later(engine: Engine) -> None:
    engine.clients.sweep(time.monotonic() + engine.config.idle_seconds_max + 1)


def test_above_the_bound_of_bytes_the_sequences_idle_longest_are_closed() -> None:
    with running_engine(Config(context_bytes_max=3 * SEQUENCE_BYTES)) as engine:
        calls = caller(engine)
        for name in "abcd":
            calls.step(part(name, 0, TEXT, prompt=2))
        assert engine.clients.count() == 3
        assert state_of(engine).counters.evicted_sequences == 1
        assert calls.step(part("a", 4, [5])).statuses == RESYNC
        assert calls.step(part("d", 4, [5])).statuses == OK


def test_a_closed_sequence_stays_learned() -> None:
    with running_engine(Config(context_bytes_max=SEQUENCE_BYTES)) as engine:
        calls = caller(engine)
        calls.step(part("a", 0, TEXT, prompt=2))
        calls.step(part("b", 0, TEXT, prompt=4))
        assert calls.step(part("a", 4, [5])).statuses == RESYNC
        assert learned(engine) == 2


def test_a_sequence_that_grows_counts_for_what_it_is(engine: Engine, calls: Caller) -> None:
    calls.step(part("a", 0, TEXT * 1000, prompt=4))
    calls.step(part("b", 0, TEXT, prompt=4))
    open_bytes = sum(sequence.nbytes for sequence in engine.clients.open_sequences())
    assert engine.clients._bytes_open == open_bytes == ring_bytes(4096) + SEQUENCE_BYTES
    calls.step(part("a", 0, TEXT, prompt=4))
    calls.step(part("b", 4, [], finished=True))
    assert engine.clients._bytes_open == SEQUENCE_BYTES
    engine.finish_sequences("local", calls.client_id, ["a"])
    assert engine.clients._bytes_open == 0


def test_a_sequence_that_idles_too_long_is_closed_and_learned(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, TEXT, prompt=2))
    much_later(engine)
    assert engine.clients.count() == 0
    assert state_of(engine).counters.evicted_sequences == 1
    assert learned(engine) == 2
    assert calls.step(part("s", 4, [5])).statuses == RESYNC


def test_a_client_in_the_middle_of_a_step_keeps_its_sequences(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, TEXT, prompt=2))
    client = engine.clients.get("local", calls.client_id)
    with client.lock:
        much_later(engine)
    assert engine.clients.count() == 1


def test_the_number_of_clients_is_bounded_and_those_that_are_gone_make_room() -> None:
    with running_engine(Config(clients_max=2, idle_seconds_max=0.05)) as engine:
        for _ in range(2):
            caller(engine).step(part("s", 0, TEXT, prompt=4))
        late = caller(engine)

        def served() -> bool:
            try:
                return late.step(part("s", 0, TEXT, prompt=4)).statuses == OK
            except ResourceExhausted:
                return False

        wait_for(served, "nobody makes room")


def test_beyond_the_bound_a_client_is_refused_and_nothing_of_the_others_is_touched() -> None:
    with running_engine(Config(clients_max=1)) as engine:
        calls = caller(engine)
        calls.step(part("s", 0, TEXT, prompt=4))
        with pytest.raises(ResourceExhausted, match="clients: the limit is 1"):
            caller(engine).step(part("s", 0, TEXT, prompt=4))
        assert calls.step(part("s", 4, [5])).statuses == OK


def test_what_the_learned_tier_has_replaced_is_not_kept_for_the_next_step(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("a", 0, TEXT, prompt=2))
    state = state_of(engine)
    before = weakref.ref(state.learned.ring)
    state.learned.widen(state.learned.ring.capacity + 1)
    assert before() is not None, "the newest step's"
    state.apply("1-0", Batch("other", 1, []))
    assert before() is None
    assert calls.step(part("a", 4, [5])).statuses == OK
