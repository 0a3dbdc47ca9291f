"""The thread that writes queued records to the journals, and goes on trying while Redis is away."""

import logging
import random
import threading

from redis.client import Pipeline

from retrieval_draft.store.connection import translated
from retrieval_draft.store.keys import redis_key
from retrieval_draft.store.pending import Journal, Outgoing, Pending
from retrieval_draft.store.records import encode_batch
from retrieval_draft.store.redis_clients import REDIS_ERRORS
from retrieval_draft.store.redis_streams import Command, Streams

IDLE_SECONDS_MAX = 1.0
BACK_OFF_SECONDS_MIN = 0.05
BACK_OFF_SECONDS_MAX = 2.0
PAYLOAD_FIELD = b"b"
# Entries without payload: the journal begins here; it was trimmed, or a snapshot was taken.
CREATED_FIELD, MOVED_FIELD = b"created", b"moved"

_log = logging.getLogger(__name__)


def journal_key(journal: Journal) -> str:
    """The stream of this incarnation: what was on its way to an earlier one can't end up here."""
    return redis_key(journal.key, "journal", journal.incarnation)


class BackOff:
    """Rising waits between attempts, spread so that replicas do not come back all at once."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._seconds = stop, BACK_OFF_SECONDS_MIN

    def wait(self) -> None:
        """Wait, longer each time; returns at once on stop."""
        self._stop.wait(self._seconds * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
        self._seconds = min(self._seconds * 2, BACK_OFF_SECONDS_MAX)

    def reset(self) -> None:
        """An attempt succeeded."""
        self._seconds = BACK_OFF_SECONDS_MIN


class Complaint:
    """Says that Redis is away once for each kind of reason, not with every attempt."""

    def __init__(self, url: str, consequence: str) -> None:
        self._url, self._consequence = url, consequence
        self._kind: type[Exception] | None = None

    def say(self, error: Exception) -> None:
        """Log what failed, if it is news."""
        if not isinstance(error, REDIS_ERRORS):
            _log.error("%s: an error of ours", self._consequence, exc_info=error)
            return
        shown = translated(error, self._url)
        if type(shown) is not self._kind:
            _log.warning("%s: %s", self._consequence, shown)
        self._kind = type(shown)

    def withdraw(self) -> None:
        """Log that it works again, if it did not."""
        if self._kind is not None:
            _log.info("no longer: %s", self._consequence)
        self._kind = None


class RedisWriter:
    """Batches in the order of their numbers, one of each namespace at a time.

    A batch is sent until Redis answers that it is stored, or that its namespace is gone; one that
    was stored without an answer is stored twice, and its number tells the followers.
    """

    def __init__(self, streams: Streams, url: str, replica: str, pending: Pending) -> None:
        self._streams, self._replica, self._pending = streams, replica, pending
        self._stop = threading.Event()
        self._back_off = BackOff(self._stop)
        self._complaint = Complaint(url, "records wait in memory")
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self.connected = True

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, seconds_max: float) -> None:
        """End the thread; what is still pending is given up."""
        self._stop.set()
        self._thread.join(seconds_max)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._pending.wait(IDLE_SECONDS_MAX):
                continue
            self._pending.wait_for_reader(IDLE_SECONDS_MAX)
            batches = self._pending.take(self._replica)
            while batches and not self._stop.is_set():
                batches = self._attempt(batches)

    def _attempt(self, batches: list[Outgoing]) -> list[Outgoing]:
        """Send them; returns those to be sent again."""
        try:
            failed = self._send(batches)
        except Exception as error:  # nothing may end this thread: the queue is bounded
            self._failed(error)
            return batches
        if failed:
            self._failed(failed[0][1])
        else:
            self._succeeded()
        return [outgoing for outgoing, _ in failed]

    def _send(self, batches: list[Outgoing]) -> list[tuple[Outgoing, Exception]]:
        answers = self._streams.send([_appending(outgoing) for outgoing in batches])
        failed: list[tuple[Outgoing, Exception]] = []
        for outgoing, answer in zip(batches, answers, strict=True):
            if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                failed.append((outgoing, answer))
            elif isinstance(answer, bytes):
                self._pending.written(outgoing)
            else:
                _log.warning("dropped a batch of %s: no such journal", outgoing.journal.key)
                self._pending.abandon(outgoing)
        return failed

    def _failed(self, error: Exception) -> None:
        self._complaint.say(error)
        self.connected = False
        self._back_off.wait()

    def _succeeded(self) -> None:
        self._complaint.withdraw()
        self.connected = True
        self._back_off.reset()


def _appending(outgoing: Outgoing) -> tuple[str, Command]:
    name, payload = journal_key(outgoing.journal), encode_batch(outgoing.batch)

    def append(pipeline: Pipeline) -> object:
        return pipeline.xadd(name, {PAYLOAD_FIELD: payload}, nomkstream=True)

    return name, append
