"""Blocks in a store that gives no local files: Redis, or what fsspec reaches, behind a local cache."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from retrieval_draft.errors import Corrupt, NotFound
from retrieval_draft.store.block_cache import BlockCache
from retrieval_draft.store.blocks import (
    block_digest,
    checked_content,
    checked_digest,
    file_pieces,
    pieces_digest,
)
from retrieval_draft.store.keys import NamespaceKey


class BlobStore(Protocol):
    """Named bytes of namespaces. What is not written to its end need not be found, nor be absent."""

    def write(self, key: NamespaceKey, name: str, pieces: Iterable[bytes], size: int) -> None:
        """Store these bytes, in place of what has the name. ResourceExhausted."""
        ...

    def read(self, key: NamespaceKey, name: str) -> Iterator[bytes]:
        """The bytes, piece by piece. NotFound, at once or on the way."""
        ...

    def names(self, key: NamespaceKey) -> set[str]:
        """What is stored."""
        ...

    def remove(self, key: NamespaceKey, names: Iterable[str]) -> None:
        """Remove what is there of these."""
        ...

    def remove_all(self, key: NamespaceKey) -> None:
        """Remove all that the namespace has, half-written things too."""
        ...


class RemoteBlocks:
    """See Blocks."""

    def __init__(self, blobs: BlobStore, cache: BlockCache) -> None:
        self._blobs, self._cache = blobs, cache

    def put(self, key: NamespaceKey, data: bytes) -> str:
        """See Blocks."""
        digest = block_digest(data)
        if not self._is_intact(key, digest):
            self._blobs.write(key, digest, (data,), len(data))
        return digest

    def put_file(self, key: NamespaceKey, path: Path) -> str:
        """See Blocks."""
        digest = pieces_digest(file_pieces(path))
        if not self._is_intact(key, digest):
            self._blobs.write(key, digest, file_pieces(path), path.stat().st_size)
        return digest

    def get(self, key: NamespaceKey, digest: str) -> bytes:
        """See Blocks."""
        data = b"".join(self._blobs.read(key, checked_digest(digest)))
        return checked_content(key, digest, data)

    def local(self, key: NamespaceKey, digest: str) -> Path:
        """See Blocks."""
        found = self._cache.find(key, checked_digest(digest))
        return found or self._cache.add(key, digest, self._blobs.read(key, digest))

    def digests(self, key: NamespaceKey) -> set[str]:
        """See Blocks."""
        return self._blobs.names(key)

    def remove(self, key: NamespaceKey, digests: Iterable[str]) -> None:
        """See Blocks."""
        gone = [checked_digest(digest) for digest in digests]
        self._blobs.remove(key, gone)
        for digest in gone:
            self._cache.drop(key, digest)

    def remove_all(self, key: NamespaceKey) -> None:
        """See Blocks."""
        self._blobs.remove_all(key)
        self.forget(key)

    def forget(self, key: NamespaceKey) -> None:
        """See Blocks."""
        self._cache.drop_all(key)

    def _is_intact(self, key: NamespaceKey, digest: str) -> bool:
        try:
            return pieces_digest(self._blobs.read(key, digest)) == digest
        except (NotFound, Corrupt):
            return False
