"""GenerateService over gRPC, with health and reflection: the worker's edge.

The edge is the sidecar's: its decoding, its mapping of errors, its sockets.
"""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tokenizers import Tokenizer

import retrieval_draft
from retrieval_draft.chat_template import ChatTemplate
from retrieval_draft.errors import FailedPrecondition, InvalidInput
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.decoding_thread import DecodingThread, Stream
from retrieval_draft.gpu.request import Committed, Figures, Finish, Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.tokenizer import TextStream, check_stops
from retrieval_draft.server.access import Access
from retrieval_draft.server.edge import Context, Edge
from retrieval_draft.server.listen import bind
from retrieval_draft.tokenizer import fingerprint
from retrieval_draft.tree import Int32Array, int32s
from retrieval_draft.v1 import generate_pb2 as pb

if TYPE_CHECKING:
    from retrieval_draft.server.http import HttpServer

SERVICE = "retrieval_draft.v1.GenerateService"
STREAMS_MAX = 128  # each holds a thread of the server
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where the HTTP API listens, the name of the model there, and its chat template if it has one."""

    host: str
    port: int
    model: str
    template: ChatTemplate | None = None


class GenerateService:
    """The calls, on decoded messages; raises errors of ours. Knows one decoder, one tokenizer."""

    def __init__(
        self, decoder: Decoder, thread: DecodingThread, tokenizer: Tokenizer | None, namespace: str
    ) -> None:
        self._decoder, self._thread, self._tokenizer = decoder, thread, tokenizer
        model = decoder.model
        self._info = pb.WorkerInfo(
            version=retrieval_draft.__version__,
            model=model.name,
            vocab_size=model.vocab_size,
            tokenizer_fingerprint="" if tokenizer is None else fingerprint(tokenizer),
            context_tokens_max=decoder.length_max,
            slots=decoder.slots,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            namespace=namespace,
        )

    def get_worker_info(self, request: pb.GetWorkerInfoRequest) -> pb.WorkerInfo:
        return self._info

    def generate(
        self, message: pb.GenerateRequest, context: Context
    ) -> Iterator[pb.GenerateResponse]:
        """Committed tokens as they come; ends with finish_reason and figures.

        The slot is freed when the client goes away, and when a stop string completes.
        """
        request = self._request(message)
        text = None if self._tokenizer is None else TextStream(self._tokenizer, message.stop)
        stream = self._thread.submit(request)
        is_alive = context.add_callback(lambda: self._thread.cancel(request.sequence_id))
        if not is_alive:
            self._thread.cancel(request.sequence_id)
        yield from self._responses(stream, text)

    def _responses(self, stream: Stream, text: TextStream | None) -> Iterator[pb.GenerateResponse]:
        for committed in stream:
            piece = "" if text is None else text.push(committed.tokens.tolist())
            finish = committed.finish
            if text is not None and finish is not None:
                piece += text.flush()
            if text is not None and text.is_stopped:
                finish = Finish.STOP
                self._thread.cancel(stream.sequence_id, Finish.STOP)
            yield _response(committed, piece, finish)
            if finish is not None:
                return

    def _request(self, message: pb.GenerateRequest) -> Request:
        prompt = self._prompt(message)
        if message.stop and self._tokenizer is None:
            raise FailedPrecondition(
                "this worker has no tokenizer: it cannot look for stop strings"
            )
        check_stops(message.stop)
        return Request(
            sequence_id=uuid.uuid4().hex,
            prompt=prompt,
            tokens_max=message.tokens_max or max(1, self._decoder.length_max - len(prompt)),
            sampling=SamplingOptions(
                temperature=message.temperature,
                top_p=message.top_p if message.top_p != 0 else 1.0,
                top_k=message.top_k,
                seed=message.seed,
            ),
            plain=message.plain,
            ignore_end=message.ignore_end,
        )

    def _prompt(self, message: pb.GenerateRequest) -> Int32Array:
        if message.prompt and message.prompt_tokens:
            raise InvalidInput("prompt", "given with prompt_tokens", "one of the two")
        if not message.prompt:
            if len(message.prompt_tokens) % 4:
                size = f"{len(message.prompt_tokens)} bytes"
                raise InvalidInput("prompt_tokens", size, "int32: a multiple of 4 bytes")
            return np.frombuffer(message.prompt_tokens, "<i4")
        if self._tokenizer is None:
            raise FailedPrecondition("this worker has no tokenizer: send prompt_tokens")
        return int32s(self._tokenizer.encode(message.prompt).ids)


class Worker:
    """A worker that is being served; `addresses` are where, with the ports that were chosen."""

    def __init__(
        self,
        server: grpc.Server,
        thread: DecodingThread,
        checks: health.HealthServicer,
        addresses: Sequence[str],
        http: "HttpServer | None" = None,
    ) -> None:
        self._server, self._thread, self._checks, self._http = server, thread, checks, http
        self.addresses = (*addresses, *([http.address] if http else []))

    def wait(self) -> None:
        """Block until `stop` is called from elsewhere, such as a signal's handler."""
        self._server.wait_for_termination()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Refuse new requests, let running ones finish for so long, cancel the rest, close."""
        self._checks.enter_graceful_shutdown()
        stopped = self._server.stop(grace_seconds)
        # Both fronts drain at once; what has not ended by then is cancelled.
        self._thread.stop(grace_seconds)
        if self._http is not None:
            self._http.stop(grace_seconds)
        stopped.wait()


def serve_worker(
    decoder: Decoder,
    *,
    tokenizer: Tokenizer | None,
    listen: Sequence[str],
    namespace: str = "",
    http: HttpOptions | None = None,
) -> Worker:
    """Serve a decoder on `unix:PATH` and `HOST:PORT` addresses (port 0: any); returns when ready.

    With `http` the OpenAI-compatible API is served beside gRPC.

    No TLS and no authentication: whether an address may be opened is the caller's to decide. Unix
    sockets are created for this user only. Raises FailedPrecondition if one cannot be bound.
    """
    thread = DecodingThread(decoder)
    service = GenerateService(decoder, thread, tokenizer, namespace)
    server = grpc.server(
        ThreadPoolExecutor(STREAMS_MAX + 4, thread_name_prefix="grpc"),
        options=[("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=STREAMS_MAX,
    )
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_generic_rpc_handlers((_handlers(service),))
    reflection.enable_server_reflection(
        (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    addresses = [bind(server, address) for address in listen]
    front = None
    if http is not None:
        if tokenizer is None:
            raise FailedPrecondition("this worker has no tokenizer: it cannot serve text over HTTP")
        front = _http_server(decoder, thread, tokenizer, http)
        front.start()
    thread.start()
    server.start()
    for name in ("", SERVICE):
        checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    return Worker(server, thread, checks, addresses, front)


def _http_server(
    decoder: Decoder, thread: DecodingThread, tokenizer: Tokenizer, options: HttpOptions
) -> "HttpServer":
    from retrieval_draft.gpu.http.app import OpenAIService
    from retrieval_draft.gpu.http.metrics import Metrics
    from retrieval_draft.server.http import HttpServer

    metrics = Metrics(options.model, thread)
    decoder.on_step = metrics.verified
    service = OpenAIService(decoder, thread, tokenizer, options.template, options.model, metrics)
    return HttpServer(service.app(), options.host, options.port)


def _handlers(service: GenerateService) -> grpc.GenericRpcHandler:
    def generate(
        message: pb.GenerateRequest, tenant: str, context: Context
    ) -> Iterator[pb.GenerateResponse]:
        return service.generate(message, context)

    def get_worker_info(message: pb.GetWorkerInfoRequest, tenant: str) -> pb.WorkerInfo:
        return service.get_worker_info(message)

    edge = Edge(Access())
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Generate": edge.server_streaming(pb.GenerateRequest, generate),
            "GetWorkerInfo": edge.unary(pb.GetWorkerInfoRequest, get_worker_info),
        },
    )


def _response(committed: Committed, text: str, finish: Finish | None) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        tokens=committed.tokens.astype("<i4").tobytes(),
        text=text,
        finish_reason=None if finish is None else f"FINISH_REASON_{finish.name}",
        figures=None if finish is None else _figures(committed.figures),
    )


def _figures(figures: Figures) -> pb.GenerateFigures:
    return pb.GenerateFigures(
        prompt_tokens=figures.prompt_tokens,
        output_tokens=figures.output_tokens,
        steps=figures.steps,
        drafted_steps=figures.drafted_steps,
        drafted=figures.drafted,
        accepted=figures.accepted,
        seconds=figures.seconds,
    )
