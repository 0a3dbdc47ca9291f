"""What a source names: files of this machine or of any fsspec URL, opened as they are read."""

import gzip
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from retrieval_draft.errors import FailedPrecondition, InvalidInput
from retrieval_draft.warming.ignored import files_in

STANDARD_INPUT = "-"
HUB = "hf://"
_URL = re.compile(r"^[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class File:
    """Bytes under a name. `nbytes` as stored, None where it is not known."""

    name: str
    nbytes: int | None
    open_raw: Callable[[], BinaryIO]

    @property
    def kind(self) -> str:
        """The suffix without that of a compression, in lower case."""
        suffixes = [suffix.lower() for suffix in PurePosixPath(self.name).suffixes]
        if suffixes and suffixes[-1] in _COMPRESSED:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    def open(self, count: Callable[[int], None] = lambda nbytes: None) -> BinaryIO:
        """Its content, decompressed; `count` is told how many stored bytes were read."""
        raw = cast(BinaryIO, _Counting(self.open_raw(), count))
        suffix = PurePosixPath(self.name).suffix.lower()
        if suffix == ".gz":
            return cast(BinaryIO, _Closing(cast(BinaryIO, gzip.GzipFile(fileobj=raw)), raw))
        if suffix == ".zst":
            from zstandard import ZstdDecompressor

            stream = ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            return cast(BinaryIO, _Closing(cast(BinaryIO, stream), raw))
        return raw


def files_of(sources: Sequence[str]) -> Iterator[File]:
    """The files of these sources, in order; folders by name. Raises InvalidInput for what is not there."""
    for source in sources:
        if source == STANDARD_INPUT:
            yield File(STANDARD_INPUT, None, lambda: sys.stdin.buffer)
        elif _URL.match(source):
            yield from _remote(source)
        elif (path := Path(source)).is_dir():
            for inside in files_in(path):
                # As it was named, not absolute: a name should say the same on every machine.
                yield _local(path / inside.relative_to(path.absolute()))
        elif path.exists():
            yield _local(path)
        else:
            limit = "a file, a folder, a URL, or - for standard input"
            raise InvalidInput("source", source, limit)


def _local(path: Path) -> File:
    try:
        # A pipe has no length.
        nbytes = path.stat().st_size if path.is_file() else None
    except OSError:
        nbytes = None
    return File(str(path), nbytes, lambda: path.open("rb", buffering=0))


def _remote(url: str) -> Iterator[File]:
    """Files of a URL that fsspec can open: one, or all below a folder."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
        found = system.find(root, detail=True)
    except (ImportError, ValueError) as error:
        raise FailedPrecondition(f"{url} cannot be read: {error}") from error
    except Exception as error:  # every file system raises its own
        raise InvalidInput("source", url, "a URL that can be read", str(error)) from error
    if not found:
        raise InvalidInput("source", url, "a URL that can be read", "nothing is there")
    for path, facts in sorted(found.items()):
        below = PurePosixPath(path.removeprefix(root))
        if path == root or not any(part.startswith(".") for part in below.parts):
            yield File(
                system.unstrip_protocol(path),
                facts.get("size"),
                lambda path=path: system.open(path, "rb"),  # type: ignore[misc]
            )


class _Counting(io.RawIOBase):
    """A stream that says how much of it was read."""

    def __init__(self, raw: BinaryIO, count: Callable[[int], None]) -> None:
        self._raw, self._count = raw, count

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._raw.seekable()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._count(len(data))
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        if not self.closed and self._raw is not sys.stdin.buffer:
            self._raw.close()
        super().close()


class _Closing(io.BufferedReader):
    """A decompressed stream that closes the compressed one too."""

    def __init__(self, stream: BinaryIO, raw: BinaryIO) -> None:
        super().__init__(cast(io.RawIOBase, stream))
        self._below = raw

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._below.close()
