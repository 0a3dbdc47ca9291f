"""The dense thread: bounded, never waited for, and not ended by what goes wrong in it."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from retrieval_draft.store import dense_thread
from retrieval_draft.store.dense import DenseIndex
from retrieval_draft.store.dense_thread import DenseThread, DenseTier, Mailbox
from retrieval_draft.tree import Int32Array, int32s

SECONDS_MAX = 20.0
NOTHING = int32s([])


@pytest.fixture
def thread() -> Iterator[DenseThread]:
    running = DenseThread()
    yield running
    running.stop()


class Held:
    """Holds the thread in a job until it is let go."""

    def __init__(self, thread: DenseThread) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        thread.submit(self._hold, 0)
        assert self.begun.wait(SECONDS_MAX)

    def _hold(self) -> None:
        self.begun.set()
        assert self.let_go.wait(SECONDS_MAX)


def text(seed: int, length: int) -> Int32Array:
    return int32s(np.random.default_rng(seed).integers(0, 5000, length))


def test_what_does_not_fit_is_dropped_and_counted(
    thread: DenseThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_thread, "JOBS_MAX", 3)
    done: list[int] = []
    held = Held(thread)
    taken = [thread.submit(lambda i=i: done.append(i), 1) for i in range(5)]  # type: ignore[misc]
    assert taken == [True, True, True, False, False]
    assert not thread.submit(lambda: None, dense_thread.JOB_BYTES_MAX + 1)
    assert thread.figures.dropped == 3
    assert not thread.wait(0)
    held.let_go.set()
    assert thread.wait(SECONDS_MAX)
    assert done == [0, 1, 2]
    assert thread.submit(lambda: None, dense_thread.JOB_BYTES_MAX), "room was given back"


def test_a_job_that_fails_does_not_end_the_others(
    thread: DenseThread, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    thread.submit(lambda: 1 // 0, 0)  # type: ignore[arg-type]
    thread.submit(lambda: done.append("after"), 0)
    assert thread.wait(SECONDS_MAX)
    assert done == ["after"]
    assert "goes on after it" in caplog.text


def test_an_index_that_cannot_be_built_leaves_comparing_one_by_one(
    thread: DenseThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(DenseIndex, "is_due", True)
    monkeypatch.setattr(DenseIndex, "build", lambda self: 1 // 0)
    tier = DenseTier(thread, 1024)
    tier.learn("a", 0, 0, NOTHING, text(0, 100))
    assert thread.wait(SECONDS_MAX)
    assert "could not be built" in caplog.text
    mailbox = Mailbox()
    tier.ask(mailbox, 40, text(0, 40))
    assert thread.wait(SECONDS_MAX)
    assert mailbox.answer is not None
    assert mailbox.answer[1].windows[0, :60].tolist() == text(0, 100)[40:].tolist()


def test_the_index_is_built_beside_the_questions(thread: DenseThread) -> None:
    tier = DenseTier(thread, 1 << 14)
    tier.learn("a", 0, 0, NOTHING, text(0, 5000))
    assert thread.wait(SECONDS_MAX)
    assert tier.index.contexts_indexed == 5000
    assert thread.figures.build_seconds > 0


def test_a_question_that_was_overtaken_is_not_answered(thread: DenseThread) -> None:
    tier = DenseTier(thread, 1024)
    tier.learn("a", 0, 0, NOTHING, text(0, 100))
    assert thread.wait(SECONDS_MAX)
    mailbox = Mailbox()
    held = Held(thread)
    tier.ask(mailbox, 10, text(0, 10))
    tier.ask(mailbox, 20, text(0, 20))
    held.let_go.set()
    assert thread.wait(SECONDS_MAX)
    assert mailbox.answer is not None
    assert mailbox.answer[0] == 20
    assert (thread.figures.answered, thread.figures.dropped) == (1, 1)


def test_a_context_embeds_what_came_before_the_learned_piece(thread: DenseThread) -> None:
    tier = DenseTier(thread, 1024)
    whole = text(0, 60)
    tier.learn("a", 0, 50, whole[42:50], whole[50:])
    assert thread.wait(SECONDS_MAX)
    mailbox = Mailbox()
    tier.ask(mailbox, 51, whole[:51])
    assert thread.wait(SECONDS_MAX)
    assert mailbox.answer is not None
    found = mailbox.answer[1]
    assert found.windows[0, :9].tolist() == whole[51:].tolist()
    assert found.similarity[0] > 0.9


def test_after_stopping_nothing_is_taken() -> None:
    ended = DenseThread()
    ended.submit(lambda: None, 0)
    ended.stop()
    assert not ended.submit(lambda: None, 0)
