"""Who holds a data folder, and where its sockets lie."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retrieval_draft.errors import FailedPrecondition, PermissionDenied
from retrieval_draft.store.folder import (
    SOCKET_PATH_BYTES_MAX,
    DataFolder,
    default_path,
    find_socket,
    make_private,
    short_socket_path,
)

HOLD = """
import sys
from pathlib import Path
from retrieval_draft.store.folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def long_folder(tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder too deep for sockets."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    folder = tmp_path / ("d" * SOCKET_PATH_BYTES_MAX)
    folder.mkdir()
    return folder


def test_the_folder_is_made_private(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "a" / "b") as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert folder.draft_socket == find_socket(folder.path) == folder.path / "draft.sock"


def test_a_folder_in_use_is_refused_naming_who_uses_it(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        with pytest.raises(FailedPrecondition, match=rf"process {process.pid}\)"):
            DataFolder(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        DataFolder(tmp_path).close()


def test_closing_lets_the_folder_go(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(FailedPrecondition, match=f"process {os.getpid()}"):
        DataFolder(tmp_path)
    folder.close()
    folder.close()
    DataFolder(tmp_path).close()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionDenied, match="--data"):
        DataFolder(tmp_path / "file" / "folder")


def test_the_default_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "retrieval-draft"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "share" / "retrieval-draft"


def test_a_long_path_gets_a_short_socket_that_clients_find(
    long_folder: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = short_socket_path(long_folder)
    assert path.is_relative_to(short_folder)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    monkeypatch.delenv("XDG_RUNTIME_DIR")  # a client may live in another session
    assert find_socket(long_folder) == path
    assert short_socket_path(long_folder / "..").name == "draft.sock"


def test_two_long_folders_have_two_sockets(long_folder: Path) -> None:
    other = long_folder.with_name("e" * SOCKET_PATH_BYTES_MAX)
    other.mkdir()
    assert short_socket_path(long_folder) != short_socket_path(other)
    assert find_socket(long_folder) != find_socket(other)


def test_a_foreign_folder_in_the_shared_place_is_refused(
    long_folder: Path, short_folder: Path, tmp_path: Path
) -> None:
    """Somebody may have put a link where our private folder should be."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (short_folder / f"retrieval-draft-{os.geteuid()}").symlink_to(elsewhere)
    with pytest.raises(PermissionDenied, match="somebody else"):
        short_socket_path(long_folder)


def test_make_private_closes_an_open_folder(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(0o777)
    make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
