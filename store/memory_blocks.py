"""Blocks in process memory, for `--redis none`."""

import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path

from retrieval_draft.errors import NotFound
from retrieval_draft.store.blocks import block_digest, checked_content, checked_digest, folder_name
from retrieval_draft.store.keys import NamespaceKey


class MemoryBlocks:
    """See Blocks. What is asked for as a file lies in a temporary folder until the process ends."""

    def __init__(self) -> None:
        self._data: dict[NamespaceKey, dict[str, bytes]] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None

    def put(self, key: NamespaceKey, data: bytes) -> str:
        """See Blocks."""
        digest = block_digest(data)
        with self._lock:
            self._data.setdefault(key, {})[digest] = bytes(data)
        return digest

    def put_file(self, key: NamespaceKey, path: Path) -> str:
        """See Blocks."""
        return self.put(key, path.read_bytes())

    def get(self, key: NamespaceKey, digest: str) -> bytes:
        """See Blocks."""
        with self._lock:
            data = self._data.get(key, {}).get(checked_digest(digest))
        if data is None:
            raise NotFound(f"there is no block {digest} in namespace {key.namespace}")
        return checked_content(key, digest, data)

    def local(self, key: NamespaceKey, digest: str) -> Path:
        """See Blocks."""
        data = self.get(key, digest)
        path = self._place(key) / digest
        with self._lock:
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
        return path

    def digests(self, key: NamespaceKey) -> set[str]:
        """See Blocks."""
        with self._lock:
            return set(self._data.get(key, {}))

    def remove(self, key: NamespaceKey, digests: Iterable[str]) -> None:
        """See Blocks."""
        with self._lock:
            held = self._data.get(key, {})
            for digest in digests:
                if held.pop(checked_digest(digest), None) is not None and self._folder is not None:
                    (self._folder / folder_name(key) / digest).unlink(missing_ok=True)

    def remove_all(self, key: NamespaceKey) -> None:
        """See Blocks."""
        with self._lock:
            self._data.pop(key, None)
        self.forget(key)

    def forget(self, key: NamespaceKey) -> None:
        """See Blocks."""
        if self._folder is not None:
            shutil.rmtree(self._folder / folder_name(key), ignore_errors=True)

    def _place(self, key: NamespaceKey) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = temporary_folder(self)
        return self._folder / folder_name(key)


def temporary_folder(owner: object) -> Path:
    """A private folder that goes with its owner, at the latest with the process."""
    folder = Path(tempfile.mkdtemp(prefix="retrieval-draft-blocks-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
