"""Two tenants of one sidecar, as callers that send any message; and what the sidecar says that it serves."""

from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from retrieval_draft.v1 import store_pb2
from tests.engine.driving import NAMESPACE, VOCAB
from tests.server.sidecars import STORE, Answer, RawCalls, documents
from tests.server.tenancy import Tenancy

OPEN_TO_ALL = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


@dataclass
class World:
    """Both tenants have a namespace of one name; the owner's alone knows the canary."""

    tenancy: Tenancy
    owner: RawCalls
    other: RawCalls

    def stats(self, calls: RawCalls) -> store_pb2.NamespaceStats:
        answer = self.ok(calls, STORE, "GetStats", store_pb2.GetStatsRequest(namespace=NAMESPACE))
        return store_pb2.Stats.FromString(answer).namespaces[0]

    def corpus_hits(self, calls: RawCalls) -> tuple[int, int]:
        """Steps that committed something, and steps in which the corpus brought it."""
        found = self.stats(calls)
        return found.steps, sum(row.hits for row in found.tiers if row.name == "corpus")

    def ok(self, calls: RawCalls, service: str, method: str, message: Message) -> bytes:
        answer = calls.send(service, method, message)
        assert answer.status == "OK", (method, answer)
        return answer.data[0]

    def status(self, calls: RawCalls, service: str, method: str, message: Message) -> str:
        return calls.send(service, method, message).status

    def corpora(self, calls: RawCalls) -> dict[str, int]:
        request = store_pb2.ListCorporaRequest(namespace=NAMESPACE)
        answer = self.ok(calls, STORE, "ListCorpora", request)
        found = store_pb2.ListCorporaResponse.FromString(answer).corpora
        return {one.corpus: one.tokens for one in found}

    def names(self, calls: RawCalls) -> set[str]:
        answer = self.ok(calls, STORE, "ListNamespaces", store_pb2.ListNamespacesRequest())
        found = store_pb2.ListNamespacesResponse.FromString(answer).namespaces
        return {one.namespace for one in found}

    def make(self, calls: RawCalls, name: str, vocab_size: int = VOCAB) -> store_pb2.Namespace:
        request = store_pb2.CreateNamespaceRequest(
            namespace=name, vocab_size=vocab_size, learned_bytes_max=1 << 20
        )
        return store_pb2.Namespace.FromString(self.ok(calls, STORE, "CreateNamespace", request))

    def warm(self, calls: RawCalls, corpus: str, *texts: list[int]) -> store_pb2.WarmProgress:
        request = documents(*texts, corpus=corpus)
        answer = calls.send(STORE, "Warm", request, streaming=True)
        assert answer.status == "OK", answer
        return store_pb2.WarmProgress.FromString(answer.data[-1])


def kept(world: World, calls: RawCalls, listing: Message) -> list[int]:
    answer = world.ok(calls, STORE, "ListSnapshots", listing)
    found = store_pb2.ListSnapshotsResponse.FromString(answer).snapshots
    return [one.generation for one in found]


def exported(calls: RawCalls, namespace: str) -> Answer:
    request = store_pb2.ExportNamespaceRequest(namespace=namespace)
    return calls.stream(STORE, "ExportNamespace", request.SerializeToString())


def deleted(world: World, *names: str) -> None:
    for name in names:
        request = store_pb2.DeleteNamespaceRequest(namespace=name)
        world.ok(world.owner, STORE, "DeleteNamespace", request)


@dataclass(frozen=True)
class Method:
    client_streaming: bool


def served(world: World) -> dict[tuple[str, str], Method]:
    """What the running sidecar's reflection lists, without what is open to all."""
    found = {}
    with grpc.insecure_channel(world.tenancy.sidecar.targets[0]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        for name in set(database.get_services()) - OPEN_TO_ALL:
            file = database.FindFileContainingSymbol(name)
            (described,) = [s for s in file.service if f"{file.package}.{s.name}" == name]
            for method in described.method:
                found[name, method.name] = Method(method.client_streaming)
    return found
