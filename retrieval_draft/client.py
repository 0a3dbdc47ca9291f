"""Two transports, one interface: a sidecar over gRPC, here, or an Engine in this process (`engine_client`).

Both send a step and receive its answer apart, so that a caller may give up waiting and take the late
answer with its next step. Neither retries: that is the conversation's to decide.
"""

from collections.abc import Generator, Iterable, Iterator
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from retrieval_draft import errors
from retrieval_draft.call_errors import error_of
from retrieval_draft.config import MESSAGE_BYTES_MAX
from retrieval_draft.credentials import Credentials, load_credentials
from retrieval_draft.draft_stream import DraftStream
from retrieval_draft.errors import Unreachable
from retrieval_draft.step import StepRequest, StepResponse
from retrieval_draft.v1 import draft_pb2, store_pb2

CALL_SECONDS_MAX = 10.0
"""Deadline of a management call."""
WARM_SECONDS_MAX = 7 * 24 * 3600.0
"""Of a whole warming, which may be billions of tokens; keepalive notices a dead sidecar long before."""
SNAPSHOT_SECONDS_MAX = 600.0
ADVISE_SECONDS_MAX = 1800.0
WATCH_SECONDS_MAX = WARM_SECONDS_MAX
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    # Two clients of one process must not share a broken connection's back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

_Answer = TypeVar("_Answer", bound=Message)


class Client(Protocol):
    """One engine's way to a drafter. Methods raise DraftError and nothing else."""

    def send(self, request: StepRequest) -> None:
        """Hand over a step; at most one may be without an answer."""
        ...

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        """The answer to that step, or None if it has not come by then; answers to others are dropped."""
        ...

    def observation_width(self, seconds_max: float) -> int:
        """The top-k of the target's predictions that is worth sending; 0 = none."""
        ...

    def hidden_width(self, seconds_max: float) -> int:
        """How wide hidden states may be that are worth sending; 0 = none are."""
        ...

    def create_namespace(
        self, request: store_pb2.CreateNamespaceRequest, seconds_max: float = CALL_SECONDS_MAX
    ) -> store_pb2.Namespace:
        """Durable when it returns; AlreadyExists only if one of this name differs."""
        ...

    def get_namespace(
        self, namespace: str, seconds_max: float = CALL_SECONDS_MAX
    ) -> store_pb2.Namespace:
        """What it is, or NotFound."""
        ...

    def stats(self, namespace: str = "") -> store_pb2.Stats:
        """The figures of one namespace, or of all."""
        ...

    def close(self) -> None:
        """Give up the connection; open sequences end by their time to live."""
        ...


class GrpcClient:
    """A sidecar at `unix:PATH` or `HOST:PORT`. Connects when it is first used.

    Without `credentials` those of the environment are taken. Raises PermissionDenied for a token that
    would leave this machine without TLS.
    """

    def __init__(self, target: str, credentials: Credentials | None = None) -> None:
        if credentials is None:
            credentials = load_credentials()
        self.target = target
        self._channel = credentials.channel(target, CHANNEL_OPTIONS)
        self._metadata = credentials.metadata()
        self._stream: DraftStream | None = None

    def send(self, request: StepRequest) -> None:
        if self._stream is None or self._stream.broken:
            self._stream = DraftStream(self._channel, self._metadata)
        self._stream.send(request)

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        if self._stream is None:
            raise Unreachable(f"no step was sent to {self.target}")
        return self._stream.receive(step_id, seconds_max)

    def info(self, seconds_max: float = CALL_SECONDS_MAX) -> draft_pb2.ServerInfo:
        path = "/retrieval_draft.v1.DraftService/GetServerInfo"
        request = draft_pb2.GetServerInfoRequest()
        return self._call(path, request, draft_pb2.ServerInfo, seconds_max)

    def explain(self, request: draft_pb2.ExplainRequest) -> draft_pb2.ExplainResponse:
        """What a context is drafted, and why; it leaves no trace."""
        path = "/retrieval_draft.v1.DraftService/Explain"
        return self._call(path, request, draft_pb2.ExplainResponse)

    def observation_width(self, seconds_max: float) -> int:
        return self.info(seconds_max).observation_width

    def hidden_width(self, seconds_max: float) -> int:
        return self.info(seconds_max).hidden_width

    def create_namespace(
        self, request: store_pb2.CreateNamespaceRequest, seconds_max: float = CALL_SECONDS_MAX
    ) -> store_pb2.Namespace:
        return self._call(_store("CreateNamespace"), request, store_pb2.Namespace, seconds_max)

    def get_namespace(
        self, namespace: str, seconds_max: float = CALL_SECONDS_MAX
    ) -> store_pb2.Namespace:
        request = store_pb2.GetNamespaceRequest(namespace=namespace)
        return self._call(_store("GetNamespace"), request, store_pb2.Namespace, seconds_max)

    def list_namespaces(self) -> list[store_pb2.Namespace]:
        request = store_pb2.ListNamespacesRequest()
        answer = self._call(_store("ListNamespaces"), request, store_pb2.ListNamespacesResponse)
        return list(answer.namespaces)

    def delete_namespace(self, namespace: str) -> None:
        request = store_pb2.DeleteNamespaceRequest(namespace=namespace)
        self._call(_store("DeleteNamespace"), request, store_pb2.DeleteNamespaceResponse)

    def stats(
        self, namespace: str = "", *, fleet: bool = False, digest: bool = False
    ) -> store_pb2.Stats:
        """Of this replica, with digests if asked; or of the whole fleet."""
        request = store_pb2.GetStatsRequest(namespace=namespace, fleet=fleet, digest=digest)
        return self._call(_store("GetStats"), request, store_pb2.Stats)

    def watch_stats(
        self, namespace: str = "", *, interval_ms: int = 1000, fleet: bool = False
    ) -> Generator[store_pb2.Stats, None, None]:
        """The figures now and after every interval, until the iterator is closed."""
        request = store_pb2.WatchStatsRequest(
            namespace=namespace, interval_ms=interval_ms, fleet=fleet
        )
        yield from self._stream_of("WatchStats", [request], store_pb2.Stats, WATCH_SECONDS_MAX)

    def advise(self, request: store_pb2.AdviseRequest) -> Iterator[store_pb2.AdviseResponse]:
        """Progress, and last what to change in a namespace's drafting."""
        return self._stream_of("Advise", [request], store_pb2.AdviseResponse, ADVISE_SECONDS_MAX)

    def copy_namespace(self, request: store_pb2.CopyNamespaceRequest) -> store_pb2.Namespace:
        return self._call(
            _store("CopyNamespace"), request, store_pb2.Namespace, SNAPSHOT_SECONDS_MAX
        )

    def save_snapshot(self, namespace: str) -> store_pb2.Snapshot:
        request = store_pb2.SaveSnapshotRequest(namespace=namespace)
        return self._call(_store("SaveSnapshot"), request, store_pb2.Snapshot, SNAPSHOT_SECONDS_MAX)

    def snapshots(self, namespace: str) -> list[store_pb2.Snapshot]:
        request = store_pb2.ListSnapshotsRequest(namespace=namespace)
        answer = self._call(_store("ListSnapshots"), request, store_pb2.ListSnapshotsResponse)
        return list(answer.snapshots)

    def verify_snapshots(self, namespace: str) -> list[store_pb2.SnapshotVerdict]:
        request = store_pb2.VerifySnapshotsRequest(namespace=namespace)
        kind = store_pb2.VerifySnapshotsResponse
        answer = self._call(_store("VerifySnapshots"), request, kind, SNAPSHOT_SECONDS_MAX)
        return list(answer.verdicts)

    def export_namespace(self, namespace: str) -> Iterator[bytes]:
        """What the namespace has learned, as a file, piece by piece."""
        requests = [store_pb2.ExportNamespaceRequest(namespace=namespace)]
        kind = store_pb2.ExportNamespaceResponse
        for answer in self._stream_of("ExportNamespace", requests, kind, SNAPSHOT_SECONDS_MAX):
            yield answer.data

    def import_namespace(self, namespace: str, pieces: Iterable[bytes]) -> store_pb2.Namespace:
        """Create the namespace of this file; "" for the name that it had."""
        requests = (
            store_pb2.ImportNamespaceRequest(namespace=namespace, data=piece) for piece in pieces
        )
        kind = store_pb2.Namespace
        (made,) = self._stream_of("ImportNamespace", requests, kind, SNAPSHOT_SECONDS_MAX)
        return made

    def corpora(self, namespace: str) -> list[store_pb2.Corpus]:
        """What drafts use of the namespace's corpora, by name; NotFound."""
        request = store_pb2.ListCorporaRequest(namespace=namespace)
        return list(
            self._call(_store("ListCorpora"), request, store_pb2.ListCorporaResponse).corpora
        )

    def delete_corpus(self, namespace: str, corpus: str) -> None:
        """Remove it, for every replica; NotFound."""
        request = store_pb2.DeleteCorpusRequest(namespace=namespace, corpus=corpus)
        self._call(_store("DeleteCorpus"), request, store_pb2.DeleteCorpusResponse)

    def compact_corpus(self, namespace: str, corpus: str) -> store_pb2.Corpus:
        """Merge its segments; what it is then. NotFound."""
        request = store_pb2.CompactCorpusRequest(namespace=namespace, corpus=corpus)
        kind = store_pb2.CompactCorpusResponse
        return self._call(_store("CompactCorpus"), request, kind, WARM_SECONDS_MAX).corpus

    def warm(self, requests: Iterable[store_pb2.WarmRequest]) -> Iterator[store_pb2.WarmProgress]:
        """Send documents; yields what is stored, and last what drafts can use.

        An exception of `requests` ends the call and is raised as it is.
        """
        return self._stream_of("Warm", requests, store_pb2.WarmProgress, WARM_SECONDS_MAX)

    def known_documents(self, namespace: str, corpus: str, digests: Iterable[bytes]) -> list[bool]:
        """Which documents of these digests the corpus has; NotFound without the namespace."""
        request = store_pb2.KnownDocumentsRequest(
            namespace=namespace, corpus=corpus, digests=digests
        )
        answer = self._call(_store("KnownDocuments"), request, store_pb2.KnownDocumentsResponse)
        return [bool(one) for one in answer.known]

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._channel.close()

    def _call(
        self,
        path: str,
        request: Message,
        kind: type[_Answer],
        seconds_max: float = CALL_SECONDS_MAX,
    ) -> _Answer:
        call = self._channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=kind.FromString,
        )
        try:
            answer: _Answer = call(request, timeout=seconds_max, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error, self.target) from error
        return answer

    def _stream_of(
        self, method: str, requests: Iterable[Message], kind: type[_Answer], seconds_max: float
    ) -> Iterator[_Answer]:
        """The answers of a call that streams; an exception of `requests` is raised as it is."""
        broken: list[Exception] = []

        def fed() -> Iterator[Message]:
            try:
                yield from requests
            except Exception as error:
                broken.append(error)
                raise

        open_stream: grpc.StreamStreamMultiCallable[Message, _Answer] = self._channel.stream_stream(
            _store(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        call = open_stream(fed(), timeout=seconds_max, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            if broken:
                raise broken[0] from None
            raise error_of(error, self.target) from error
        finally:
            call.cancel()  # nothing, if the call has ended


def greet(
    client: Client,
    namespace: str,
    vocab_size: int,
    create: store_pb2.CreateNamespaceRequest | None,
    seconds_max: float,
) -> None:
    """Find the namespace, or make it as `create` says. Raises what the calls raise, and FailedPrecondition
    for a namespace of other tokens, which could only mislead.
    """
    if create is not None:
        ensure_namespace(client, create, seconds_max)
    else:
        check_namespace(client.get_namespace(namespace, seconds_max), vocab_size)


def ensure_namespace(
    client: Client,
    wanted: store_pb2.CreateNamespaceRequest,
    seconds_max: float = CALL_SECONDS_MAX,
) -> store_pb2.Namespace:
    """The namespace, made if it is missing; whoever made it may have said less or more about it.

    Raises FailedPrecondition if its tokens are not ours: another vocabulary or another tokenizer.
    """
    try:
        return client.create_namespace(wanted, seconds_max)
    except errors.AlreadyExists:
        found = client.get_namespace(wanted.namespace, seconds_max)
    check_namespace(found, wanted.vocab_size, wanted.tokenizer_fingerprint)
    return found


def check_namespace(
    found: store_pb2.Namespace, vocab_size: int, tokenizer_fingerprint: str = ""
) -> None:
    """Raises FailedPrecondition if its tokens are not ours: another vocabulary or another tokenizer.

    One tokenizer may have two sizes: models pad their vocabulary, tokenizers do not. Equal fingerprints
    therefore decide; without both of them the sizes must be equal.
    """
    theirs, ours = found.tokenizer_fingerprint, tokenizer_fingerprint
    if theirs and ours:
        if theirs != ours:
            raise errors.FailedPrecondition(
                f"namespace {found.namespace} belongs to another tokenizer "
                f"({theirs[:12]}, not {ours[:12]})"
            )
        return
    if found.vocab_size != vocab_size:
        raise errors.FailedPrecondition(
            f"namespace {found.namespace} has a vocabulary of {found.vocab_size}, "
            f"not of {vocab_size} tokens"
        )


def _store(method: str) -> str:
    return f"/retrieval_draft.v1.StoreService/{method}"
