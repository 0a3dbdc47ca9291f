"""The way to a drafter is made beside the steps: no call waits for it."""

import threading
import time
from collections.abc import Callable

import pytest

from retrieval_draft.adapters import background
from retrieval_draft.adapters.background import BackgroundClient
from retrieval_draft.client import Client
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import FailedPrecondition, NotFound, PermissionDenied, Unreachable
from retrieval_draft.step import SequenceStep, StepRequest
from retrieval_draft.tree import int32s
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest
from tests.client.scripted import Faulty
from tests.engine.driving import TENANT

WANTED = CreateNamespaceRequest(namespace="new", vocab_size=100)


def until(call: Callable[[], object], seconds_max: float = 20.0) -> object:
    """What the call gives once the way is there."""
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            return call()
        except Unreachable:
            assert time.monotonic() < deadline
            time.sleep(0.002)


def test_no_call_waits_for_a_way_that_hangs(engine: Engine) -> None:
    may_go = threading.Event()

    def connect() -> Client:
        may_go.wait(20)
        return EngineClient(engine)

    client = BackgroundClient(connect)
    client.prepare(WANTED)
    # A wait in any of these would be for the event, which only comes later.
    for call in (
        lambda: client.create_namespace(WANTED),
        lambda: client.get_namespace("new"),
        lambda: client.observation_width(20),
        lambda: client.send(StepRequest(1, "new", "c", [])),
        lambda: client.receive(1, 20),
        lambda: client.stats(),
    ):
        with pytest.raises(Unreachable):
            call()
    may_go.set()
    made = until(lambda: client.create_namespace(WANTED).vocab_size)
    assert made == 100
    assert until(lambda: client.observation_width(1)) == EngineClient(engine).observation_width(1)
    client.close()


def test_a_way_that_fails_is_tried_again(engine: Engine) -> None:
    tries: list[int] = []

    def connect() -> Client:
        tries.append(1)
        if len(tries) == 1:
            raise PermissionDenied("no token")
        return EngineClient(engine)

    client = BackgroundClient(connect)
    with pytest.raises(PermissionDenied):
        until(lambda: client.create_namespace(WANTED))
    until(lambda: client.create_namespace(WANTED))
    assert len(tries) == 2
    client.close()


def test_a_namespace_of_other_tokens_is_said_so_every_time(engine: Engine) -> None:
    client = BackgroundClient(lambda: EngineClient(engine))
    other = CreateNamespaceRequest(namespace="code", vocab_size=7)
    for _ in range(2):
        with pytest.raises(FailedPrecondition):
            until(lambda: client.create_namespace(other))
    client.close()


def test_a_namespace_that_vanished_is_made_again(engine: Engine) -> None:
    faulty = Faulty(EngineClient(engine))
    client = BackgroundClient(lambda: faulty)
    until(lambda: client.create_namespace(WANTED))
    calls = faulty.calls
    client.create_namespace(WANTED)
    assert faulty.calls == calls
    faulty.failure = NotFound("namespace new")
    with pytest.raises(NotFound):
        client.receive(1, 1)
    faulty.failure = None
    engine.stores.delete(TENANT, "new")
    until(lambda: client.create_namespace(WANTED))
    assert engine.stores.state(TENANT, "new").spec.vocab_size == 100
    client.close()


def test_a_namespace_that_a_step_lacks_is_made_again(engine: Engine) -> None:
    """In process it is `send` that says so."""
    client = BackgroundClient(lambda: EngineClient(engine))
    until(lambda: client.create_namespace(WANTED))
    engine.stores.delete(TENANT, "new")
    step = StepRequest(1, "new", "c", [SequenceStep("s", 0, int32s([1, 2]))])
    with pytest.raises(NotFound):
        client.send(step)
    until(lambda: client.create_namespace(WANTED))
    client.send(step)
    assert client.receive(1, 1) is not None
    client.close()


def test_what_arrives_after_the_end_is_left_in_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "CLOSE_SECONDS_MAX", 0.01)
    may_go, is_closed = threading.Event(), threading.Event()
    late = EngineClient(engine)
    monkeypatch.setattr(late, "close", is_closed.set)

    def connect() -> Client:
        may_go.wait(20)
        return late

    client = BackgroundClient(connect)
    client.prepare(WANTED)
    for name in ("one", "other"):
        with pytest.raises(Unreachable):
            client.get_namespace(name)
    client.close()
    assert not is_closed.is_set()
    may_go.set()
    assert is_closed.wait(20)
    with pytest.raises(Unreachable):
        client.stats()


def test_a_bug_on_the_way_is_an_error_of_ours(engine: Engine) -> None:
    client = BackgroundClient(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    for _ in range(2):
        with pytest.raises(Exception, match="ZeroDivisionError on the way"):
            until(lambda: client.create_namespace(WANTED))
    client.close()
