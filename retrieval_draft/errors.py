"""Every error that may cross an edge, with its gRPC status and its exit code.

    DraftError                    INTERNAL               1
    ├── InvalidInput              INVALID_ARGUMENT       2   names field, value and limit
    ├── NotFound                  NOT_FOUND              1
    ├── AlreadyExists             ALREADY_EXISTS         1
    ├── FailedPrecondition        FAILED_PRECONDITION    1
    ├── Unauthenticated           UNAUTHENTICATED        4
    ├── PermissionDenied          PERMISSION_DENIED      4
    ├── ResourceExhausted         RESOURCE_EXHAUSTED     1
    ├── NotServed                 UNIMPLEMENTED          1
    ├── Unreachable               UNAVAILABLE            3
    └── Corrupt                   DATA_LOSS              5

Anything else that reaches an edge is a bug: it becomes INTERNAL with a logged id, never its text.
"""

from typing import ClassVar

MARK = "retrieval-draft-error"
"""Trailing metadata of a call that a server of ours refused: its text says what is wrong."""


class DraftError(Exception):
    """Base of all. `status` is the name of the gRPC status, `exit_code` that of the command line."""

    status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1


class InvalidInput(DraftError):
    """Something the caller said is outside its limits. `limit` is a number, or goes on from "it must be"."""

    status = "INVALID_ARGUMENT"
    exit_code = 2

    def __init__(self, field: str, value: object, limit: str, reason: str = "") -> None:
        self.field, self.value, self.limit, self.reason = field, shown(value), limit, reason
        bound = "the limit is" if limit[:1].isdigit() else "it must be"
        why = f": {reason}" if reason else ""
        super().__init__(f"{field} is {self.value}, {bound} {limit}{why}")


class NotFound(DraftError):
    """The named thing does not exist."""

    status = "NOT_FOUND"


class AlreadyExists(DraftError):
    """The name is taken by something that differs."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(DraftError):
    """The request does not fit the present state; sending it again will not help."""

    status = "FAILED_PRECONDITION"


class Unauthenticated(DraftError):
    """The caller has no credential, or one that is not valid (any more)."""

    status = "UNAUTHENTICATED"
    exit_code = 4


class PermissionDenied(DraftError):
    """The caller, or this process on its host, may not do that."""

    status = "PERMISSION_DENIED"
    exit_code = 4


class ResourceExhausted(DraftError):
    """A configured bound is reached."""

    status = "RESOURCE_EXHAUSTED"


class NotServed(DraftError):
    """The call is defined but this version does not serve it."""

    status = "UNIMPLEMENTED"


class Unreachable(DraftError):
    """The sidecar, worker or Redis does not answer."""

    status = "UNAVAILABLE"
    exit_code = 3


class Corrupt(DraftError):
    """Stored data fails its check."""

    status = "DATA_LOSS"
    exit_code = 5


def shown(value: object, characters_max: int = 80) -> str:
    """The value for a message, cut so that hostile input cannot fill logs."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= characters_max else text[:characters_max] + "…"
