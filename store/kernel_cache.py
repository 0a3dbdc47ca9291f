"""Compiled kernels are kept beside their sources, or in NUMBA_CACHE_DIR; here what numba leaves to us.

numba looks at the file of the kernel itself alone, so that one whose callee has changed elsewhere would
go on with the old one. When any kernel's source has changed, all are compiled again. And numba refuses a
cache that it cannot write, be it ever so full: a process that may write nowhere, as in a read-only
container, gets a folder of its own that shows what is there.
"""

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import retrieval_draft

FOLDERS = (
    Path(__file__).parent / "kernels",
    Path(retrieval_draft.__file__).parent / "drafting" / "kernels",
)
STAMP = "kernels.stamp"
CACHE_VARIABLE = "NUMBA_CACHE_DIR"


def drop_stale(folders: tuple[Path, ...] = FOLDERS) -> bool:
    """Delete the compiled kernels of these folders unless all sources are as they were compiled from.

    Returns whether they were deleted. A folder that cannot be written is left as it is. Costs two stat
    calls a module; two processes may do it at once.
    """
    sources = sorted(path for folder in folders for path in folder.glob("*.py"))
    now = " ".join(f"{path.name}:{path.stat().st_mtime_ns}" for path in sources)
    stamp = folders[0] / "__pycache__" / STAMP
    with suppress(OSError):
        if stamp.read_text() == now:
            return False
    with suppress(OSError):
        for folder in folders:
            for compiled in (folder / "__pycache__").glob("*.nb[ic]"):
                compiled.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(now)
        return True
    return False


def make_writable(folders: tuple[Path, ...] = FOLDERS) -> Path | None:
    """Give numba a cache that it can write, if it has none; must run before the first kernel is made.

    It lies in the temporary folder until this process ends, with a link to every file of
    NUMBA_CACHE_DIR: what is there is used, and what is missing is compiled for this process alone.
    Returns that folder, or None where none was needed. Raises OSError if the temporary folder cannot
    be written either.
    """
    filled = Path(named) if (named := os.environ.get(CACHE_VARIABLE)) else None
    if filled is not None and _is_writable(filled):
        return None
    if filled is None and (
        all(_is_writable(folder / "__pycache__") for folder in folders)
        or _is_writable(_users_cache())
    ):
        return None
    overlay = Path(tempfile.mkdtemp(prefix="retrieval-draft-kernels-"))
    atexit.register(shutil.rmtree, overlay, ignore_errors=True)
    for path in filled.glob("*/*.nb[ic]") if filled is not None else ():
        (overlay / path.parent.name).mkdir(exist_ok=True)
        (overlay / path.parent.name / path.name).symlink_to(path.absolute())
    os.environ[CACHE_VARIABLE] = str(overlay)
    if (config := sys.modules.get("numba.core.config")) is not None:
        config.CACHE_DIR = str(overlay)  # type: ignore[attr-defined]
    return overlay


def _is_writable(folder: Path) -> bool:
    """Whether files can be made there, or the folder itself."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _users_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "numba"
