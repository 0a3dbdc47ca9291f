"""A namespace's corpora in process memory; see MemoryStore."""

import time
from collections.abc import Callable, Collection, Iterator

from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.corpora import PendingEntry, SegmentEntry, StoredContent
from retrieval_draft.store.keys import NamespaceKey, checked_corpus
from retrieval_draft.store.memory_store import MemoryStore, StoredCorpus
from retrieval_draft.store.records import Block, content_digest, decode_block, encode_block


class MemoryCorpora:
    """See Corpora. `wait_until_told` returns when the listener here knows that version of the store."""

    def __init__(self, store: MemoryStore, wait_until_told: Callable[[int], None]) -> None:
        self._store, self._wait_until_told = store, wait_until_told

    @property
    def _blobs(self) -> Blocks:
        return self._store.blocks

    def put_block(self, key: NamespaceKey, corpus: str, block: Block) -> bool:
        """See Corpora."""
        checked_corpus(corpus)
        payload = encode_block(block)
        digest = content_digest(payload)
        with self._store.changed:
            stored = self._store.space(key).corpora.setdefault(corpus, StoredCorpus())
            if digest in stored.blocks:
                return False
            stored.blocks[digest] = payload
            stored.pending[digest] = entry = PendingEntry.of(block)
            stored.documents.update(entry.each())
            return True

    def pending(
        self, key: NamespaceKey, corpus: str, digests: Collection[bytes]
    ) -> Iterator[tuple[bytes, Block | None]]:
        """See Corpora."""
        for digest in digests:
            with self._store.changed:
                payload = self._store.corpus(key, corpus).blocks.get(digest)
            if payload is not None:
                yield digest, decode_block(payload)

    def content(self, key: NamespaceKey, corpus: str) -> StoredContent:
        """See Corpora."""
        with self._store.changed:
            stored = self._store.corpus(key, corpus)
            pending = dict(sorted(stored.pending.items()))
            return StoredContent(stored.segments, pending, bool(stored.published))

    def names(self, key: NamespaceKey) -> list[str]:
        """See Corpora."""
        with self._store.changed:
            return sorted(self._store.space(key).corpora)

    def known_documents(
        self, key: NamespaceKey, corpus: str, digests: Collection[bytes]
    ) -> set[bytes]:
        """See Corpora."""
        with self._store.changed:
            stored = self._store.space(key).corpora.get(corpus)
            return stored.documents & set(digests) if stored else set()

    def switch(
        self,
        key: NamespaceKey,
        corpus: str,
        before: tuple[SegmentEntry, ...],
        after: tuple[SegmentEntry, ...],
        built: Collection[bytes],
        lost: Collection[bytes] = (),
    ) -> bool:
        """See Corpora."""
        with self._store.changed:
            stored = self._store.corpus(key, corpus)
            if stored.segments != before or not stored.pending.keys() >= set(built):
                return False
            for digest in lost:
                stored.documents.difference_update(stored.pending[digest].each())
            stored.segments = after
            for digest in built:
                del stored.pending[digest], stored.blocks[digest]
            if not stored.published:
                return True
            stored.published = version = self._store.touch()
        self._wait_until_told(version)
        return True

    def claim(self, key: NamespaceKey, corpus: str, owner: str, seconds: float) -> bool:
        """See Corpora."""
        with self._store.changed:
            stored, now = self._store.corpus(key, corpus), time.monotonic()
            if stored.claimed_by not in ("", owner) and now < stored.claimed_until:
                return False
            stored.claimed_by, stored.claimed_until = owner, now + seconds
            return True

    def release(self, key: NamespaceKey, corpus: str, owner: str) -> None:
        """See Corpora."""
        with self._store.changed:
            space = self._store.spaces.get(key)
            stored = space.corpora.get(corpus) if space else None
            if stored is not None and stored.claimed_by == owner:
                stored.claimed_by = ""

    def publish(self, key: NamespaceKey, corpus: str) -> None:
        """See Corpora."""
        with self._store.changed:
            version = self._store.touch()
            self._store.corpus(key, corpus).published = version
        self._wait_until_told(version)

    def delete(self, key: NamespaceKey, corpus: str) -> None:
        """See Corpora."""
        with self._store.changed:
            segments = self._store.corpus(key, corpus).segments
            corpora = self._store.space(key).corpora
            del corpora[corpus]
            # Another corpus of the same documents may have the same segments.
            used = {entry.digest for other in corpora.values() for entry in other.segments}
            version = self._store.touch()
        self._blobs.remove(key, {entry.digest for entry in segments} - used)
        self._wait_until_told(version)
