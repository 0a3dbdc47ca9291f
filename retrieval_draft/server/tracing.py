"""Spans of calls for OpenTelemetry: an option, and the only module that imports it (extra `otel`).

A span is one call, or one step of DraftStream, within the trace that the caller's `traceparent` names. It
says the call's status, and of a step how large it was and what it took; never a token, the name of a
tenant or the id of a sequence. Where spans go is said by OpenTelemetry's own variables
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

import grpc
from opentelemetry import propagate
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from retrieval_draft import __version__

SERVICE_NAME = "retrieval-draft"
OURS = "/retrieval_draft."
STEPS = "/retrieval_draft.v1.DraftService/DraftStream"
FLUSH_MS_MAX = 2000

_Asked = TypeVar("_Asked")
_Said = TypeVar("_Said")

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[bytes, bytes]


class Tracing(grpc.ServerInterceptor):
    """One process's spans; `stop` sends what is left. Without an exporter they go by OTLP over gRPC."""

    def __init__(self, replica: str, exporter: SpanExporter | None = None) -> None:
        if exporter is None:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        # Resource.create lets OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word.
        resource = Resource.create({"service.name": SERVICE_NAME, "service.instance.id": replica})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("retrieval_draft", __version__)

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Asked, _Said] | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[_Asked, _Said] | None":
        """A span around every call of ours. A stream of steps has one a step instead (`step`)."""
        handler, method = continuation(handler_call_details), handler_call_details.method
        if handler is None or not method.startswith(OURS) or method == STEPS:
            return handler
        traced = self._traced(cast("Handler", handler), method.removeprefix("/"))
        return cast("grpc.RpcMethodHandler[_Asked, _Said]", traced)

    @contextmanager
    def step(self, context: grpc.ServicerContext) -> Iterator[Span]:
        """Around one step of a stream; its figures are set on what this yields."""
        with self._span(STEPS.removeprefix("/"), context) as span:
            yield span

    def stop(self) -> None:
        """Send what is left within FLUSH_MS_MAX, and end the thread."""
        self._provider.force_flush(FLUSH_MS_MAX)
        self._provider.shutdown()

    def _traced(self, handler: "Handler", name: str) -> "Handler":
        """Of the kinds that the edge makes; it decodes, so that messages are bytes here."""
        if not handler.response_streaming:
            answer = cast("Callable[[bytes, grpc.ServicerContext], bytes]", handler.unary_unary)

            def call(data: bytes, context: grpc.ServicerContext) -> bytes:
                with self._span(name, context):
                    return answer(data, context)

            return grpc.unary_unary_rpc_method_handler(call)
        streaming = handler.request_streaming
        answers = cast(
            "Callable[[object, grpc.ServicerContext], Iterator[bytes]]",
            handler.stream_stream if streaming else handler.unary_stream,
        )

        def stream(given: object, context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._span(name, context):
                yield from answers(given, context)

        if streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_stream_rpc_method_handler(stream)

    @contextmanager
    def _span(self, name: str, context: grpc.ServicerContext) -> Iterator[Span]:
        headers = {entry[0]: str(entry[1]) for entry in context.invocation_metadata()}
        span = self._tracer.start_span(name, propagate.extract(headers), SpanKind.SERVER)
        try:
            yield span
        except Exception:
            # The status alone: texts may quote what a user sent.
            code = getattr(context, "code", lambda: None)()
            span.set_status(Status(StatusCode.ERROR, getattr(code, "name", "INTERNAL")))
            raise
        finally:
            span.end()
