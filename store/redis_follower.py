"""The thread that reads every namespace's journal, and the control stream.

The control stream only says that something changed: what holds now is read from the keys.
"""

import logging
import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import cast

from redis.typing import EncodableT, FieldT

from retrieval_draft.errors import Corrupt, DraftError
from retrieval_draft.store.applier import Applier
from retrieval_draft.store.connection import translated
from retrieval_draft.store.journal_position import BEGINNING, order_of
from retrieval_draft.store.keys import NamespaceKey, parse_tag, redis_key, tag
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.records import StoredNamespace, decode_namespace
from retrieval_draft.store.redis_clients import REDIS_ERRORS
from retrieval_draft.store.redis_streams import READ_ENTRIES_MAX, Entries, Streams
from retrieval_draft.store.redis_writer import (
    CREATED_FIELD,
    MOVED_FIELD,
    PAYLOAD_FIELD,
    BackOff,
    Complaint,
    journal_key,
)
from retrieval_draft.store.snapshots import Snapshots

BLOCK_MS = 250  # also how long stop may take
# Between looks for what no entry tells: a journal that others trimmed, blocks that can be had again.
CHECK_SECONDS = 0.1
CONTROL = redis_key(None, "control")
NAMESPACES = redis_key(None, "namespaces")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Position:
    """How far one journal has been read, and what was published of its corpora."""

    journal: Journal
    entry_id: str = BEGINNING
    checked: float = 0.0  # monotonic
    missed: str = ""  # the journal's first entry when it was last found trimmed past us
    published: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])


class RedisFollower:
    """Feeds an Applier. After an outage it goes on behind the last entry it has read.

    What was created, deleted or published meanwhile is found by comparing with the keys, so it
    does not matter whether the control stream still holds it. A journal that has lost what was
    read of it (another server took over before it had the newest entries) is read from its
    beginning, so that every replica comes to the same.
    """

    def __init__(self, streams: Streams, url: str, applier: Applier, snapshots: Snapshots) -> None:
        self._streams, self._client = streams, streams.client
        self._url, self._applier, self._snapshots = url, applier, snapshots
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-follower", daemon=True)
        self._changed = threading.Condition()
        self._replayed = False
        self._failure: Exception | None = None
        self._control = BEGINNING
        self._positions: dict[str, _Position] = {}
        self._connections = 0  # when the positions were last compared with the journals
        self.connected = False

    def start(self) -> None:
        """Returns when all that existed at the call is applied; raises if Redis fails before."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._replayed or self._failure is not None)
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self, seconds_max: float) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(seconds_max)

    def wait_for_control(self, entry_id: str, seconds_max: float) -> bool:
        """Whether the listener has been told of this control entry in time; at once for itself."""
        if threading.current_thread() is self._thread:
            return True
        wanted = order_of(entry_id)
        with self._changed:
            return self._changed.wait_for(
                lambda: self._stop.is_set() or order_of(self._control) >= wanted, seconds_max
            )

    def _run(self) -> None:
        try:
            self._control = self._last_id(CONTROL)
            self._compare()
            self._replay()
        except Exception as error:  # raised by `start`, in the thread of its caller
            foreign = isinstance(error, REDIS_ERRORS)
            with self._changed:
                self._failure = translated(error, self._url) if foreign else error
                self._changed.notify_all()
            return
        with self._changed:
            self._replayed = self.connected = True
            self._changed.notify_all()
        back_off = BackOff(self._stop)
        complaint = Complaint(self._url, "the learned tier stands still")
        while not self._stop.is_set():
            try:
                if not self.connected:
                    self._compare()
                    complaint.withdraw()
                    self.connected = True
                self._read(BLOCK_MS)
                back_off.reset()
            except Exception as error:  # nothing may end this thread; drafting goes on without it
                complaint.say(error)
                self.connected = False
                back_off.wait()

    def _replay(self) -> None:
        """Read on until every journal is where it was at the call."""
        targets = {key: order_of(self._last_id(key)) for key in self._positions}
        while not self._stop.is_set():
            targets = {
                key: target
                for key, target in targets.items()
                if key in self._positions and order_of(self._positions[key].entry_id) < target
            }
            if not targets:
                return
            self._read(0)

    def _compare(self) -> None:
        """Bring the listener's namespaces, journals and corpora to what Redis holds."""
        self._connections = self._streams.connections  # one that is made from here on is compared
        ids = {name: position.entry_id for name, position in self._positions.items()}
        lost = self._streams.lost({**ids, CONTROL: self._control})
        if CONTROL in lost:
            self._control = self._last_id(CONTROL)
        stored = {parse_tag(name.decode()): data for name, data in self._hash(NAMESPACES).items()}
        gone = [key for key in self._applier.known() if key not in stored]
        if gone:
            _log.warning("%d namespaces are gone from Redis: deleted, or lost by it", len(gone))
        for key in gone:
            self._close(key)
        for name in lost & self._positions.keys():
            self._rewind(name)
        for key in sorted(stored):
            self._open(key, stored[key])

    def _read(self, block_ms: int) -> None:
        after = {name: position.entry_id for name, position in self._positions.items()}
        found = self._streams.read({**after, CONTROL: self._control}, block_ms)
        if self._streams.connections != self._connections:
            self._compare()  # who answered may not have what was read before: read again then
            return
        for entry_id, fields in found.pop(CONTROL, []):
            self._changed_by(fields)
            with self._changed:
                self._control = entry_id.decode()
                self._changed.notify_all()
        for name, entries in found.items():
            position = self._positions.get(name)
            if position is not None and not self._is_moved(name, position, entries):
                self._apply(position, entries)

    def _apply(self, position: _Position, entries: Entries) -> None:
        key = position.journal.key
        for entry_id, fields in entries:
            position.entry_id = entry_id.decode()
            payload = fields.get(PAYLOAD_FIELD)
            if payload is not None:  # others say that the journal was made, or has moved
                self._applier.entry(key, position.entry_id, payload)
        self._snapshots.progressed(key)

    def _is_moved(self, name: str, position: _Position, entries: Entries) -> bool:
        """Whether to go on elsewhere than behind what was last read: entries are gone, or back."""
        # Trimming appends an entry in the same transaction: it is in this answer, or behind a full one.
        is_told = len(entries) >= READ_ENTRIES_MAX or any(MOVED_FIELD in f for _, f in entries)
        if not is_told and monotonic() - position.checked < CHECK_SECONDS:
            return False
        position.checked = monotonic()
        journal = position.journal
        restored = self._snapshots.mend(journal)
        first = self._first_entry(name) if restored is None else ""
        # A journal that begins with the entry that made it, or with one that was read, is whole.
        if first and order_of(first) > order_of(position.entry_id) and first != position.missed:
            position.missed = first
            what = f"entries after {position.entry_id} and before {first} were trimmed unread"
            restored = self._snapshots.missed(journal, first, what)
        if restored is not None:
            position.entry_id = restored
        return restored is not None

    def _first_entry(self, stream: str) -> str:
        """The id of the oldest entry; "" if that is the one which made the journal."""
        oldest = cast(Entries, self._client.xrange(stream, count=1))
        if oldest:
            entry_id, fields = oldest[0]
            return "" if CREATED_FIELD in fields else entry_id.decode()
        # Nothing is left: what was read last may still be the last that was written.
        last = cast(dict[str, bytes], self._client.xinfo_stream(stream))["last-generated-id"]
        return last.decode()

    def _changed_by(self, fields: dict[bytes, bytes]) -> None:
        name = fields.get(b"namespace", b"").decode()
        try:
            key = parse_tag(name)
        except DraftError as error:
            _log.error("skipped a control entry: %s", error)
            return
        data = cast(bytes | None, self._client.get(redis_key(key, "spec")))
        if data is None:
            self._close(key)
        else:
            self._open(key, data)

    def _open(self, key: NamespaceKey, data: bytes) -> None:
        """The namespace exists: tell the listener what it does not know of it yet."""
        try:
            stored: StoredNamespace = decode_namespace(data)
        except Corrupt as error:
            _log.error("namespace %s is left out: %s", key, error)
            return
        journal = Journal(key, stored.incarnation)
        name = journal_key(journal)
        if name not in self._positions:
            self._close(key)
            position = _Position(journal)
            self._applier.opened(journal, stored.spec)
            position.entry_id = self._snapshots.restore(journal) or BEGINNING
            self._is_moved(name, position, [])
            self._positions[name] = position
        position = self._positions[name]
        corpora = self._hash(redis_key(key, "corpora"))
        published = {corpus: token for corpus, token in corpora.items() if token}
        before, position.published = position.published, published
        for corpus in sorted(published.keys() | before.keys()):
            if published.get(corpus) != before.get(corpus):
                self._applier.corpus(key, corpus.decode())

    def _rewind(self, name: str) -> None:
        journal = self._positions[name].journal
        _log.error("the journal of %s has lost entries: it is read afresh", journal.key)
        self._applier.rewound(journal)
        self._positions[name] = position = _Position(journal)
        position.entry_id = self._snapshots.restore(journal) or BEGINNING
        self._is_moved(name, position, [])

    def _close(self, key: NamespaceKey) -> None:
        journal = self._applier.journal(key)
        if journal is not None:
            self._positions.pop(journal_key(journal), None)
            self._applier.closed(key)

    def _hash(self, name: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._client.hgetall(name))

    def _last_id(self, stream: str) -> str:
        newest = cast(Entries, self._client.xrevrange(stream, count=1))
        return newest[0][0].decode() if newest else BEGINNING


def control_fields(key: NamespaceKey) -> dict[FieldT, EncodableT]:
    """The control entry that makes every follower look at this namespace again."""
    return {"namespace": tag(key)}
