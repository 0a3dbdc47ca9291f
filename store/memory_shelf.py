"""Manifests of snapshots in process memory."""

from time import monotonic

from retrieval_draft.errors import NotFound
from retrieval_draft.store.journal_position import order_of
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_store import MemoryStore, StoredSpace
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.snapshot_store import Fenced


class MemoryShelf:
    """See Shelf."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def manifests(self, journal: Journal) -> list[bytes]:
        """See Shelf."""
        with self._store.changed:
            space = self._store.space_of(journal)
            return list(space.manifests) if space else []

    def exists(self, key: NamespaceKey) -> bool:
        """See Shelf."""
        with self._store.changed:
            return key in self._store.spaces

    def lock(self, journal: Journal, seconds: float) -> int | None:
        """See Shelf."""
        with self._store.changed:
            space = self._space(journal)
            if space.locked_until > monotonic():
                return None
            space.token += 1
            space.locked_until = monotonic() + seconds
            return space.token

    def unlock(self, journal: Journal, token: int) -> None:
        """See Shelf."""
        with self._store.changed:
            space = self._store.space_of(journal)
            if space and space.token == token:
                space.locked_until = 0.0

    def note(self, journal: Journal, token: int, digests: list[str], seconds: float) -> None:
        """See Shelf."""
        with self._store.changed:
            space = self._held(journal, token)
            space.noted.update(digests)
            space.locked_until = monotonic() + seconds

    def noted(self, journal: Journal) -> set[str]:
        """See Shelf."""
        with self._store.changed:
            return set(self._space(journal).noted)

    def unnote(self, journal: Journal, digests: list[str]) -> None:
        """See Shelf."""
        with self._store.changed:
            self._space(journal).noted.difference_update(digests)

    def switch(
        self, journal: Journal, token: int, manifests: list[bytes], trim_before: str
    ) -> None:
        """See Shelf."""
        with self._store.changed:
            space = self._held(journal, token)
            space.manifests = list(manifests)
            space.trim(order_of(trim_before)[0])

    def trim(self, journal: Journal, before: str) -> None:
        """See Shelf."""
        with self._store.changed:
            self._space(journal).trim(order_of(before)[0])

    def _space(self, journal: Journal) -> StoredSpace:
        space = self._store.space_of(journal)
        if space is None:
            raise NotFound(f"there is no namespace {journal.key.namespace}")
        return space

    def _held(self, journal: Journal, token: int) -> StoredSpace:
        space = self._space(journal)
        if space.token != token or space.locked_until <= monotonic():
            raise Fenced(f"another replica saves namespace {journal.key.namespace} now")
        return space
