"""Records on their way: queued, being written, or written and not yet back from the journal.

Bounded, and never waits for the store. Knows nothing of Redis.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import Batch, Record

QUEUE_RECORDS_MAX = 65_536
QUEUE_BYTES_MAX = 64 * 2**20
# Records that arrive within it share a batch; while one is written the next gathers anyway.
LINGER_SECONDS = 0.0005
TAKE_RECORDS_MAX = 4_096
TAKE_BYTES_MAX = 2**20
RECORD_OVERHEAD_BYTES = 400  # of the objects around a record's arrays
# Written here and not yet read here: beyond it the writer waits for its own follower, who also trims.
AHEAD_BYTES_MAX = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Journal:
    """One life of a namespace: created again after a delete, it has another incarnation."""

    key: NamespaceKey
    incarnation: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A batch that is to be written, and the ticket of its oldest record."""

    journal: Journal
    batch: Batch
    ticket: int
    bytes: int = 0


@dataclass(slots=True)
class Counts:
    """Records of one namespace: `appended` = `dropped` + `returned` + those still on their way."""

    appended: int = 0
    written: int = 0
    dropped: int = 0
    returned: int = 0  # back through the journal, or known to be lost in it


@dataclass(frozen=True, slots=True)
class _Queued:
    journal: Journal
    record: Record
    bytes: int
    ticket: int


@dataclass(slots=True)
class _Sent:
    """Batches of one journal that have not come back, by number, oldest first."""

    number: int = 0
    outgoing: dict[int, Outgoing] = field(default_factory=dict[int, Outgoing])
    written: set[int] = field(default_factory=set[int])


class Pending:
    """The queue in front of the journal writer, and what is needed to know when all has come back.

    `changed` is notified whenever records were queued, and when they came back.
    """

    def __init__(
        self,
        records_max: int = QUEUE_RECORDS_MAX,
        bytes_max: int = QUEUE_BYTES_MAX,
        changed: threading.Condition | None = None,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self.changed = changed or threading.Condition()
        self._records_max, self._bytes_max = records_max, bytes_max
        self._linger_seconds = linger_seconds
        self._queue: deque[_Queued] = deque()
        self._queue_bytes = self._ahead_bytes = 0
        self._tickets = 0
        self._sent: dict[Journal, _Sent] = {}
        self._counts: dict[NamespaceKey, Counts] = {}
        self._dropped = 0
        self._closed = False
        self._hurry = threading.Event()

    def append(self, journal: Journal, record: Record) -> None:
        """Queue the record; drops the oldest ones if it would not fit, itself after `close`."""
        size = _size(record)
        with self.changed:
            self._tickets += 1
            self._count(journal.key).appended += 1
            self._queue.append(_Queued(journal, record, size, self._tickets))
            self._queue_bytes += size
            while self._is_over():
                self._drop_counted(self._popleft().journal.key, 1)
            if len(self._queue) >= TAKE_RECORDS_MAX or self._queue_bytes >= TAKE_BYTES_MAX:
                self._hurry.set()
            self.changed.notify_all()

    def refuse(self, key: NamespaceKey) -> None:
        """Count a record that has no journal to go to."""
        with self.changed:
            self._count(key).appended += 1
            self._drop_counted(key, 1)

    def wait(self, seconds_max: float) -> bool:
        """Whether records are queued: at once after `close`, else within that time.

        If so others have come along: `linger_seconds` later, or when somebody waits for them in `flush`, or
        when there are as many as `take` takes.
        """
        with self.changed:
            self.changed.wait_for(lambda: self._queue or self._closed, seconds_max)
            if not self._queue:
                return False
        self._hurry.wait(self._linger_seconds)
        return True

    def wait_for_reader(self, seconds_max: float) -> None:
        """Wait until the follower is near enough, but no longer: what it waits for may be lost."""
        with self.changed:
            self.changed.wait_for(
                lambda: self._ahead_bytes <= AHEAD_BYTES_MAX or self._closed, seconds_max
            )

    def close(self) -> None:
        """Give up what is queued, and let in nothing more."""
        with self.changed:
            self._closed = True
            while self._queue:
                self._drop_counted(self._popleft().journal.key, 1)
            self._hurry.set()
            self.changed.notify_all()

    def take(self, replica: str) -> list[Outgoing]:
        """The oldest records, as at most one batch for each journal.

        They stay on their way until `returned` or `abandon`: the caller must bring each batch to
        an end before it takes more, so that batches are written in the order of their numbers.
        """
        with self.changed:
            groups: dict[Journal, list[_Queued]] = {}
            records, size = 0, 0
            while self._queue and records < TAKE_RECORDS_MAX and size < TAKE_BYTES_MAX:
                queued = self._popleft()
                groups.setdefault(queued.journal, []).append(queued)
                records, size = records + 1, size + queued.bytes
            if not self._queue and not self._closed:
                self._hurry.clear()
            return [self._outgoing(replica, journal, group) for journal, group in groups.items()]

    def written(self, outgoing: Outgoing) -> None:
        """The batch is in the journal. The follower may have seen it before the writer has."""
        with self.changed:
            sent = self._sent.get(outgoing.journal)
            if sent is not None and outgoing.batch.number in sent.outgoing:
                self._written(sent, outgoing)

    def abandon(self, outgoing: Outgoing) -> None:
        """The batch cannot be written: its records are dropped."""
        with self.changed:
            sent = self._sent.get(outgoing.journal)
            if sent is not None and sent.outgoing.pop(outgoing.batch.number, None) is not None:
                self._ahead_bytes -= outgoing.bytes
                self._drop_counted(outgoing.journal.key, len(outgoing.batch.records))
            self.changed.notify_all()

    def returned(self, journal: Journal, number: int) -> None:
        """The batch of this number has been applied; those before it are not coming any more."""
        with self.changed:
            sent = self._sent.get(journal)
            if sent is None:
                return
            for earlier in [n for n in sent.outgoing if n <= number]:
                outgoing = sent.outgoing[earlier]
                self._written(sent, outgoing)
                self._count(journal.key).returned += len(outgoing.batch.records)
                sent.written.discard(earlier)
                self._ahead_bytes -= outgoing.bytes
                del sent.outgoing[earlier]
            self.changed.notify_all()

    def forget(self, key: NamespaceKey) -> None:
        """The namespace is gone, and with it what was on its way there and its counts."""
        with self.changed:
            kept = [queued for queued in self._queue if queued.journal.key != key]
            self._queue = deque(kept)
            self._queue_bytes = sum(queued.bytes for queued in kept)
            for journal in [j for j in self._sent if j.key == key]:
                lost = self._sent.pop(journal).outgoing.values()
                self._ahead_bytes -= sum(outgoing.bytes for outgoing in lost)
            self._counts.pop(key, None)
            self.changed.notify_all()

    def flush(self, seconds_max: float) -> bool:
        """Whether all that was appended before the call came back in time, and none was dropped."""
        deadline = monotonic() + seconds_max
        with self.changed:
            ticket, dropped = self._tickets, self._dropped
            self._hurry.set()
            while self._oldest() <= ticket:
                left = deadline - monotonic()
                if left <= 0:
                    return False
                self.changed.wait(left)
            return self._dropped == dropped

    def counts(self, key: NamespaceKey) -> Counts:
        """A copy of the namespace's counts."""
        with self.changed:
            found = self._counts.get(key, Counts())
            return Counts(found.appended, found.written, found.dropped, found.returned)

    def _oldest(self) -> int:
        tickets = [o.ticket for sent in self._sent.values() for o in sent.outgoing.values()]
        if self._queue:
            tickets.append(self._queue[0].ticket)
        return min(tickets, default=self._tickets + 1)

    def _outgoing(self, replica: str, journal: Journal, group: list[_Queued]) -> Outgoing:
        sent = self._sent.setdefault(journal, _Sent())
        sent.number += 1
        batch = Batch(replica, sent.number, [queued.record for queued in group])
        size = sum(queued.bytes for queued in group)
        outgoing = Outgoing(journal, batch, group[0].ticket, size)
        self._ahead_bytes += size
        sent.outgoing[sent.number] = outgoing
        return outgoing

    def _written(self, sent: _Sent, outgoing: Outgoing) -> None:
        if outgoing.batch.number not in sent.written:
            sent.written.add(outgoing.batch.number)
            self._count(outgoing.journal.key).written += len(outgoing.batch.records)

    def _popleft(self) -> _Queued:
        queued = self._queue.popleft()
        self._queue_bytes -= queued.bytes
        return queued

    def _is_over(self) -> bool:
        over = len(self._queue) > self._records_max or self._queue_bytes > self._bytes_max
        return bool(self._queue) and (over or self._closed)

    def _drop_counted(self, key: NamespaceKey, records: int) -> None:
        self._count(key).dropped += records
        self._dropped += records

    def _count(self, key: NamespaceKey) -> Counts:
        return self._counts.setdefault(key, Counts())


def _size(record: Record) -> int:
    arrays = len(record.context) + len(record.tokens) + len(record.row_at)
    rows = len(record.row_contexts) + len(record.row_tokens) + len(record.row_logprobs)
    return arrays + rows + RECORD_OVERHEAD_BYTES
