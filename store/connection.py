"""How a Redis is reached, and what is known of it. Passwords never leave this file.

redis-py is imported when a connection is made, not with this module.
"""

import enum
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

from retrieval_draft.errors import (
    DraftError,
    FailedPrecondition,
    InvalidInput,
    PermissionDenied,
    Unreachable,
)

if TYPE_CHECKING:
    import redis

PASSWORD_VARIABLE = "RETRIEVAL_DRAFT_REDIS_PASSWORD"  # noqa: S105 - a name, not a password
SCHEMES = ("redis", "rediss", "unix")
CONNECT_SECONDS_MAX = 2.0
ANSWER_SECONDS_MAX = 5.0
HIDDEN = "***"
# Greedy up to the last @: a password with an unescaped @ or / must not show either.
_LOGIN_PASSWORD = re.compile(r"(//[^/@:]*):.*@", re.DOTALL)
_QUERY_PASSWORD = re.compile(r"(password[^=&]*=)[^&#]*", re.IGNORECASE)


class Durability(enum.IntEnum):
    """What a crash may take; equal to enum Durability of the wire."""

    MEMORY = 1  # gone with the process
    REDIS = 2  # Redis' own settings decide
    FSYNC = 3  # append-only file, fsync always


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What a server says of itself; "" where an ACL does not let us ask (INFO or CONFIG)."""

    version: str
    appendonly: str
    appendfsync: str
    maxmemory: str  # bytes, 0 = unbounded
    maxmemory_policy: str
    role: str
    process_id: int
    folder: str

    @property
    def durability(self) -> Durability:
        """FSYNC only if the server itself says so."""
        fsync = self.appendonly == "yes" and self.appendfsync == "always"
        return Durability.FSYNC if fsync else Durability.REDIS


def connect(url: str, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> "redis.Redis":
    """A client whose server has answered; every wait of it is bounded, and nothing is retried.

    The password comes from the URL, else from the environment. Raises InvalidInput for a URL of
    another kind, Unreachable if nothing answers, PermissionDenied if it does not let us in.
    """
    client = unchecked_client(url, answer_seconds_max)
    try:
        with translated_errors(url):
            client.ping()
    except UnicodeError:  # of a host name that no resolver takes; its text may quote the URL
        raise InvalidInput("redis URL", shown_url(url), "a host name that exists") from None
    return client


def unchecked_client(url: str, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> "redis.Redis":
    """Like `connect`, but nothing is sent yet."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if url.partition("://")[0] not in SCHEMES:
        kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InvalidInput("redis URL", shown_url(url), kinds)
    try:
        password = os.environ.get(PASSWORD_VARIABLE) if not _has_password(url) else None
        return redis.Redis.from_url(
            url,
            **({"password": password} if password else {}),
            protocol=2,
            socket_connect_timeout=CONNECT_SECONDS_MAX,
            socket_timeout=answer_seconds_max,
            # Whether repeating is safe only the callers know.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:  # its text may quote a part of the password
        raise InvalidInput("redis URL", shown_url(url), "a valid URL") from None


def shown_url(url: str) -> str:
    """The URL for messages and logs: without password, wherever it stands."""
    return _QUERY_PASSWORD.sub(rf"\1{HIDDEN}", _LOGIN_PASSWORD.sub(rf"\1:{HIDDEN}@", url))


def unix_url(path: str) -> str:
    """The URL of a server on this Unix socket."""
    return f"unix://{quote(path)}"


@contextmanager
def translated_errors(url: str) -> Iterator[None]:
    """Errors of redis-py inside come out as ours, saying what to do, never with a password."""
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise translated(error, url) from error


def translated(error: Exception, url: str) -> DraftError:
    """Our error for one of redis-py's."""
    import redis
    from redis.exceptions import NoPermissionError

    server, text = shown_url(url), str(error)
    refused = ("NOAUTH", "WRONGPASS", "invalid username-password", "Authentication required")
    denied = (redis.AuthenticationError, NoPermissionError)
    if isinstance(error, denied) or any(word in text for word in refused):
        return PermissionDenied(
            f"Redis at {server} refuses this user or password ({text}); "
            f"give them in the URL or the password in {PASSWORD_VARIABLE}"
        )
    if isinstance(error, redis.BusyLoadingError):
        return Unreachable(f"Redis at {server} is still loading its data; try again shortly")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return Unreachable(
            f"Redis at {server} does not answer ({text}); is it running, and is the address right?"
        )
    return FailedPrecondition(f"Redis at {server} refuses: {text}")


def describe(client: "redis.Redis") -> RedisFacts:
    """What the server says of itself. Raises redis-py's errors if it does not answer at all."""
    info = _info(client)
    settings = {
        name: _setting(client, name)
        for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "dir")
    }
    return RedisFacts(
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        appendonly=settings["appendonly"] or ("yes" if info.get("aof_enabled") else ""),
        appendfsync=settings["appendfsync"],
        maxmemory=settings["maxmemory"] or str(info.get("maxmemory", "")),
        maxmemory_policy=settings["maxmemory-policy"] or str(info.get("maxmemory_policy", "")),
        role=str(info.get("role", "")),
        process_id=int(str(info.get("process_id", 0))),
        folder=settings["dir"],
    )


def _info(client: "redis.Redis") -> dict[str, object]:
    import redis

    try:
        return dict(client.info())
    except redis.ResponseError:  # INFO counts as dangerous: a careful ACL forbids it
        return {}


def _setting(client: "redis.Redis", name: str) -> str:
    import redis

    try:
        return str(client.config_get(name).get(name) or "")
    except redis.ResponseError:  # managed servers and ACLs forbid CONFIG: unknown, not an error
        return ""


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password" in dict(parse_qsl(parts.query))
