"""No draft waits for Redis: whatever Redis does, every step is answered, and nothing piles up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest
import redis
from redis.connection import AbstractConnection

from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.replay.link import Link
from retrieval_draft.step import DraftOptions, Status
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.pending import Pending
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.store.server_binary import available_server
from tests.engine.driving import NAMESPACE, SPEC, TENANT, Caller, part
from tests.redis_servers.deployments import Deployment

STEPS, QUEUE_RECORDS_MAX = 1_500, 50
STEPS_OF_A_SEQUENCE = 5  # and one record of it
WAIT_SECONDS_MAX = 60.0
KEY = NamespaceKey(TENANT, NAMESPACE)

pytestmark = pytest.mark.skipif(
    available_server() is None, reason="no Redis server on this machine"
)


@pytest.fixture
def link(deployment: Deployment) -> Iterator[Link]:
    deployment.empty()
    link = Link(("127.0.0.1", deployment.servers[0].port)).start()
    yield link
    link.stop()


@contextmanager
def drafting(link: Link) -> Iterator[tuple[Engine, "Sequences"]]:
    """An engine on this Redis with a small queue, and something to draft."""
    backend = RedisBackend(f"redis://127.0.0.1:{link.port}", pending=Pending(QUEUE_RECORDS_MAX))
    engine = Engine(backend)
    engine.start("a")
    try:
        engine.stores.create(TENANT, SPEC)
        yield engine, Sequences(engine)
    finally:
        engine.stop(0.0)


class Sequences:
    """One sequence after the other, each of a few steps, so that much is journalled."""

    def __init__(self, engine: Engine) -> None:
        self.caller = Caller(EngineClient(engine), options=DraftOptions(nodes_max=8))
        self.drafted = self._number = 0

    def steps(self, number: int) -> None:
        """Asserts that each is answered without an error."""
        for _ in range(number // STEPS_OF_A_SEQUENCE):
            self._number += 1
            name, text = f"s{self._number}", [token % 50 for token in range(40)]
            parts = [part(name, 0, text[:20], prompt=4)]
            parts += [part(name, at, text[at : at + 4]) for at in (20, 24, 28)]
            parts.append(part(name, 32, text[32:36], finished=True))
            for each in parts:
                answer = self.caller.step(each)
                assert answer.statuses == [Status.OK]
                self.drafted += sum(len(tree.token) for tree in answer.trees)


def test_the_drafting_thread_never_touches_a_connection(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    for name in ("send_packed_command", "connect", "can_read"):
        real: Callable[..., object] = getattr(AbstractConnection, name)

        def noted(*given: object, _real: Callable[..., object] = real, **more: object) -> object:
            threads.add(threading.current_thread().name)
            return _real(*given, **more)

        monkeypatch.setattr(AbstractConnection, name, noted)
    with drafting(link) as (engine, sequences):
        threads.clear()
        sequences.steps(STEPS)
        assert engine.flush(WAIT_SECONDS_MAX)
        assert threads >= {"journal-writer", "journal-follower"}
        assert threading.current_thread().name not in threads
        assert sequences.drafted


@contextmanager
def client_pause(deployment: Deployment, link: Link) -> Iterator[None]:
    with deployment.servers[0].client() as client:
        client.client_pause(3_600_000, all=False)  # all: nobody could end it
        try:
            yield
        finally:
            client.client_unpause()


@contextmanager
def sigstop(deployment: Deployment, link: Link) -> Iterator[None]:
    with deployment.servers[0].paused():
        yield


@contextmanager
def stopped(deployment: Deployment, link: Link) -> Iterator[None]:
    deployment.servers[0].kill()
    try:
        yield
    finally:
        deployment.servers[0].start()


@contextmanager
def slow(deployment: Deployment, link: Link) -> Iterator[None]:
    link.delay_seconds = 0.5
    try:
        yield
    finally:
        link.delay_seconds = 0.0


@contextmanager
def blackhole(deployment: Deployment, link: Link) -> Iterator[None]:
    link.hold()
    try:
        yield
    finally:
        link.release()


@contextmanager
def flapping(deployment: Deployment, link: Link) -> Iterator[None]:
    ended = threading.Event()

    def flap() -> None:
        while not ended.wait(0.02):
            link.cut()
            ended.wait(0.02)
            link.mend()

    flapper = threading.Thread(target=flap)
    flapper.start()
    try:
        yield
    finally:
        ended.set()
        flapper.join()


Fault = Callable[[Deployment, Link], AbstractContextManager[None]]


@pytest.mark.parametrize("fault", [client_pause, sigstop, stopped, slow, blackhole, flapping])
def test_drafting_goes_on(fault: Fault, deployment: Deployment, link: Link) -> None:
    """The fault lasts until all has been drafted: a step that waited for Redis would never end."""
    with drafting(link) as (engine, sequences), ExitStack() as away:
        backend = engine.stores.backend
        sequences.steps(20)
        assert engine.flush(WAIT_SECONDS_MAX)
        before = backend.figures(KEY)
        away.enter_context(fault(deployment, link))
        sequences.steps(STEPS)
        during = backend.figures(KEY)
        # What waits fits the queue and the batch that is being written; the rest was counted. What is in
        # Redis and not read back yet waits there.
        standing = fault in (client_pause, sigstop, stopped, blackhole)
        waiting = during.appended - during.written - during.dropped
        assert waiting <= QUEUE_RECORDS_MAX * 2
        assert during.appended - before.appended == STEPS // STEPS_OF_A_SEQUENCE
        if standing:
            assert during.dropped > 0, "the fault must be one"
        away.close()
        applied = backend.figures(KEY).applied
        sequences.steps(20)
        wait_for_records(lambda: backend.figures(KEY).applied > applied)
        wait_for_records(lambda: backend.figures(KEY).lag_records == 0)
        after = backend.figures(KEY)
        assert after.applied + after.dropped == after.appended


def wait_for_records(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_SECONDS_MAX / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("records do not flow again")


def test_a_redis_that_refuses_us_is_said_once(
    deployment: Deployment, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    """The password is changed under way: one line, and drafting from memory."""
    with drafting(link) as (engine, sequences), deployment.servers[0].client() as operator:
        operator.config_set("requirepass", "new-secret")
        link.reset()
        try:
            sequences.steps(20)
            said = "refuses this user or password"
            wait_for_records(lambda: caplog.text.count("the learned tier stands still") == 1)
            sequences.steps(STEPS)
            lines = [line for line in caplog.messages if said in line]
            assert len(lines) == len(set(lines)) <= 2, "one of the follower, one of the writer"
            assert not engine.stores.backend.figures(KEY).connected
            with redis.Redis(port=link.port) as other, pytest.raises(redis.AuthenticationError):
                other.ping()
        finally:
            operator.auth("new-secret")
            operator.config_set("requirepass", "")
        wait_for_records(lambda: engine.stores.backend.figures(KEY).connected)
