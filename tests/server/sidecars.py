"""Real sidecars on Unix sockets: in this process, and as processes that can be killed."""

import itertools
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.credentials import Credentials
from retrieval_draft.server.lifecycle import ServeOptions, Sidecar
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store_wire import namespace_of
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import NAMESPACE, SPEC, wait_for

START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 30.0
DRAFT, STORE = "retrieval_draft.v1.DraftService", "retrieval_draft.v1.StoreService"


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets, whatever TMPDIR is."""
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder:
        yield Path(folder)


@contextmanager
def running_sidecar(
    config: Config | None = None, folder: Path | None = None, **more: Any
) -> Iterator[Sidecar]:
    """A sidecar in this process, its data in memory."""
    with ExitStack() as stack:
        data = folder or stack.enter_context(short_folder())
        options = ServeOptions(data=data, redis="none", config=config or Config(), **more)
        sidecar = Sidecar(options)
        sidecar.start()
        stack.callback(sidecar.stop)
        yield sidecar


@contextmanager
def connected(
    target: str, spec: NamespaceSpec | None = SPEC, credentials: Credentials | None = None
) -> Iterator[GrpcClient]:
    """A client of the sidecar there, and a namespace to draft in."""
    client = GrpcClient(target, credentials)
    try:
        if spec is not None:
            create(client, spec)
        yield client
    finally:
        client.close()


def create(client: GrpcClient, spec: NamespaceSpec = SPEC) -> store_pb2.Namespace:
    named = namespace_of(spec)
    request = store_pb2.CreateNamespaceRequest.FromString(named.SerializeToString())
    return client.create_namespace(request)


def documents(
    *texts: list[int], corpus: str = "books", namespace: str = NAMESPACE
) -> store_pb2.WarmRequest:
    """A message of the Warm stream."""
    cuts = [0]
    for text in texts:
        cuts.append(cuts[-1] + len(text))
    return store_pb2.WarmRequest(
        namespace=namespace,
        corpus=corpus,
        document_offsets=int32s(cuts).tobytes(),
        tokens=b"".join(int32s(text).tobytes() for text in texts),
    )


@dataclass(frozen=True)
class Answer:
    """What became of a call: its status, its text, and the bytes that came back."""

    status: str
    details: str = ""
    data: tuple[bytes, ...] = ()


class RawCalls:
    """Any bytes to any method: no message of ours is between the test and the wire."""

    def __init__(self, target: str, credentials: Credentials = Credentials()) -> None:  # noqa: B008
        self._channel = credentials.channel(target)
        self._metadata = credentials.metadata()

    def unary(self, service: str, method: str, data: bytes) -> Answer:
        call = _as_bytes(self._channel.unary_unary, service, method)
        try:
            answer = call(data, timeout=STOP_SECONDS_MAX, metadata=self._metadata)
            return Answer("OK", data=(answer,))
        except grpc.RpcError as error:
            return _failed(error)

    def stream(self, service: str, method: str, *data: bytes) -> Answer:
        call = _as_bytes(self._channel.stream_stream, service, method)
        answers: list[bytes] = []
        try:
            for answer in call(iter(data), timeout=STOP_SECONDS_MAX, metadata=self._metadata):
                answers.append(answer)
        except grpc.RpcError as error:
            failed = _failed(error)
            return Answer(failed.status, failed.details, tuple(answers))
        return Answer("OK", data=tuple(answers))

    def first(self, service: str, method: str, data: bytes) -> Answer:
        """The first answer of a call that may go on for ever, which is cancelled then."""
        call = _as_bytes(self._channel.unary_stream, service, method)(
            data, timeout=STOP_SECONDS_MAX, metadata=self._metadata
        )
        try:
            return Answer("OK", data=tuple(itertools.islice(call, 1)))
        except grpc.RpcError as error:
            return _failed(error)
        finally:
            call.cancel()

    def send(
        self, service: str, method: str, message: Message, *, streaming: bool = False
    ) -> Answer:
        call = self.stream if streaming else self.unary
        return call(service, method, message.SerializeToString())

    def close(self) -> None:
        self._channel.close()


def _as_bytes(open_call: Callable[..., Any], service: str, method: str) -> Callable[..., Any]:
    return cast(Callable[..., Any], open_call(f"/{service}/{method}"))


def _failed(error: grpc.RpcError) -> Answer:
    assert isinstance(error, grpc.Call)
    return Answer(error.code().name, error.details() or "")


class Process:
    """`retrieval-draft serve` as its own process."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        self._log = open(data.parent / f"{data.name}.log", "ab")  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "retrieval_draft", "serve", "--data", str(data), *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []

    @property
    def target(self) -> str:
        return f"unix:{self.data / 'draft.sock'}"

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text()

    def ready(self) -> "Process":
        """Wait for its line on standard output."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECONDS_MAX)
        assert readable, f"it does not start: {self.log}"
        self.lines.append(self._process.stdout.readline().decode())
        assert self.lines[0].startswith("serving on "), self.log
        return self

    def pause(self) -> None:
        """It stands still until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def servers(self) -> set[int]:
        """The processes that it has started, Linux only."""
        return {pid for pid, parent in _processes() if parent == self._process.pid}

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        """SIGKILL; returns when the servers that it had started are gone as well."""
        servers = self.servers()
        self._process.kill()
        self.end()
        wait_for(lambda: not servers & running(), "a server lives on")

    def end(self) -> int:
        """Wait for its end."""
        assert self._process.stdout is not None
        began = monotonic()
        code = self._process.wait(STOP_SECONDS_MAX)
        assert monotonic() - began < STOP_SECONDS_MAX
        self.lines += [line.decode() for line in self._process.stdout]
        self._process.stdout.close()
        self._log.close()
        return code

    def discard(self) -> None:
        """Make sure that it is gone, whatever the test came to."""
        if self._process.poll() is None:
            self._process.kill()
            self.end()


def running() -> set[int]:
    """The processes of this machine that have not ended."""
    return {pid for pid, _ in _processes()}


def _processes() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:  # just gone
            continue
        if state != "Z":
            yield int(entry.parent.name), int(parent)


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[Process]:
    """A sidecar process that is ready."""
    process = Process(data, *arguments)
    try:
        yield process.ready()
    finally:
        process.discard()
