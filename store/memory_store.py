"""What Redis would hold, in process memory: namespaces, their journals and corpora.

Threads share it under one condition; it calls nobody.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from retrieval_draft.errors import NotFound
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.counts import Heartbeat
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_blocks import MemoryBlocks
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.records import NamespaceSpec

JOURNAL_BYTES_MAX = 64 * 2**20  # of one namespace; the oldest entries go first


@dataclass(slots=True)
class StoredCorpus:
    """Encoded blocks by digest, in the order they were put."""

    blocks: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    documents: set[bytes] = field(default_factory=set[bytes])
    published: int = 0  # store version of the last publish; 0 = never


@dataclass(slots=True)
class StoredSpace:
    """One namespace. The number of an entry is its place in the journal since the beginning."""

    journal: Journal
    spec: NamespaceSpec
    first: int = 0  # number of entries[0]
    entries: deque[bytes] = field(default_factory=deque[bytes])
    entries_bytes: int = 0
    corpora: dict[str, StoredCorpus] = field(default_factory=dict[str, StoredCorpus])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict[str, Heartbeat])


class MemoryStore:
    """What Redis would hold. Guarded by `changed`; `version` rises with each change."""

    def __init__(self, blocks: Blocks | None = None) -> None:
        self.blocks: Blocks = blocks or MemoryBlocks()
        self.changed = threading.Condition()
        self.version = 0
        self.spaces: dict[NamespaceKey, StoredSpace] = {}

    def space(self, key: NamespaceKey) -> StoredSpace:
        """The namespace, or NotFound."""
        found = self.spaces.get(key)
        if found is None:
            raise NotFound(f"there is no namespace {key.namespace}")
        return found

    def corpus(self, key: NamespaceKey, corpus: str) -> StoredCorpus:
        """The corpus, or NotFound."""
        found = self.space(key).corpora.get(corpus)
        if found is None:
            raise NotFound(f"there is no corpus {corpus} in namespace {key.namespace}")
        return found

    def entries_from(self, journal: Journal, number: int) -> tuple[int, list[bytes]]:
        """The entries from this number on, and the number of the first that is still there."""
        space = self.spaces.get(journal.key)
        if space is None or space.journal != journal:
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
        space = self.spaces.get(journal.key)
        if space is None or space.journal != journal:
            return False
        space.entries.append(payload)
        space.entries_bytes += len(payload)
        while space.entries_bytes > JOURNAL_BYTES_MAX and len(space.entries) > 1:
            space.entries_bytes -= len(space.entries.popleft())
            space.first += 1
        self.touch()
        return True
