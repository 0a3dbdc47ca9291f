"""Blocks at any address that fsspec reaches: S3, GCS, Azure, SFTP... fsspec is imported when one is made.

One address belongs to one Redis: what one fleet removes is gone for every other.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from retrieval_draft.errors import (
    DraftError,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unreachable,
)
from retrieval_draft.store.block_cache import BlockCache
from retrieval_draft.store.blocks import PIECE_BYTES, Blocks, folder_name
from retrieval_draft.store.folder_blocks import FolderBlocks
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.redis_address import shown_url
from retrieval_draft.store.remote_blocks import RemoteBlocks

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def blocks_at(url: str, cache: BlockCache) -> Blocks:
    """The blocks at this address: a folder's path, file://, or any other that fsspec knows.

    Raises InvalidInput for an unknown kind of address, FailedPrecondition if its driver is not installed.
    """
    if "://" not in url:
        return FolderBlocks(Path(url).absolute())
    if url.startswith("file://"):
        return FolderBlocks(Path(url.removeprefix("file://")).absolute())
    return RemoteBlocks(UrlBlobs(url), cache)


class UrlBlobs:
    """See BlobStore. An object of a name appears whole where the store is an object store."""

    def __init__(self, url: str) -> None:
        self._shown = shown_url(url)
        self._files, self._root = _opened(url)

    def write(self, key: NamespaceKey, name: str, pieces: Iterable[bytes], size: int) -> None:
        """See BlobStore."""
        with self._translated(key, name):
            self._files.makedirs(self._place(key), exist_ok=True)
            with self._open(key, name, "wb") as file:
                for piece in pieces:
                    file.write(piece)

    def read(self, key: NamespaceKey, name: str) -> Iterator[bytes]:
        """See BlobStore."""
        with self._translated(key, name), self._open(key, name, "rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def names(self, key: NamespaceKey) -> set[str]:
        """See BlobStore."""
        try:
            with self._translated(key, ""):
                self._files.invalidate_cache()
                found: list[str] = self._files.ls(self._place(key), detail=False)
        except NotFound:
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in found}

    def remove(self, key: NamespaceKey, names: Iterable[str]) -> None:
        """See BlobStore."""
        for name in names:
            try:
                with self._translated(key, name):
                    self._files.rm_file(self._path(key, name))
            except NotFound:
                continue

    def remove_all(self, key: NamespaceKey) -> None:
        """See BlobStore."""
        self.remove(key, self.names(key))
        try:
            with self._translated(key, ""):
                self._files.rm(self._place(key), recursive=True)
        except NotFound:
            return

    def _open(self, key: NamespaceKey, name: str, mode: str) -> BinaryIO:
        return cast(BinaryIO, self._files.open(self._path(key, name), mode))

    def _place(self, key: NamespaceKey) -> str:
        return f"{self._root}/{folder_name(key)}"

    def _path(self, key: NamespaceKey, name: str) -> str:
        return f"{self._place(key)}/{name}"

    @contextmanager
    def _translated(self, key: NamespaceKey, name: str) -> Iterator[None]:
        try:
            yield
        except DraftError:
            raise
        except FileNotFoundError as error:
            raise NotFound(f"there is no block {name} in namespace {key.namespace}") from error
        except PermissionError as error:
            raise PermissionDenied(f"{self._shown} refuses: {shown_url(str(error))}") from error
        except Exception as error:  # every driver has errors of its own
            raise Unreachable(
                f"{self._shown} fails ({type(error).__name__}: {shown_url(str(error))})"
            ) from error


def _opened(url: str) -> "tuple[AbstractFileSystem, str]":
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise FailedPrecondition(f"--blocks {shown_url(url)}: {error}") from error
    except ValueError as error:
        raise InvalidInput("--blocks", shown_url(url), "an address that fsspec knows") from error
    return files, root.rstrip("/")
