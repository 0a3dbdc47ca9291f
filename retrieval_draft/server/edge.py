"""What every RPC passes: our own decoding of raw bytes, one mapping of errors, nothing else gets out.

gRPC's own deserialisation answers malformed bytes with UNKNOWN and a Python text, and so it does for
exceptions of a handler. Here malformed bytes are INVALID_ARGUMENT, our errors have their status, and
anything else is INTERNAL with an id that stands in the log beside the traceback.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from retrieval_draft.errors import DraftError, InvalidInput

log = logging.getLogger(__name__)

_Request = TypeVar("_Request", bound=Message)

Context = grpc.ServicerContext
LOCAL_TENANT = "local"


def tenant_of(context: Context) -> str:
    """Whose call it is: from the credential, never from the message. Without tenants all are `local`."""
    return LOCAL_TENANT


def decoded(kind: type[_Request], data: bytes) -> _Request:
    """The message of these bytes, or InvalidInput."""
    message = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        limit = f"a {kind.DESCRIPTOR.full_name}"
        raise InvalidInput("message", f"{len(data)} bytes", limit, "malformed") from error
    return message


def unary(
    kind: type[_Request], call: Callable[[_Request, str], Message]
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """A handler of one message that answers with one."""

    def handle(data: bytes, context: Context) -> bytes:
        try:
            return call(decoded(kind, data), tenant_of(context)).SerializeToString()
        except Exception as error:  # the edge: nothing may pass it as it is
            refuse(error, context)

    return grpc.unary_unary_rpc_method_handler(handle)


def streaming(
    kind: type[_Request],
    call: Callable[[Iterator[_Request], str, Context], Iterable[Message]],
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """A handler of a stream of messages that answers with a stream."""

    def handle(stream: Iterator[bytes], context: Context) -> Iterator[bytes]:
        try:
            messages = (decoded(kind, data) for data in stream)
            for answer in call(messages, tenant_of(context), context):
                yield answer.SerializeToString()
        except grpc.RpcError:
            # The client went away: there is nobody to answer.
            return
        except Exception as error:  # the edge: nothing may pass it as it is
            refuse(error, context)

    return grpc.stream_stream_rpc_method_handler(handle)


def server_streaming(
    kind: type[_Request], call: Callable[[_Request, str, Context], Iterable[Message]]
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """A handler of one message that answers with a stream."""

    def handle(data: bytes, context: Context) -> Iterator[bytes]:
        try:
            for answer in call(decoded(kind, data), tenant_of(context), context):
                yield answer.SerializeToString()
        except Exception as error:  # the edge: nothing may pass it as it is
            refuse(error, context)

    return grpc.unary_stream_rpc_method_handler(handle)


def refuse(error: Exception, context: Context) -> NoReturn:
    """End the call with the error's status; an unexpected one says no more than its logged id."""
    if isinstance(error, DraftError):
        context.abort(grpc.StatusCode[error.status], str(error))
    # `abort` itself raises a bare Exception, which must pass.
    if type(error) is Exception and not error.args:
        raise error
    reference = uuid.uuid4().hex[:12]
    log.error("internal error %s", reference, exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"internal error {reference}")
    raise AssertionError("abort raises")
