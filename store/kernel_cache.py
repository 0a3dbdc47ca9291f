"""Compiled kernels are kept beside their sources; here those that may be stale are thrown away.

numba looks at the file of the kernel itself alone, so that one whose callee has changed elsewhere would
go on with the old one. When any kernel's source has changed, all are compiled again.
"""

from contextlib import suppress
from pathlib import Path

import retrieval_draft

FOLDERS = (
    Path(__file__).parent / "kernels",
    Path(retrieval_draft.__file__).parent / "drafting" / "kernels",
)
STAMP = "kernels.stamp"


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
