"""The data folder of one sidecar: who may use it, and where its sockets lie.

A sidecar holds it by a DataFolder; clients only ask `find_socket`.
"""

import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType

from retrieval_draft.errors import FailedPrecondition, PermissionDenied
from retrieval_draft.store.records import content_digest

# The kernel takes 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_BYTES_MAX = 100
PRIVATE_FOLDER_MODE = 0o700
DRAFT_SOCKET = "draft.sock"


def default_path() -> Path:
    """XDG_DATA_HOME/retrieval-draft, by default in ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "retrieval-draft"


def find_socket(folder: Path, name: str = DRAFT_SOCKET) -> Path:
    """Where the sidecar of this data folder listens, or would; nothing is created or locked."""
    path = folder.absolute() / name
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    try:
        return Path(_address_file(path).read_text(encoding="utf-8").strip())
    except OSError:
        return _short_folder(folder.absolute()) / name


def short_socket_path(folder: Path, name: str = DRAFT_SOCKET) -> Path:
    """A path in this data folder that a Unix socket can be bound to.

    If it is too long for a socket, one in a private folder under XDG_RUNTIME_DIR or the temporary
    folder, and a file beside says where, for `find_socket`. Raises PermissionDenied if that folder
    is somebody else's.
    """
    path = folder.absolute() / name
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    short = _short_folder(folder.absolute())
    make_private(short.parent)
    make_private(short)
    if len(os.fsencode(short / name)) > SOCKET_PATH_BYTES_MAX:
        raise FailedPrecondition(
            f"{short / name} is too long for a Unix socket; set XDG_RUNTIME_DIR to a short path"
        )
    _address_file(path).write_text(f"{short / name}\n", encoding="utf-8")
    return short / name


def make_private(folder: Path) -> None:
    """Create the folder, or check that it is a folder of ours, and let nobody else in.

    Raises PermissionDenied if it is somebody else's, or cannot be made.
    """
    try:
        folder.mkdir(PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionDenied(f"the folder {folder} cannot be made ({error.strerror})") from error
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionDenied(f"{folder} belongs to somebody else; remove it or use another one")
    folder.chmod(PRIVATE_FOLDER_MODE)


class DataFolder:
    """The data folder, held by this process until `close`. Dies with the process, kill -9 included.

    Created with mode 0700. Raises FailedPrecondition if another sidecar holds it, PermissionDenied
    if it cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or default_path()).absolute()
        try:
            self.path.mkdir(PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PermissionDenied(
                f"the data folder {self.path} cannot be written ({error.strerror}); "
                "give another one with --data"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise FailedPrecondition(
                f"the data folder {self.path} is in use by another sidecar (process {holder}); "
                "stop that one, or give another folder with --data"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    @property
    def draft_socket(self) -> Path:
        """Where the sidecar listens unless it is told otherwise."""
        return short_socket_path(self.path)

    def close(self) -> None:
        """Let the folder go. May be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "DataFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _address_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.address")


def _short_folder(folder: Path) -> Path:
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    own = base / f"retrieval-draft-{os.geteuid()}"
    return own / content_digest(os.fsencode(folder)).hex()[:12]
