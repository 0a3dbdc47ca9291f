"""What Redis would hold, in process memory: namespaces, their journals and corpora.

Threads share it under one condition; it calls nobody.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from retrieval_draft.errors import NotFound
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.corpora import PendingEntry, SegmentEntry
from retrieval_draft.store.counts import Heartbeat
from retrieval_draft.store.journal_position import ENTRY_OVERHEAD_BYTES
from retrieval_draft.store.journal_rules import JournalRules
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_blocks import MemoryBlocks
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.records import NamespaceSpec


@dataclass(slots=True)
class StoredCorpus:
    """Encoded pending blocks by digest, what they hold, and the segments built of others."""

    blocks: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    pending: dict[bytes, PendingEntry] = field(default_factory=dict[bytes, PendingEntry])
    segments: tuple[SegmentEntry, ...] = ()
    claimed_by: str = ""
    claimed_until: float = 0.0  # monotonic seconds
    documents: set[bytes] = field(default_factory=set[bytes])
    published: int = 0  # store version of the last publish; 0 = never


@dataclass(slots=True)
class StoredSpace:
    """One namespace. The number of an entry is its place in the journal since the beginning, from 1."""

    journal: Journal
    spec: NamespaceSpec
    first: int = 1  # number of entries[0]
    entries: deque[bytes] = field(default_factory=deque[bytes])
    entries_bytes: int = 0
    corpora: dict[str, StoredCorpus] = field(default_factory=dict[str, StoredCorpus])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict[str, Heartbeat])
    manifests: list[bytes] = field(default_factory=list[bytes])  # newest first
    noted: set[str] = field(default_factory=set[str])
    token: int = 0
    locked_until: float = 0.0  # monotonic

    def trim(self, before: int) -> None:
        """Remove the entries before that number."""
        while self.entries and self.first < before:
            self._drop_oldest()

    def bound(self, bytes_max: int) -> None:
        """Remove the oldest entries until the others fit, whatever comes of it."""
        while self.entries_bytes > bytes_max and len(self.entries) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.entries_bytes -= len(self.entries.popleft()) + ENTRY_OVERHEAD_BYTES
        self.first += 1


class MemoryStore:
    """What Redis would hold. Guarded by `changed`; `version` rises with each change."""

    def __init__(self, blocks: Blocks | None = None, rules: JournalRules | None = None) -> None:
        self.blocks: Blocks = blocks or MemoryBlocks()
        self.rules = rules or JournalRules()
        self.changed = threading.Condition()
        self.version = 0
        self.spaces: dict[NamespaceKey, StoredSpace] = {}

    def space(self, key: NamespaceKey) -> StoredSpace:
        """The namespace, or NotFound."""
        found = self.spaces.get(key)
        if found is None:
            raise NotFound(f"there is no namespace {key.namespace}")
        return found

    def space_of(self, journal: Journal) -> StoredSpace | None:
        """The namespace, if it is still the one of this journal."""
        space = self.spaces.get(journal.key)
        return space if space is not None and space.journal == journal else None

    def corpus(self, key: NamespaceKey, corpus: str) -> StoredCorpus:
        """The corpus, or NotFound."""
        found = self.space(key).corpora.get(corpus)
        if found is None:
            raise NotFound(f"there is no corpus {corpus} in namespace {key.namespace}")
        return found

    def entries_from(self, journal: Journal, number: int) -> tuple[int, list[bytes]]:
        """The entries from this number on, and the number of the first that is still there."""
        space = self.space_of(journal)
        if space is None:
            return number, []
        first = max(number, space.first)
        return first, list(islice(space.entries, first - space.first, None))

    def touch(self) -> int:
        """Say that something changed; the caller holds `changed`."""
        self.version += 1
        self.changed.notify_all()
        return self.version

    def add_entry(self, journal: Journal, payload: bytes) -> bool:
        """Append to the journal, if it is still that of its namespace."""
        space = self.space_of(journal)
        if space is None:
            return False
        space.entries.append(payload)
        space.entries_bytes += len(payload) + ENTRY_OVERHEAD_BYTES
        space.bound(self.rules.journal_bytes_max)
        self.touch()
        return True
