"""Blocks in a local folder: of the embedded server, or one that several sidecars have mounted."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from retrieval_draft.errors import NotFound, PermissionDenied, ResourceExhausted, Unreachable
from retrieval_draft.store.blocks import (
    block_digest,
    checked_content,
    checked_digest,
    file_pieces,
    folder_name,
    pieces_digest,
)
from retrieval_draft.store.keys import NamespaceKey

UNFINISHED = "unfinished-"
"""Begins the name of what is being written, or was when its writer died."""
FULL = (28, 122)
"""ENOSPC and EDQUOT."""


class FolderBlocks:
    """See Blocks. One file a block, in a folder for each namespace; made when first needed.

    A crash at any moment leaves a block whole or not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: NamespaceKey, data: bytes) -> str:
        """See Blocks."""
        digest = block_digest(data)
        self._store(key, digest, (data,))
        return digest

    def put_file(self, key: NamespaceKey, path: Path) -> str:
        """See Blocks."""
        digest = pieces_digest(file_pieces(path))
        self._store(key, digest, file_pieces(path))
        return digest

    def get(self, key: NamespaceKey, digest: str) -> bytes:
        """See Blocks."""
        with self._translated(key, digest):
            data = self._path(key, digest).read_bytes()
        return checked_content(key, digest, data)

    def local(self, key: NamespaceKey, digest: str) -> Path:
        """See Blocks."""
        path = self._path(key, digest)
        with self._translated(key, digest):
            path.stat()
        return path

    def digests(self, key: NamespaceKey) -> set[str]:
        """See Blocks."""
        return {name for name in self._names(key) if not name.startswith(UNFINISHED)}

    def remove(self, key: NamespaceKey, digests: Iterable[str]) -> None:
        """See Blocks."""
        for digest in digests:
            with self._translated(key, digest):
                self._path(key, digest).unlink(missing_ok=True)

    def remove_all(self, key: NamespaceKey) -> None:
        """See Blocks."""
        with self._translated(key, ""):
            shutil.rmtree(self._place(key), ignore_errors=True)

    def forget(self, key: NamespaceKey) -> None:
        """See Blocks: there are no copies."""

    def _store(self, key: NamespaceKey, digest: str, pieces: Iterable[bytes]) -> None:
        with self._translated(key, digest):
            path = self._path(key, digest)
            # A damaged file under this name is written anew.
            if path.exists() and pieces_digest(file_pieces(path)) == digest:
                return
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                sync_folder(self.folder)
            unfinished = path.with_name(f"{UNFINISHED}{uuid4().hex}")
            try:
                write_synced(unfinished, pieces)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            # After a crash the rename itself may be missing.
            sync_folder(path.parent)

    def _place(self, key: NamespaceKey) -> Path:
        return self.folder / folder_name(key)

    def _path(self, key: NamespaceKey, digest: str) -> Path:
        return self._place(key) / checked_digest(digest)

    def _names(self, key: NamespaceKey) -> list[str]:
        try:
            with self._translated(key, ""):
                return os.listdir(self._place(key))
        except NotFound:
            return []

    @contextmanager
    def _translated(self, key: NamespaceKey, digest: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"there is no block {digest} in namespace {key.namespace}") from error
        except PermissionError as error:
            raise PermissionDenied(f"{self.folder}: {error.strerror}") from error
        except OSError as error:
            if error.errno in FULL:
                raise ResourceExhausted(f"{self.folder}: {error.strerror}") from error
            raise Unreachable(f"{self.folder}: {error.strerror}") from error


def write_synced(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file; it is on the disk when this returns, though perhaps not yet in its folder."""
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """What was created or renamed in the folder is on the disk when this returns."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
