"""StoreService: namespaces, warming and figures over gRPC."""

from collections.abc import Iterator
from itertools import chain

import grpc

from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput
from retrieval_draft.server.advise import Advising
from retrieval_draft.server.edge import Context, Edge
from retrieval_draft.server.watch import StatsWatch
from retrieval_draft.stats import corpora_of, fleet_stats_of, stats_of
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store_wire import documents_of, namespace_of, snapshot_of, spec_of
from retrieval_draft.transfer import copy, exported, imported
from retrieval_draft.v1 import store_pb2 as pb

SERVICE = "retrieval_draft.v1.StoreService"


class StoreService:
    """Management calls; they may wait for the store, drafts never do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stores = engine.stores
        self._watch = StatsWatch(engine)
        self._advising = Advising(engine)

    def handler(self, edge: Edge) -> grpc.GenericRpcHandler:
        unary, streaming, server_streaming = edge.unary, edge.streaming, edge.server_streaming
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "CreateNamespace": unary(pb.CreateNamespaceRequest, self._create),
                "GetNamespace": unary(pb.GetNamespaceRequest, self._get),
                "ListNamespaces": unary(pb.ListNamespacesRequest, self._list),
                "CopyNamespace": unary(pb.CopyNamespaceRequest, self._copy),
                "DeleteNamespace": unary(pb.DeleteNamespaceRequest, self._delete),
                "Warm": streaming(pb.WarmRequest, self._warm),
                "KnownDocuments": unary(pb.KnownDocumentsRequest, self._known),
                "ListCorpora": unary(pb.ListCorporaRequest, self._corpora),
                "CompactCorpus": unary(pb.CompactCorpusRequest, self._compact),
                "DeleteCorpus": unary(pb.DeleteCorpusRequest, self._delete_corpus),
                "SaveSnapshot": unary(pb.SaveSnapshotRequest, self._save_snapshot),
                "ListSnapshots": unary(pb.ListSnapshotsRequest, self._snapshots),
                "VerifySnapshots": unary(pb.VerifySnapshotsRequest, self._verify_snapshots),
                "ExportNamespace": server_streaming(pb.ExportNamespaceRequest, self._export),
                "ImportNamespace": streaming(pb.ImportNamespaceRequest, self._import),
                "GetStats": unary(pb.GetStatsRequest, self._stats),
                "WatchStats": server_streaming(pb.WatchStatsRequest, self._watch.stats),
                "Advise": server_streaming(pb.AdviseRequest, self._advising.advise),
            },
        )

    def _create(self, message: pb.CreateNamespaceRequest, tenant: str) -> pb.Namespace:
        return namespace_of(self._stores.create(tenant, spec_of(message)))

    def _get(self, message: pb.GetNamespaceRequest, tenant: str) -> pb.Namespace:
        key = NamespaceKey(tenant, message.namespace)
        return namespace_of(self._stores.backend.get_namespace(key))

    def _list(self, message: pb.ListNamespacesRequest, tenant: str) -> pb.ListNamespacesResponse:
        specs = self._stores.backend.list_namespaces(tenant)
        return pb.ListNamespacesResponse(namespaces=map(namespace_of, specs))

    def _delete(
        self, message: pb.DeleteNamespaceRequest, tenant: str
    ) -> pb.DeleteNamespaceResponse:
        self._stores.delete(tenant, message.namespace)
        return pb.DeleteNamespaceResponse()

    def _copy(self, message: pb.CopyNamespaceRequest, tenant: str) -> pb.Namespace:
        target = spec_of(message.target)
        return namespace_of(copy(self._stores, tenant, message.source, target, message.decay))

    def _save_snapshot(self, message: pb.SaveSnapshotRequest, tenant: str) -> pb.Snapshot:
        key = NamespaceKey(tenant, message.namespace)
        return snapshot_of(key, self._stores.backend.save_snapshot(key))

    def _snapshots(self, message: pb.ListSnapshotsRequest, tenant: str) -> pb.ListSnapshotsResponse:
        key = NamespaceKey(tenant, message.namespace)
        found = self._stores.backend.snapshots(key)
        return pb.ListSnapshotsResponse(snapshots=[snapshot_of(key, one) for one in found])

    def _verify_snapshots(
        self, message: pb.VerifySnapshotsRequest, tenant: str
    ) -> pb.VerifySnapshotsResponse:
        key = NamespaceKey(tenant, message.namespace)
        return pb.VerifySnapshotsResponse(
            verdicts=[
                pb.SnapshotVerdict(snapshot=snapshot_of(key, one), problem=problem)
                for one, problem in self._stores.backend.verify_snapshots(key)
            ]
        )

    def _export(
        self, message: pb.ExportNamespaceRequest, tenant: str, context: Context
    ) -> Iterator[pb.ExportNamespaceResponse]:
        for data in exported(self._stores, tenant, message.namespace):
            yield pb.ExportNamespaceResponse(data=data)

    def _import(
        self, messages: Iterator[pb.ImportNamespaceRequest], tenant: str, context: Context
    ) -> Iterator[pb.Namespace]:
        first = next(messages, None)
        if first is None:
            raise InvalidInput("message", "an empty stream", "at least one ImportNamespaceRequest")
        pieces = (message.data for message in chain([first], messages))
        yield namespace_of(imported(self._stores, tenant, first.namespace, pieces))

    def _warm(
        self, messages: Iterator[pb.WarmRequest], tenant: str, context: Context
    ) -> Iterator[pb.WarmProgress]:
        total = pb.WarmProgress()
        target: tuple[str, str] | None = None
        for message in messages:
            if target is None:
                target = (message.namespace, message.corpus)
            elif target != (message.namespace, message.corpus):
                given = f"{message.namespace}/{message.corpus}"
                limit = f"{'/'.join(target)}, as in the stream's first message"
                raise InvalidInput("namespace/corpus", given, limit)
            stored = self._stores.store_documents(tenant, *target, documents_of(message))
            total.documents += stored.documents
            total.tokens += stored.tokens
            total.documents_known += stored.documents_known
            total.durability = int(stored.durability)  # type: ignore[assignment]
            yield total
        if target is None:
            raise InvalidInput("message", "an empty stream", "at least one WarmRequest")
        self._stores.publish(tenant, *target)
        tier = self._stores.state(tenant, target[0]).corpora([target[1]])[0]
        total.ready = True
        total.corpus_documents, total.corpus_tokens = tier.documents, tier.token_count
        yield total

    def _known(self, message: pb.KnownDocumentsRequest, tenant: str) -> pb.KnownDocumentsResponse:
        known = self._stores.known_documents(
            tenant, message.namespace, message.corpus, message.digests
        )
        return pb.KnownDocumentsResponse(known=bytes(known))

    def _corpora(self, message: pb.ListCorporaRequest, tenant: str) -> pb.ListCorporaResponse:
        state = self._stores.state(tenant, message.namespace)
        return pb.ListCorporaResponse(corpora=corpora_of(state))

    def _compact(self, message: pb.CompactCorpusRequest, tenant: str) -> pb.CompactCorpusResponse:
        self._stores.compact(tenant, message.namespace, message.corpus)
        state = self._stores.state(tenant, message.namespace)
        (found,) = [one for one in corpora_of(state) if one.corpus == message.corpus]
        return pb.CompactCorpusResponse(corpus=found)

    def _delete_corpus(
        self, message: pb.DeleteCorpusRequest, tenant: str
    ) -> pb.DeleteCorpusResponse:
        self._stores.delete_corpus(tenant, message.namespace, message.corpus)
        return pb.DeleteCorpusResponse()

    def _stats(self, message: pb.GetStatsRequest, tenant: str) -> pb.Stats:
        if message.fleet:
            return fleet_stats_of(self._engine, tenant, message.namespace)
        return stats_of(self._engine, tenant, message.namespace, digest=message.digest)
