"""Our error of the status that a call to a server of ours ended with."""

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
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unreachable(
            f"no answer from {target}: is `retrieval-draft {verb}` running there? ({code.name})"
        )
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return Refused(details)
    return _BY_STATUS.get(code.name, DraftError)(details or code.name)


class Refused(DraftError):
    """INVALID_ARGUMENT as a server said it; its text names field, value and limit."""

    status = "INVALID_ARGUMENT"
    exit_code = 2
