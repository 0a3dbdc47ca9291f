"""Blocks: content-addressed data of namespaces, for snapshots and the segments of corpora.

Which kind of store holds them is the backend's business: process memory, a local folder, Redis, or
anything that fsspec reaches.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from retrieval_draft.errors import Corrupt, InvalidInput
from retrieval_draft.store.keys import NamespaceKey, tag

DIGEST_BYTES = 16
DIGEST_CHARACTERS = 2 * DIGEST_BYTES
PIECE_BYTES = 4 * 2**20
"""Files are read and written in pieces of this size."""
REDIS_BYTES_MAX = 1 << 30
"""Of one namespace in your own Redis; segments of large corpora want --blocks URL."""
CACHE_BYTES_MAX = 32 << 30
"""Of local copies, of all namespaces."""


class Blocks(Protocol):
    """Data that are written once and never changed. A digest is BLAKE2b of 16 bytes, in hex.

    Any thread may call. Besides what is said below, calls raise Unreachable or PermissionDenied if the
    store cannot be had, and InvalidInput for what is no digest.
    """

    def put(self, key: NamespaceKey, data: bytes) -> str:
        """Store it, as durably as the store is when it returns. What is there already is only read.

        ResourceExhausted where the store is full.
        """
        ...

    def put_file(self, key: NamespaceKey, path: Path) -> str:
        """The same for a file of any size, piece by piece; the file is left alone."""
        ...

    def get(self, key: NamespaceKey, digest: str) -> bytes:
        """The content. NotFound; Corrupt if it does not fit its digest."""
        ...

    def local(self, key: NamespaceKey, digest: str) -> Path:
        """A local file with the content, to be mapped: it stays readable for who has it open.

        Where blocks lie in a local folder it is the block itself, unchecked: it may be gigabytes, and
        the caller checks parts of it on first use. Elsewhere it is a copy that was checked when it was
        made, in a cache of bounded size. NotFound; Corrupt; ResourceExhausted if the cache is smaller.
        """
        ...

    def digests(self, key: NamespaceKey) -> set[str]:
        """What is stored."""
        ...

    def remove(self, key: NamespaceKey, digests: Iterable[str]) -> None:
        """Remove these; what is not there is passed over."""
        ...

    def remove_all(self, key: NamespaceKey) -> None:
        """Remove all that the namespace has."""
        ...

    def forget(self, key: NamespaceKey) -> None:
        """The namespace is gone: drop this replica's copies; the store is somebody else's to empty."""
        ...


def block_digest(data: bytes) -> str:
    """The name of a block."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def pieces_digest(pieces: Iterable[bytes]) -> str:
    """The name of the block whose pieces these are."""
    h = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for piece in pieces:
        h.update(piece)
    return h.hexdigest()


def file_pieces(path: Path) -> Iterator[bytes]:
    """The content of a file. Raises OSError."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def checked_digest(digest: str) -> str:
    """A digest as given: nothing else may become part of a path. InvalidInput."""
    if len(digest) != DIGEST_CHARACTERS or not set(digest) <= set("0123456789abcdef"):
        raise InvalidInput("digest", digest, f"{DIGEST_CHARACTERS} characters of 0-9 a-f")
    return digest


def checked_content(key: NamespaceKey, digest: str, data: bytes) -> bytes:
    """The data, or Corrupt if they do not fit."""
    if block_digest(data) != digest:
        raise Corrupt(f"block {digest} of {key.namespace} does not fit its digest")
    return data


def folder_name(key: NamespaceKey) -> str:
    """One name of a namespace in file systems: whatever the names hold, nothing of them is in it."""
    return block_digest(tag(key).encode())
