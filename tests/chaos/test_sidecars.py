"""Three whole sidecars on one Redis, drafting while they are killed, cut off and paused, learn the same."""

import os
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.conversation import Conversation
from retrieval_draft.replay.link import Link
from retrieval_draft.step import DraftOptions
from retrieval_draft.store.server_binary import available_server
from retrieval_draft.tree import int32s
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest, NamespaceStats
from tests.redis_servers.deployments import Deployment
from tests.redis_servers.processes import wait_until
from tests.server.sidecars import Process

FAULTS_MIN = int(os.environ.get("SOAK_FAULTS", "6"))
VOCAB, NODES_MAX = 300, 8
NAMESPACE = "chaos"

pytestmark = [
    pytest.mark.skipif(available_server() is None, reason="no Redis server on this machine"),
    pytest.mark.timeout(240 + 30 * FAULTS_MIN),
]


class Replica:
    """`retrieval-draft serve` behind a link to its Redis, and an engine that drafts with it."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.link = Link(("127.0.0.1", port)).start()
        self._place = folder / name
        self.process = self._started()
        self._client = GrpcClient(self.process.target)
        asked = CreateNamespaceRequest(
            namespace=NAMESPACE, vocab_size=VOCAB, learned_bytes_max=1 << 20
        )
        self.engine = Conversation(
            self._client, NAMESPACE, VOCAB, DraftOptions(nodes_max=NODES_MAX), create=asked
        )
        self._dice, self._sequence, self._left = np.random.default_rng(), 0, 0

    def _started(self) -> Process:
        return Process(self._place, "--redis", f"redis://127.0.0.1:{self.link.port}").ready()

    def decode(self) -> None:
        """One step of one sequence: it drafts, and commits tokens that others have had before."""
        name = str(self._sequence)
        if not self._left:
            self.engine.finish(name)
            self._sequence, self._left = self._sequence + 1, 20
            name = str(self._sequence)
            self.engine.open(name, self._tokens())
        self._left -= 1
        self.engine.draft({name: NODES_MAX})
        self.engine.commit(name, self._tokens(), -1)

    def _tokens(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        return int32s((self._dice.integers(0, VOCAB) + 7 * np.arange(4)) % VOCAB)

    def rest(self) -> None:
        """All it has is sent."""
        self.engine.finish(str(self._sequence))
        self._left = 0
        wait_until(lambda: self.engine.flush(), "the sidecar does not hear of the end")

    def restart(self) -> None:
        """kill -9, and a new process on the same folder."""
        self.process.discard()
        self.process = self._started()

    def stats(self) -> NamespaceStats:
        (found,) = self._client.stats(NAMESPACE, digest=True).namespaces
        return found

    def close(self) -> None:
        self._client.close()
        self.process.discard()
        self.link.stop()


def test_sidecars_that_are_killed_and_cut_off_while_drafting_learn_the_same(
    deployment: Deployment,
) -> None:
    seed = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randint(1, 2**31)
    print(f"SOAK_SEED={seed}")
    dice = random.Random(seed)  # noqa: S311 - a test's
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp")))
        replicas = [Replica(folder, name, deployment.servers[0].port) for name in "abc"]
        for replica in replicas:
            stack.callback(replica.close)
        for fault in range(FAULTS_MIN):
            victim = dice.choice(replicas)
            what = dice.choice(["cut", "hold", "pause", "restart"]) if fault else "restart"
            _decode(replicas, dice.randint(20, 60))
            if what == "restart":
                victim.restart()
            elif what == "pause":
                victim.process.pause()
                _decode(replicas, dice.randint(5, 20))
                victim.process.resume()
            else:
                victim.link.cut() if what == "cut" else victim.link.hold(back_only=True)
                _decode(replicas, dice.randint(20, 60))
                victim.link.reset()
                victim.link.mend() if what == "cut" else victim.link.release()
        _decode(replicas, 50)
        for replica in replicas:
            replica.rest()
        wait_until(lambda: _agree(replicas), "they do not come to the same")
        ends = [replica.stats() for replica in replicas]
        print(f"{ends[0].learned_tokens} tokens learned, {FAULTS_MIN} faults")
        assert len({(end.learned_digest, end.learned_tokens) for end in ends}) == 1
        assert {end.dropped_records for end in ends} == {0}
        assert {end.gaps for end in ends} == {0}
        figures = [replica.engine.figures for replica in replicas]
        assert all(f.rejected == f.bad_trees == 0 for f in figures)
        assert sum(f.resyncs for f in figures) > 0, (
            "a sidecar that came back asked for its sequence"
        )


def _decode(replicas: list[Replica], steps: int) -> None:
    for _ in range(steps):
        for replica in replicas:
            replica.decode()


def _agree(replicas: list[Replica]) -> bool:
    ends = [replica.stats() for replica in replicas]
    return {end.lag_records for end in ends} == {0} and len(
        {end.journal_position for end in ends}
    ) == 1
