"""Our error of the status that a call to a server of ours ended with."""

from collections.abc import Iterable
from typing import cast

import grpc

from retrieval_draft import errors
from retrieval_draft.errors import DraftError, Unreachable

_BY_STATUS = {
    kind.status: kind
    for kind in (
        errors.NotFound,
        errors.AlreadyExists,
        errors.FailedPrecondition,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.ResourceExhausted,
        errors.NotServed,
        errors.Unreachable,
        errors.Corrupt,
    )
}


def error_of(error: grpc.RpcError, target: str, verb: str = "serve") -> DraftError:
    """Our error of the status that a call ended with."""
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.Call) else None) or ""
    if code == grpc.StatusCode.UNAVAILABLE and _is_ours(error):
        return Unreachable(details)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(
            f"{target} did not answer in time: is `retrieval-draft {verb}` running there, and what "
            f"it stores in? ({code.name})"
        )
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unreachable(
            f"no answer from {target}: is `retrieval-draft {verb}` running there? ({code.name})"
        )
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return Refused(details)
    return _BY_STATUS.get(code.name, DraftError)(details or code.name)


def _is_ours(error: grpc.RpcError) -> bool:
    """Whether a server of ours ended the call; gRPC itself leaves no mark."""
    if not isinstance(error, grpc.Call):
        return False
    # The stubs disagree with each other on what a list of metadata is.
    metadata = cast("Iterable[tuple[str, str]] | None", error.trailing_metadata())
    return errors.MARK in dict(metadata or ())


class Refused(DraftError):
    """INVALID_ARGUMENT as a server said it; its text names field, value and limit."""

    status = "INVALID_ARGUMENT"
    exit_code = 2
