"""Three replicas on one Redis, whatever happens to them and between them, come to the same."""

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import cast

import msgspec
import pytest

from retrieval_draft.replay.link import Link
from retrieval_draft.store.records import decode_batch
from retrieval_draft.store.redis_streams import Entries
from retrieval_draft.store.server_binary import available_server
from tests.chaos.replica import Report
from tests.redis_servers.deployments import Deployment
from tests.redis_servers.processes import wait_until

RECORDS = int(os.environ.get("SOAK_RECORDS", "50000"))
FAULTS_MIN = int(os.environ.get("SOAK_FAULTS", "10"))
ANSWER_SECONDS_MAX = 60.0
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(available_server() is None, reason="no Redis server on this machine"),
    pytest.mark.timeout(240 + RECORDS / 200 + 20 * FAULTS_MIN),
]


class Replica:
    """tests/chaos/replica.py behind a link of its own."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.link = name, Link(("127.0.0.1", port)).start()
        self._process = self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        url = f"redis://127.0.0.1:{self.link.port}"
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.replica", url, self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def ask(self, question: str = "report") -> Report:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{question}\n".encode())
        self._process.stdin.flush()
        readable, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS_MAX)
        assert readable, f"{self.name} does not answer"
        return msgspec.json.decode(self._process.stdout.readline(), type=Report)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        self.link.cut()
        yield
        self.link.mend()

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """What it says arrives, the answers do not: it must say it again, and that counts once."""
        self.link.hold(back_only=True)
        yield
        self.link.reset()
        self.link.release()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def restart(self) -> None:
        """kill -9, and a new process of the same name."""
        self.kill()
        self._process = self._started()

    def close(self) -> None:
        self.kill()
        self.link.stop()


def test_replicas_converge(deployment: Deployment) -> None:
    seed = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randint(1, 2**31)
    print(f"SOAK_SEED={seed}")
    dice = random.Random(seed)  # noqa: S311 - a test's
    server = deployment.servers[0]
    with ExitStack() as stack:
        replicas = [Replica(name, server.port) for name in "abc"]
        for replica in replicas:
            stack.callback(replica.close)
            replica.ask()
        deadline = monotonic() + ANSWER_SECONDS_MAX + RECORDS / 500 + 10 * FAULTS_MIN
        faults = 0
        while min(replica.ask().applied for replica in replicas) < RECORDS or faults < FAULTS_MIN:
            assert monotonic() < deadline, "records do not flow"
            victim = dice.choice(replicas)
            fault = dice.choice(["cut_off", "unheard", "paused", "restart", "redis"])
            if fault == "restart":
                victim.restart()
            elif fault == "redis":
                server.kill()
                server.start()
            else:
                with getattr(victim, fault)():
                    stop_for(dice.uniform(0.05, 0.6))
            stop_for(dice.uniform(0.0, 0.2))
            faults += 1
        ends = [replica.ask("stop") for replica in replicas]
        wait_until(lambda: all(replica.ask().lag == 0 for replica in replicas), "it lags")
        wait_until(lambda: len({replica.ask().entry_id for replica in replicas}) == 1, "it lags")
        ends = [replica.ask() for replica in replicas]
        print(f"{ends[0].applied} records, {faults} faults")
        assert len({end.digest for end in ends}) == 1
        assert {end.twice for end in ends} == {0}
        assert {end.applied for end in ends} == {len(in_journal(deployment))}
        assert {end.dropped for end in ends} == {0}
        assert {end.gaps for end in ends} == {0}


def in_journal(deployment: Deployment) -> set[tuple[str, int]]:
    """Every record that Redis holds, by its replica and position."""
    keys = deployment.keys()
    (journal,) = [name for name in keys if ":journal:" in name]
    found: set[tuple[str, int]] = set()
    with deployment.servers[0].client() as client:
        for _, fields in cast(Entries, client.xrange(journal)):
            if payload := fields.get(b"b"):
                batch = decode_batch(payload)
                found |= {(batch.replica, record.position) for record in batch.records}
    return found


def stop_for(seconds: float) -> None:
    select.select([], [], [], seconds)
