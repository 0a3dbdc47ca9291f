"""Another server takes over under load: Sentinels promote a replica, a Cluster moves a slot."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from redis.crc import key_slot

from retrieval_draft.store.keys import NamespaceKey, redis_key
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.redis_backend import RedisBackend
from tests.redis_servers.deployments import Deployment, cluster, role, said, sentinel
from tests.redis_servers.processes import RedisProcess, wait_until
from tests.store.conftest import Recorder, record

KEY, SPEC = NamespaceKey("local", "demo"), NamespaceSpec("demo", 100)
AGAIN_SECONDS_MAX = 30.0  # the promise is 5 s; printed, and bounded for a machine under load


class Load:
    """Two replicas; one appends all the time, as drafting does."""

    def __init__(self, url: str) -> None:
        self.backends = [RedisBackend(url) for _ in range(2)]
        self.heard = [Recorder() for _ in range(2)]
        self.position = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._append, daemon=True)

    def _append(self) -> None:
        while not self._stop.wait(0.002):
            self.backends[0].append(KEY, record(self.position))
            self.position += 1

    def start(self) -> None:
        self.backends[0].create_namespace(KEY, SPEC)
        for name, backend, heard in zip("ab", self.backends, self.heard, strict=True):
            backend.start(name, heard)
        self._thread.start()
        self.flow_again()

    def flow_again(self) -> float:
        """Wait until both replicas hear of a record that is appended from now on; how long it took."""
        began, position = monotonic(), self.position
        for heard in self.heard:
            while position > max(heard.positions(KEY), default=-1):
                assert monotonic() - began < AGAIN_SECONDS_MAX, "records do not flow again"
                self._stop.wait(0.01)
        return monotonic() - began

    def end(self) -> None:
        """No more is appended; all that can be is heard."""
        self._stop.set()
        self._thread.join()
        wait_until(lambda: self.backends[0].figures(KEY).lag_records == 0, "it lags")
        wait_until(lambda: self.heard[0].entries[-1] == self.heard[1].entries[-1], "it lags")

    def close(self) -> None:
        self._stop.set()
        for backend in self.backends:
            backend.stop(0)


@contextmanager
def load_on(make: Callable[[Path], Deployment]) -> Iterator[tuple[Deployment, Load]]:
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder:
        deployment = make(Path(folder))
        try:
            load = Load(deployment.url)
            try:
                load.start()
                yield deployment, load
            finally:
                load.close()
        finally:
            deployment.close()


def test_sentinels_promote_a_replica() -> None:
    with load_on(sentinel) as (deployment, load):
        first, second = deployment.servers
        before = load.position
        first.kill()
        wait_until(lambda: role(second) == "master", "no failover")
        print(f"records flow {load.flow_again():.2f} s after the new primary")
        load.end()
        # Replication is asynchronous: what the old primary had not passed on may be gone, for both.
        assert same_tail(load, before)
        assert load.backends[0].figures(KEY).dropped == 0
        assert load.backends[0].list_namespaces("local") == [SPEC], "management finds it too"
        # The old primary comes back as a replica of the new one.
        first.start()
        wait_until(lambda: role(first) == "slave", "it does not become a replica")
        load.backends[1].append(KEY, record(1_000_000))
        load.heard[0].wait_for(lambda: 1_000_000 in load.heard[0].positions(KEY))


def same_tail(load: Load, position: int) -> bool:
    """Whether both heard the same from this record on, each once, in order, to the last."""
    tails = [[p for p in heard.positions(KEY) if p > position] for heard in load.heard]
    assert tails[0][-1] == load.position - 1
    return tails[0] == tails[1] == sorted(set(tails[0]))


def test_a_cluster_moves_the_slot() -> None:
    with load_on(cluster) as (deployment, load):
        slot = key_slot(redis_key(KEY, "spec").encode())
        owners = [server for server in deployment.servers if owns(server, slot)]
        (source,) = owners
        target = next(server for server in deployment.servers if server is not source)
        move(deployment, slot, source, target)
        assert [server for server in deployment.servers if owns(server, slot)] == [target]
        print(f"records flow {load.flow_again():.2f} s after the slot has moved")
        load.end()
        # A move loses nothing.
        for heard in load.heard:
            assert heard.positions(KEY) == list(range(load.position))
        assert load.backends[1].create_namespace(KEY, SPEC) == SPEC


def owns(server: RedisProcess, slot: int) -> bool:
    with server.client() as client:
        mine = next(
            line for line in said(client, "CLUSTER", "NODES").splitlines() if "myself" in line
        )
    ranges = [part.split("-") for part in mine.split()[8:] if not part.startswith("[")]
    return any(int(part[0]) <= slot <= int(part[-1]) for part in ranges)


def move(deployment: Deployment, slot: int, source: RedisProcess, target: RedisProcess) -> None:
    """As redis-cli --cluster reshard does it, key by key, slowly enough to be met half-way."""
    with source.client() as old, target.client() as new:
        names = [said(client, "CLUSTER", "MYID") for client in (old, new)]
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000)
            threading.Event().wait(0.1)
        for server in (target, *(s for s in deployment.servers if s is not target)):
            with server.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])


def test_a_new_primary_without_the_newest_entries_is_followed() -> None:
    """What was read is not there: every replica reads what is, so that all have the same."""
    with load_on(sentinel) as (deployment, load):
        first, second = deployment.servers
        # The replica is cut off from its primary, so what is appended from here on it never gets.
        with second.client() as client:
            client.replicaof("127.0.0.1", 1)
            client.config_set("replica-serve-stale-data", "yes")
        load.flow_again()
        ahead = max(load.heard[1].positions(KEY))
        # A late replica would start without what was lost; those that run must come to the same.
        first.kill()
        wait_until(lambda: role(second) == "master", "no failover")
        load.flow_again()
        load.end()
        late = RedisBackend(deployment.url)
        try:
            heard = Recorder()
            late.start("late", heard)
            for before in load.heard:
                gone = max(i for i, (_, spec) in enumerate(before.namespaces) if spec is None)
                assert gone, "it was told to begin anew"
                assert after_rewind(before, heard)
            assert ahead not in heard.positions(KEY), "it was to be lost"
        finally:
            late.stop(0)


def after_rewind(before: Recorder, late: Recorder) -> bool:
    """Whether the last entries of a replica are all those of one that has just begun."""
    return before.entries[-len(late.entries) :] == late.entries
