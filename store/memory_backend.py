"""`--redis none`: the shared state in process memory, for replay, tests and a first try.

Backends over one MemoryStore are replicas of one another, as sidecars on one Redis are.
"""

import logging
import threading
from collections.abc import Mapping
from uuid import uuid4

from retrieval_draft.errors import AlreadyExists, FailedPrecondition
from retrieval_draft.store.applier import Applier, captured_image
from retrieval_draft.store.backend import (
    NOTICE_SECONDS_MAX,
    Durability,
    JournalFigures,
    Listener,
)
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.corpora import Corpora
from retrieval_draft.store.counts import FleetCounts, add, checked_counts, outdated
from retrieval_draft.store.journal_position import BEGINNING, JournalPosition, order_of
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned_image import LearnedImage
from retrieval_draft.store.manifest import Manifest
from retrieval_draft.store.memory_corpora import MemoryCorpora
from retrieval_draft.store.memory_shelf import MemoryShelf
from retrieval_draft.store.memory_store import MemoryStore, StoredSpace
from retrieval_draft.store.pending import Journal, Pending
from retrieval_draft.store.records import (
    NamespaceSpec,
    Record,
    check_spec,
    encode_batch,
)
from retrieval_draft.store.snapshot_store import Captured, SnapshotStore
from retrieval_draft.store.snapshots import Snapshots

IDLE_SECONDS_MAX = 1.0
SNAPSHOT_SECONDS_MAX = 10.0  # that stop waits for one that is being written

_log = logging.getLogger(__name__)


class MemoryBackend:
    """A Backend whose data are gone with the process."""

    name = "none"
    durability = Durability.MEMORY

    def __init__(self, store: MemoryStore | None = None, pending: Pending | None = None) -> None:
        self._store = store or MemoryStore()
        self._pending = pending or Pending()
        self._applier: Applier | None = None
        self._incarnation = ""
        self._thread: threading.Thread | None = None
        self._writer: threading.Thread | None = None
        self._stop = threading.Event()
        self._seen = 0  # store version that the listener has been told of
        self._next: dict[Journal, int] = {}
        self._kept = SnapshotStore(MemoryShelf(self._store), self._store.blocks)
        self._snapshots: Snapshots | None = None
        self._published: dict[tuple[Journal, str], int] = {}
        self._corpora = MemoryCorpora(self._store, self._wait_until_told)

    @property
    def blocks(self) -> Blocks:
        """See Backend."""
        return self._store.blocks

    @property
    def corpora(self) -> Corpora:
        """See Backend."""
        return self._corpora

    def start(self, replica: str, listener: Listener) -> None:
        """See Backend."""
        if self._thread is not None:
            raise FailedPrecondition("this backend was started before")
        self._incarnation = incarnation = f"{replica}/{uuid4().hex[:12]}"
        self._applier = applier = Applier(incarnation, listener, self._pending, self.blocks)
        self._snapshots = snapshots = Snapshots(self._kept, applier, self._store.rules)
        self._thread = threading.Thread(
            target=self._follow, args=(applier, snapshots), name="journal-follower", daemon=True
        )
        self._writer = threading.Thread(
            target=self._write, args=(incarnation,), name="journal-writer", daemon=True
        )
        with self._store.changed:
            version = self._store.version
            self._seen = -1
        self._thread.start()
        self._writer.start()
        with self._store.changed:
            self._store.changed.wait_for(lambda: self._seen >= version)
        self._snapshots.start()

    def stop(self, flush_seconds_max: float) -> bool:
        """See Backend."""
        if self._thread is None or self._writer is None:
            return True
        flushed = self.flush(flush_seconds_max)
        if self._snapshots is not None and not self._stop.is_set():
            self._snapshots.save_at_stop()
            self._snapshots.stop(SNAPSHOT_SECONDS_MAX)
        self._pending.close()
        with self._store.changed:
            self._stop.set()
            self._store.changed.notify_all()
        self._writer.join()
        self._thread.join()
        return flushed

    def create_namespace(self, key: NamespaceKey, spec: NamespaceSpec) -> NamespaceSpec:
        """See Backend."""
        check_spec(spec)
        with self._store.changed:
            existing = self._store.spaces.get(key)
            if existing is not None and existing.spec != spec:
                raise AlreadyExists(f"namespace {key.namespace} exists and differs")
            if existing is None:
                self._store.spaces[key] = StoredSpace(Journal(key, uuid4().hex), spec)
                self._store.touch()
            # Another replica may have created it before this one's listener has heard of it.
            version = self._store.version
        self._wait_until_told(version)
        return spec

    def get_namespace(self, key: NamespaceKey) -> NamespaceSpec:
        """See Backend."""
        with self._store.changed:
            return self._store.space(key).spec

    def list_namespaces(self, tenant: str) -> list[NamespaceSpec]:
        """See Backend."""
        with self._store.changed:
            spaces = self._store.spaces
            return [spaces[key].spec for key in sorted(spaces) if key.tenant == tenant]

    def delete_namespace(self, key: NamespaceKey) -> None:
        """See Backend."""
        with self._store.changed:
            self._store.space(key)
            del self._store.spaces[key]
            version = self._store.touch()
        self.blocks.remove_all(key)
        self._wait_until_told(version)

    def append(self, key: NamespaceKey, record: Record) -> None:
        """See Backend."""
        journal = self._applier.journal(key) if self._applier else None
        if journal is None:
            self._pending.refuse(key)
        else:
            self._pending.append(journal, record)

    def flush(self, seconds_max: float) -> bool:
        """See Backend."""
        return self._pending.flush(seconds_max)

    def save_snapshot(self, key: NamespaceKey) -> Manifest:
        """See Backend."""
        if self._snapshots is None:
            raise FailedPrecondition("this backend was not started")
        return self._snapshots.take(key)

    def snapshots(self, key: NamespaceKey) -> list[Manifest]:
        """See Backend."""
        return [one.manifest for one in self._kept.kept(self._journal(key))]

    def verify_snapshots(self, key: NamespaceKey) -> list[tuple[Manifest, str]]:
        """See Backend."""
        return self._kept.verify(self._journal(key))

    def learned_image(self, key: NamespaceKey) -> LearnedImage:
        """See Backend."""
        return captured_image(self._applier, key)

    def create_from(
        self, key: NamespaceKey, spec: NamespaceSpec, image: LearnedImage
    ) -> NamespaceSpec:
        """See Backend."""
        check_spec(spec)
        space = StoredSpace(Journal(key, uuid4().hex), spec)
        hidden = MemoryStore(self._store.blocks)
        hidden.spaces[key] = space
        captured = Captured(space.journal, JournalPosition(), {}, image)
        with self._store.changed:
            if key in self._store.spaces:
                raise AlreadyExists(f"namespace {key.namespace} exists already")
            SnapshotStore(MemoryShelf(hidden), self._store.blocks).put_first(captured)
            self._store.spaces[key] = space
            version = self._store.touch()
        self._wait_until_told(version)
        return spec

    def figures(self, key: NamespaceKey) -> JournalFigures:
        """See Backend."""
        if self._applier is None:
            return JournalFigures()
        return self._applier.figures(key, connected=not self._stop.is_set())

    def add_counts(self, key: NamespaceKey, counts: Mapping[str, int]) -> None:
        """See Backend."""
        checked_counts(counts)
        if self._applier is None:
            return
        journal, heartbeat = self._applier.journal(key), self._applier.heartbeat(key)
        with self._store.changed:
            space = self._store.space_of(journal) if journal else None
            if space is None:
                return
            add(space.counts, counts)
            space.heartbeats[self._incarnation] = heartbeat
            for name in outdated(space.heartbeats, heartbeat.unix_seconds):
                del space.heartbeats[name]

    def counts(self, key: NamespaceKey) -> FleetCounts:
        """See Backend."""
        with self._store.changed:
            space = self._store.space(key)
            return FleetCounts(dict(space.counts), dict(sorted(space.heartbeats.items())))

    def _write(self, replica: str) -> None:
        while not self._stop.is_set():
            if not self._pending.wait(IDLE_SECONDS_MAX):
                continue
            self._pending.wait_for_reader(IDLE_SECONDS_MAX)
            for outgoing in self._pending.take(replica):
                payload = encode_batch(outgoing.batch)
                with self._store.changed:
                    stored = self._store.add_entry(outgoing.journal, payload)
                if stored:
                    self._pending.written(outgoing)
                else:
                    self._pending.abandon(outgoing)

    def _journal(self, key: NamespaceKey) -> Journal:
        with self._store.changed:
            return self._store.space(key).journal

    def _follow(self, applier: Applier, snapshots: Snapshots) -> None:
        store = self._store
        while True:
            with store.changed:
                store.changed.wait_for(lambda: self._stop.is_set() or self._seen < store.version)
                if self._stop.is_set():
                    return
                version = store.version
                spaces = {space.journal: space.spec for space in store.spaces.values()}
            self._tell_namespaces(applier, spaces)
            for journal in spaces:
                self._tell_corpora(applier, journal)
                self._tell_entries(applier, snapshots, journal)
            with store.changed:
                self._seen = version
                store.changed.notify_all()

    def _tell_namespaces(self, applier: Applier, spaces: dict[Journal, NamespaceSpec]) -> None:
        existing = {journal.key for journal in spaces}
        for key in applier.known():
            if key not in existing:
                applier.closed(key)
        for journal, spec in spaces.items():
            applier.opened(journal, spec)
        self._next = {journal: n for journal, n in self._next.items() if journal in spaces}
        known = self._published.items()
        self._published = {(j, corpus): at for (j, corpus), at in known if j in spaces}

    def _tell_corpora(self, applier: Applier, journal: Journal) -> None:
        with self._store.changed:
            space = self._store.space_of(journal)
            corpora = space.corpora if space else {}
            now = {name: corpus.published for name, corpus in corpora.items() if corpus.published}
        before = {corpus: at for (j, corpus), at in self._published.items() if j == journal}
        for corpus in sorted(now.keys() | before.keys()):
            if now.get(corpus) != before.get(corpus):
                if corpus in now:
                    self._published[journal, corpus] = now[corpus]
                else:
                    del self._published[journal, corpus]
                applier.corpus(journal.key, corpus)

    def _tell_entries(self, applier: Applier, snapshots: Snapshots, journal: Journal) -> None:
        if journal not in self._next:
            self._next[journal] = order_of(snapshots.restore(journal) or BEGINNING)[0] + 1
        mended = snapshots.mend(journal)
        first, entries = self._entries(journal)
        if not mended and first > self._next[journal]:
            what = (
                f"entries {self._next[journal]} to {first - 1} were trimmed before they were read"
            )
            self._next[journal] = first
            mended = snapshots.missed(journal, f"{first - 1}-0", what)
        if mended:
            self._next[journal] = order_of(mended)[0] + 1
            first, entries = self._entries(journal)
        for number, payload in enumerate(entries, start=first):
            applier.entry(journal.key, f"{number}-0", payload)
        self._next[journal] = first + len(entries)
        snapshots.progressed(journal.key)

    def _entries(self, journal: Journal) -> tuple[int, list[bytes]]:
        with self._store.changed:
            return self._store.entries_from(journal, self._next[journal])

    def _wait_until_told(self, version: int) -> None:
        """Wait for the follower, unless it isn't there or is who asks."""
        if self._thread is None or threading.current_thread() is self._thread:
            return
        with self._store.changed:
            told = self._store.changed.wait_for(
                lambda: self._stop.is_set() or self._seen >= version, NOTICE_SECONDS_MAX
            )
        if not told:
            _log.warning("the follower is behind by more than %s s", NOTICE_SECONDS_MAX)
