"""The queue in front of the journal: its bounds, and when a flush is done."""

import threading
from time import monotonic

import pytest

from retrieval_draft.store import pending as module
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.pending import RECORD_OVERHEAD_BYTES, Journal, Pending
from retrieval_draft.store.records import Record
from tests.store.conftest import record

ONE = Journal(NamespaceKey("local", "one"), "1")
TWO = Journal(NamespaceKey("local", "two"), "1")


def positions(records: list[Record]) -> list[int]:
    return [record.position for record in records]


def test_a_full_queue_drops_its_oldest_and_counts() -> None:
    pending = Pending(records_max=3)
    for position in range(5):
        pending.append(ONE if position else TWO, record(position))
    (batch,) = pending.take("a")
    assert positions(batch.batch.records) == [2, 3, 4]
    assert pending.counts(ONE.key).dropped == 1
    assert pending.counts(TWO.key).dropped == 1


def test_the_bound_in_bytes_holds_even_for_one_record() -> None:
    pending = Pending(bytes_max=3 * (RECORD_OVERHEAD_BYTES + 4))
    for position in range(5):
        pending.append(ONE, record(position))
    assert pending.counts(ONE.key).dropped == 2
    pending.append(ONE, record(5, b"\0" * 4 * RECORD_OVERHEAD_BYTES))
    assert pending.counts(ONE.key).dropped == 6
    assert pending.take("a") == []


def test_batches_are_numbered_by_journal() -> None:
    pending = Pending()
    for position in range(4):
        pending.append(TWO if position % 2 else ONE, record(position))
    first = {out.journal: out.batch for out in pending.take("a")}
    assert positions(first[ONE].records) == [0, 2]
    assert positions(first[TWO].records) == [1, 3]
    pending.append(ONE, record(4))
    (second,) = pending.take("a")
    assert (first[ONE].number, first[TWO].number, second.batch.number) == (1, 1, 2)


def test_flush_waits_for_what_was_appended_before_it_only() -> None:
    pending = Pending()
    assert pending.flush(0)
    pending.append(ONE, record(0))
    assert not pending.flush(0)
    (out,) = pending.take("a")
    assert not pending.flush(0), "being written is not enough"
    pending.written(out)
    assert not pending.flush(0), "nor is being written"
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(pending.flush(20)))
    waiting.start()
    pending.append(ONE, record(1))
    pending.returned(ONE, 1)
    waiting.join(20)
    # Either order of the thread's start is right: with record 1 before it, it may still wait.
    if done:
        assert done == [True]
    pending.returned(ONE, pending.take("a")[0].batch.number)
    waiting.join(20)
    assert done == [True]


def test_flush_says_when_something_was_dropped_meanwhile() -> None:
    pending = Pending(records_max=1)
    pending.append(ONE, record(0))
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(pending.flush(20)))
    with pending.changed:
        waiting.start()
    while not done:
        pending.append(ONE, record(1))
        pending.flush(0.01)
    assert done == [False]


def test_a_later_batch_settles_those_that_were_lost() -> None:
    pending = Pending()
    for position in range(3):
        pending.append(ONE, record(position))
        pending.take("a")
    pending.returned(ONE, 3)
    assert pending.flush(0)
    assert pending.counts(ONE.key).returned == 3


def test_a_namespace_that_is_gone_holds_up_nothing() -> None:
    pending = Pending()
    pending.append(ONE, record(0))
    (sent,) = pending.take("a")
    pending.append(ONE, record(1))
    pending.append(TWO, record(2))
    pending.forget(ONE.key)
    pending.written(sent)
    pending.abandon(sent)
    assert pending.counts(ONE.key).appended == 0
    assert [out.journal for out in pending.take("a")] == [TWO]


def test_nothing_is_taken_after_close() -> None:
    pending = Pending()
    pending.append(ONE, record(0))
    pending.close()
    pending.append(ONE, record(1))
    assert pending.counts(ONE.key).dropped == 2
    assert not pending.wait(20)


def test_records_share_a_batch_until_somebody_waits_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TAKE_RECORDS_MAX", 3)
    pending = Pending(linger_seconds=20)
    taken: list[list[int]] = []

    def write() -> None:
        while pending.wait(20):
            (out,) = pending.take("a")
            taken.append(positions(out.batch.records))
            pending.written(out)
            pending.returned(ONE, out.batch.number)

    writer = threading.Thread(target=write)
    writer.start()
    for position in range(2):
        pending.append(ONE, record(position))
    assert pending.flush(10)
    assert taken == [[0, 1]]
    for position in range(2, 5):
        pending.append(ONE, record(position))
    with pending.changed:
        assert pending.changed.wait_for(lambda: pending.counts(ONE.key).returned == 5, 10)
    assert taken == [[0, 1], [2, 3, 4]], "as many as are taken at once wait for no others"
    pending.close()
    writer.join(10)
    assert not writer.is_alive()


def test_a_writer_waits_for_a_reader_that_is_far_behind_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES_MAX", 3 * (RECORD_OVERHEAD_BYTES + 4))
    pending = Pending()

    def waited() -> bool:
        began = monotonic()
        pending.wait_for_reader(0.02)
        return monotonic() - began >= 0.02

    sent = []
    for position in range(4):
        pending.append(ONE if position % 2 else TWO, record(position))
        sent += pending.take("a")
        assert waited() == (position >= 3)
    pending.returned(ONE, 1)
    assert not waited()
    pending.append(TWO, record(4))
    (last,) = pending.take("a")
    assert waited()
    pending.abandon(last)
    assert not waited()
    pending.append(TWO, record(5))
    pending.take("a")
    pending.forget(TWO.key)
    assert not waited()
