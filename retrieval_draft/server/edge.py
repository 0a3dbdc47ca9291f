"""What every RPC passes: the caller's tenant, our own decoding of raw bytes, one mapping of errors.

gRPC's own deserialisation answers malformed bytes with UNKNOWN and a Python text, and so it does for
exceptions of a handler. Here malformed bytes are INVALID_ARGUMENT, our errors have their status, and
anything else is INTERNAL with an id that stands in the log beside the traceback.
"""

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from retrieval_draft import errors
from retrieval_draft.errors import DraftError, InvalidInput, ResourceExhausted
from retrieval_draft.server.access import Access, Caller

log = logging.getLogger(__name__)

_Request = TypeVar("_Request", bound=Message)

Context = grpc.ServicerContext


class Edge:
    """Makes the handlers of a service. A tenant has at most `calls_max` calls at once; 0 = any number.

    A call holds a thread of the server. For one that should take a single message gRPC waits there until
    it has come, before anybody is asked who calls: a stranger's calls without a message would keep all
    others out. With a limit every handler therefore takes a stream, which costs such calls some 50 us.
    """

    def __init__(self, access: Access, calls_max: int = 0) -> None:
        self._access = access
        self._calls_max = calls_max
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def unary(
        self, kind: type[_Request], call: Callable[[_Request, str], Message]
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """A handler of one message that answers with one."""
        if self._calls_max:
            return self.streaming(kind, lambda messages, tenant, _: (call(_one(messages), tenant),))

        def handle(data: bytes, context: Context) -> bytes:
            try:
                tenant = self._access.caller(context).tenant()
                return call(decoded(kind, data), tenant).SerializeToString()
            except Exception as error:  # the edge: nothing may pass it as it is
                refuse(error, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def streaming(
        self,
        kind: type[_Request],
        call: Callable[[Iterator[_Request], str, Context], Iterable[Message]],
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """A handler of a stream of messages that answers with a stream."""

        def handle(stream: Iterator[bytes], context: Context) -> Iterator[bytes]:
            try:
                caller = self._access.caller(context)
                with self._counted(caller.tenant()) as tenant:
                    for answer in call(_messages(kind, stream, caller), tenant, context):
                        caller.tenant()
                        yield answer.SerializeToString()
            except grpc.RpcError:
                # The client went away: there is nobody to answer.
                return
            except Exception as error:  # the edge: nothing may pass it as it is
                refuse(error, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    def server_streaming(
        self, kind: type[_Request], call: Callable[[_Request, str, Context], Iterable[Message]]
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """A handler of one message that answers with a stream."""
        if self._calls_max:
            return self.streaming(
                kind, lambda messages, tenant, context: call(_one(messages), tenant, context)
            )

        def handle(data: bytes, context: Context) -> Iterator[bytes]:
            try:
                caller = self._access.caller(context)
                for answer in call(decoded(kind, data), caller.tenant(), context):
                    caller.tenant()
                    yield answer.SerializeToString()
            except Exception as error:  # the edge: nothing may pass it as it is
                refuse(error, context)

        return grpc.unary_stream_rpc_method_handler(handle)

    def calls_of(self, tenant: str) -> int:
        """How many calls of the tenant are running; streams alone where there is no limit."""
        return self._calls[tenant]

    @contextmanager
    def _counted(self, tenant: str) -> Iterator[str]:
        with self._lock:
            if self._calls_max and self._calls[tenant] >= self._calls_max:
                raise ResourceExhausted(
                    f"calls at once: the limit of a tenant is {self._calls_max}"
                )
            self._calls[tenant] += 1
        try:
            yield tenant
        finally:
            with self._lock:
                self._calls[tenant] -= 1
                if not self._calls[tenant]:
                    del self._calls[tenant]


def decoded(kind: type[_Request], data: bytes) -> _Request:
    """The message of these bytes, or InvalidInput."""
    message = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        limit = f"a {kind.DESCRIPTOR.full_name}"
        raise InvalidInput("message", f"{len(data)} bytes", limit, "malformed") from error
    return message


def refuse(error: Exception, context: Context) -> NoReturn:
    """End the call with the error's status; an unexpected one says no more than its logged id."""
    if isinstance(error, DraftError):
        # UNAVAILABLE may as well be gRPC's own: a client must know whether we are there and say so.
        context.set_trailing_metadata(((errors.MARK, error.status.lower()),))
        context.abort(grpc.StatusCode[error.status], str(error))
    # `abort` itself raises a bare Exception, which must pass.
    if type(error) is Exception and not error.args:
        raise error
    reference = uuid.uuid4().hex[:12]
    log.error("internal error %s", reference, exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"internal error {reference}")
    raise AssertionError("abort raises")


def _messages(kind: type[_Request], stream: Iterator[bytes], caller: Caller) -> Iterator[_Request]:
    """The stream's messages, for as long as the caller's credential is valid."""
    for data in stream:
        caller.tenant()
        yield decoded(kind, data)


def _one(messages: Iterator[_Request]) -> _Request:
    """The message of a call that has only one."""
    for message in messages:
        return message
    raise InvalidInput("message", "an empty stream", "one message")
