"""Local copies of blocks that lie elsewhere, so that they can be mapped: least recently used go first."""

import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from retrieval_draft.errors import Corrupt, ResourceExhausted, Unreachable
from retrieval_draft.store.blocks import (
    CACHE_BYTES_MAX,
    file_pieces,
    folder_name,
    pieces_digest,
)
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_blocks import temporary_folder


class BlockCache:
    """A folder of one process, at most `bytes_max` of files; None for a temporary folder.

    A file that is evicted while it is mapped lives on for who mapped it. What one namespace
    has is never found under another.
    """

    def __init__(self, folder: Path | None = None, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._folder = folder
        self.bytes_max = bytes_max
        self._lock = threading.Lock()

    def find(self, key: NamespaceKey, digest: str) -> Path | None:
        """The copy, if there is one; it counts as used now."""
        path = self._place(key) / digest
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def add(self, key: NamespaceKey, digest: str, pieces: Iterable[bytes]) -> Path:
        """Keep the content of these pieces. Corrupt if it is not that of the digest."""
        path = self._place(key) / digest
        unfinished = path.with_name(f"{uuid4().hex}-unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(unfinished, digest, pieces)
            with self._lock:
                unfinished.replace(path)
                self._evict(path)
        except OSError as error:
            raise Unreachable(f"the cache {path.parent}: {error.strerror}") from error
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def drop(self, key: NamespaceKey, digest: str) -> None:
        """Remove this copy, if there is one."""
        (self._place(key) / digest).unlink(missing_ok=True)

    def drop_all(self, key: NamespaceKey) -> None:
        """Remove the namespace's copies."""
        shutil.rmtree(self._place(key), ignore_errors=True)

    def _write(self, path: Path, digest: str, pieces: Iterable[bytes]) -> None:
        written = 0
        with path.open("xb") as file:
            for piece in pieces:
                written += len(piece)
                if written > self.bytes_max:
                    raise ResourceExhausted(
                        f"block {digest} is larger than the cache, {self.bytes_max} bytes"
                    )
                file.write(piece)
        if pieces_digest(file_pieces(path)) != digest:
            raise Corrupt(f"block {digest} does not fit its digest")

    def _evict(self, newest: Path) -> None:
        assert self._folder is not None
        held = [(path, path.stat()) for path in self._folder.glob("*/*") if path.is_file()]
        total = sum(stat.st_size for _, stat in held)
        for path, stat in sorted(held, key=lambda one: one[1].st_mtime_ns):
            if total <= self.bytes_max:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= stat.st_size

    def _place(self, key: NamespaceKey) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = temporary_folder(self)
        return self._folder / folder_name(key)
