"""DraftService: the engine's steps over gRPC."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from retrieval_draft import __version__
from retrieval_draft.config import (
    DENSE_HIDDEN,
    HIDDEN_WIDTH_MAX,
    MESSAGE_BYTES_MAX,
    OBSERVATION_WIDTH,
)
from retrieval_draft.drafting.names import METHODS
from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput
from retrieval_draft.explaining import explained
from retrieval_draft.server.edge import Context, Edge
from retrieval_draft.server.padding import pad
from retrieval_draft.v1 import draft_pb2 as pb
from retrieval_draft.wire import decode_request, encode_response

if TYPE_CHECKING:
    from retrieval_draft.server.tracing import Tracing

SERVICE = "retrieval_draft.v1.DraftService"
FEATURES = (
    "stream",
    "resync",
    "observations",
    "verify_cost",
    "chains",
    "model_trees",
    "proposals",
    "explain",
)


class DraftService:
    """Stateless: everything is the engine's. With `pad_drafts` answers have sizes that tell little."""

    def __init__(
        self, engine: Engine, pad_drafts: bool = False, tracing: "Tracing | None" = None
    ) -> None:
        self._engine = engine
        self._tracing = tracing
        self._pad_drafts = pad_drafts

    def handler(self, edge: Edge) -> grpc.GenericRpcHandler:
        unary, streaming = edge.unary, edge.streaming
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Draft": unary(pb.DraftRequest, self._draft_and_settle),
                "DraftStream": streaming(pb.DraftRequest, self._draft_stream),
                "FinishSequences": unary(pb.FinishSequencesRequest, self._finish),
                "GetServerInfo": unary(pb.GetServerInfoRequest, self._info),
                "Explain": unary(pb.ExplainRequest, self._explain),
            },
        )

    def _draft(self, message: pb.DraftRequest, tenant: str) -> pb.DraftResponse:
        answer = encode_response(self._engine.step(tenant, decode_request(message)))
        return pad(answer) if self._pad_drafts else answer

    def _draft_and_settle(self, message: pb.DraftRequest, tenant: str) -> pb.DraftResponse:
        answer = self._draft(message, tenant)
        self._engine.settle(tenant, message.client_id)
        return answer

    def _draft_stream(
        self, messages: Iterator[pb.DraftRequest], tenant: str, context: Context
    ) -> Iterator[pb.DraftResponse]:
        for message in messages:
            answer = self._stepped(message, tenant, context)
            try:
                yield answer
            finally:
                # The answer is on its way, or nobody is there to take it: what the step taught
                # may take its time, but must not wait for a next step that may never come.
                self._engine.settle(tenant, message.client_id)

    def _stepped(self, message: pb.DraftRequest, tenant: str, context: Context) -> pb.DraftResponse:
        if self._tracing is None:
            return self._draft(message, tenant)
        with self._tracing.step(context) as span:
            answer = self._draft(message, tenant)
            span.set_attribute("sequences", len(message.sequence_ids))
            span.set_attribute("nodes", len(answer.trees.tokens) // 4)
            span.set_attribute("draft_us", answer.draft_us)
        return answer

    def _finish(
        self, message: pb.FinishSequencesRequest, tenant: str
    ) -> pb.FinishSequencesResponse:
        most = self._engine.config.batch_sequences_max
        if len(message.sequence_ids) > most:
            raise InvalidInput("sequence_ids", len(message.sequence_ids), f"{most} entries")
        self._engine.stores.state(tenant, message.namespace)
        finished = self._engine.finish_sequences(
            tenant, message.client_id, list(message.sequence_ids)
        )
        return pb.FinishSequencesResponse(finished=finished)

    def _info(self, message: pb.GetServerInfoRequest, tenant: str) -> pb.ServerInfo:
        config = self._engine.config
        return pb.ServerInfo(
            version=__version__,
            replica_id=self._engine.replica,
            methods=METHODS,
            default_method=config.method,
            features=FEATURES,
            limits=pb.Limits(
                batch_sequences_max=config.batch_sequences_max,
                context_tokens_max=config.context_tokens_max,
                nodes_max=config.nodes_hard_max,
                depth_max=config.depth_max,
                default_nodes_max=config.nodes_max,
                message_bytes_max=MESSAGE_BYTES_MAX,
            ),
            observation_width=OBSERVATION_WIDTH,
            hidden_width=HIDDEN_WIDTH_MAX if config.dense == DENSE_HIDDEN else 0,
            store=self._engine.stores.backend.name,
        )

    def _explain(self, message: pb.ExplainRequest, tenant: str) -> pb.ExplainResponse:
        return explained(self._engine, tenant, message)
