"""The dense thread: all that is done with embeddings and their index, beside the steps.

A queue of bounded size: what does not fit is dropped and counted, as is a question that a newer one of
the same sequence has overtaken. Drafts take what is in a sequence's mailbox and never wait.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrieval_draft.store.dense import DenseIndex
from retrieval_draft.store.embedding import (
    TAIL_TOKENS,
    Embedding,
    StateArray,
    StateEmbedding,
    TokenEmbedding,
)
from retrieval_draft.store.neighbours import Neighbours
from retrieval_draft.tree import Int32Array

NEIGHBOURS = 16
JOBS_MAX = 4096
JOB_BYTES_MAX = 64 << 20
"""Of all that waits: hidden states are kilobytes a token."""

_log = logging.getLogger(__name__)
_Job = tuple[Callable[[], None], int]


@dataclass(slots=True)
class Mailbox:
    """One sequence's questions and the newest answer: what followed contexts like the one that ended
    at position `stop`."""

    asked: int = 0
    answer: tuple[int, Neighbours] | None = None


@dataclass(frozen=True, slots=True)
class DenseFigures:
    """Of one process: CPU seconds of asking and learning, and of building; jobs done and dropped."""

    seconds: float
    build_seconds: float
    answered: int
    dropped: int


class DenseThread:
    """Starts with the first job, and ends with the process if it is not stopped before."""

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._bytes = 0
        self._running = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._builder: threading.Thread | None = None
        self._seconds = self._build_seconds = 0.0
        self.answered = self.dropped = 0
        self._ended = False

    @property
    def figures(self) -> DenseFigures:
        return DenseFigures(self._seconds, self._build_seconds, self.answered, self.dropped)

    def submit(self, call: Callable[[], None], nbytes: int) -> bool:
        """Do it later; whether there was room. Never waits."""
        with self._changed:
            full = len(self._jobs) >= JOBS_MAX or self._bytes + nbytes > JOB_BYTES_MAX
            if full or self._ended:
                self.dropped += 1
                return False
            self._jobs.append((call, nbytes))
            self._bytes += nbytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dense", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return True

    def wait(self, seconds_max: float) -> bool:
        """Whether all that was submitted, and building, is done before the time is over."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._jobs and not self._running and self._builder is None, seconds_max
            )

    def stop(self) -> None:
        """Drop what waits and end; returns when the running job is over."""
        with self._changed:
            self._ended = True
            self._jobs.clear()
            self._changed.notify_all()
        for thread in (self._thread, self._builder):
            if thread is not None:
                thread.join()

    def build(self, index: DenseIndex) -> None:
        """Build beside the questions, one index at a time; the thread asks again if it stays due."""
        with self._changed:
            if self._builder is not None or self._ended:
                return
            self._builder = threading.Thread(
                target=self._build, args=(index,), name="dense-build", daemon=True
            )
            self._builder.start()

    def _build(self, index: DenseIndex) -> None:
        began = time.thread_time()
        try:
            index.build()
        except Exception:  # a library's failure must not end dense retrieval for all
            _log.exception("a dense index could not be built; contexts are compared one by one")
        self._build_seconds += time.thread_time() - began
        with self._changed:
            self._builder = None
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._jobs) or self._ended)
                if self._ended:
                    return
                call, nbytes = self._jobs.popleft()
                self._bytes -= nbytes
                self._running = True
            began = time.thread_time()
            try:
                call()
            except Exception:  # one bad job must not end the others
                _log.exception("the dense thread failed on a job and goes on after it")
            self._seconds += time.thread_time() - began


class DenseTier:
    """One namespace's dense retrieval, of outputs alone; it ends with the namespace.

    `is_hidden`: embeddings are hidden states that the worker sends, known to this replica alone (they
    are never journalled); else they are made of the journal's tokens.
    """

    def __init__(
        self, thread: DenseThread, contexts_max: int, kind: str = "auto", *, is_hidden: bool = False
    ) -> None:
        self.thread = thread
        self.is_hidden = is_hidden
        self.index = DenseIndex(contexts_max, kind)
        self._embed: Embedding = StateEmbedding() if is_hidden else TokenEmbedding()

    def learn(
        self,
        replica: str,
        sequence: int,
        position: int,
        context: Int32Array,
        tokens: Int32Array,
        states: StateArray | None = None,
    ) -> None:
        """`tokens` of a sequence came at `position`, behind `context`. Returns at once.

        `states` are the hidden states after each of them, 0 where unknown.
        """

        def learn() -> None:
            whole = np.concatenate([context, tokens]) if states is None else tokens
            vectors = self._embed(whole, states)
            if vectors is None:
                return
            self.index.add(replica, sequence, position, tokens, vectors[len(whole) - len(tokens) :])
            if self.index.is_due:
                self.thread.build(self.index)

        nbytes = context.nbytes + tokens.nbytes + (0 if states is None else states.nbytes)
        self.thread.submit(learn, nbytes)

    def ask(
        self, mailbox: Mailbox, stop: int, tail: Int32Array, state: StateArray | None = None
    ) -> None:
        """Let the answer for the context that ends at `stop` come into the mailbox. Returns at once.

        `tail` are its last tokens, `state` float16[width] the hidden state after them.
        """
        mailbox.asked += 1
        number = mailbox.asked
        tail = tail[-TAIL_TOKENS:]

        def answer() -> None:
            # A newer question waits: this answer would come too late.
            if mailbox.asked != number:
                self.thread.dropped += 1
                return
            vectors = self._embed(tail, None if state is None else state[None])
            if vectors is None or not len(vectors):
                return
            mailbox.answer = (stop, self.index.search(vectors[-1], NEIGHBOURS))
            self.thread.answered += 1

        self.thread.submit(answer, tail.nbytes + (0 if state is None else state.nbytes))
