"""The standard library's source as text: what the demo model learns from, what warms, what is held out.

A file's fate depends on its relative path alone, so that every Python version keeps the same files out.
"""

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HELD_OUT_SHARE = 20
"""One file in so many is never trained on and never warmed."""

_NOT_SOURCE = ("site-packages", "__pycache__", "pydoc_data", "encodings", "ensurepip")
_TESTS = ("test", "tests", "idle_test")


def library_folder() -> Path:
    """The folder of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def is_test(relative: str) -> bool:
    """Whether the file belongs to the library's own test suite, which many installations leave out."""
    return any(part in _TESTS for part in relative.split("/")[:-1])


def is_held_out(relative: str) -> bool:
    """Whether the file was kept out of training and must be kept out of every warmed corpus."""
    digest = hashlib.sha256(relative.encode()).digest()
    return not is_test(relative) and int.from_bytes(digest[:4], "little") % HELD_OUT_SHARE == 0


def source_files() -> Iterator[tuple[str, Path]]:
    """Yield (path relative to the library, path) of every Python file, sorted, held-out ones included."""
    folder = library_folder()
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder).as_posix()
        if not any(part in _NOT_SOURCE for part in relative.split("/")):
            yield relative, path


def read_source(path: Path) -> str | None:
    """The file's text, or None where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
