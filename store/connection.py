"""How a Redis is reached, and what is known of it. No message has a password.

redis-py is imported when a connection is made, not with this module.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval_draft.errors import (
    DraftError,
    FailedPrecondition,
    InvalidInput,
    PermissionDenied,
    Unreachable,
)
from retrieval_draft.store.redis_address import PASSWORD_VARIABLE, parse_redis_url, shown_url

if TYPE_CHECKING:
    import redis

CONNECT_SECONDS_MAX = 2.0
ANSWER_SECONDS_MAX = 5.0


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

    `url` is one of store/redis_address.py. Raises InvalidInput for one of another kind, Unreachable
    if nothing answers, PermissionDenied if it does not let us in.
    """
    try:
        with translated_errors(url):
            client = unchecked_client(url, answer_seconds_max)
            try:
                client.ping()
            except BaseException:
                client.close()
                raise
    except UnicodeError:  # of a host name that no resolver takes; its text may quote the URL
        raise InvalidInput("redis URL", shown_url(url), "a host name that exists") from None
    return client


def unchecked_client(url: str, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> "redis.Redis":
    """Like `connect`, but nothing is sent yet, except to a Cluster; raises redis-py's errors.

    That of a Cluster is a RedisCluster: it has the commands of a Redis, each on the right node.
    """
    from retrieval_draft.store.redis_clients import client_of

    return client_of(parse_redis_url(url), CONNECT_SECONDS_MAX, answer_seconds_max)


@contextmanager
def translated_errors(url: str) -> Iterator[None]:
    """Errors of redis-py inside come out as ours, saying what to do, never with a password."""
    from retrieval_draft.store.redis_clients import REDIS_ERRORS

    try:
        yield
    except REDIS_ERRORS as error:
        raise translated(error, url) from error


def translated(error: Exception, url: str) -> DraftError:
    """Our error for one of redis-py's."""
    import redis
    from redis.exceptions import NoPermissionError, RedisClusterException
    from redis.sentinel import MasterNotFoundError

    server, text = shown_url(url), str(error)
    refused = ("NOAUTH", "WRONGPASS", "invalid username-password", "Authentication required")
    denied = (redis.AuthenticationError, NoPermissionError)
    if isinstance(error, MasterNotFoundError):  # its text shows the settings of the connections
        if "AuthenticationError" in text:
            return PermissionDenied(
                f"the Sentinels at {server} refuse us; give sentinel_password_file in the URL"
            )
        return Unreachable(
            f"no Sentinel at {server} names a primary; do they run, and is this the service's name?"
        )
    if isinstance(error, NoPermissionError) or "NOPERM" in text:
        return PermissionDenied(f"Redis at {server} forbids this user a command or key: {text}")
    if isinstance(error, denied) or any(word in text for word in refused):
        return PermissionDenied(
            f"Redis at {server} refuses this user or password ({text}); give them in the URL, "
            f"or the password in {PASSWORD_VARIABLE} or --redis-password-file"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Unreachable(
            f"the certificate of Redis at {server} is not trusted ({text}); "
            "give its authority with --redis-ca, and a name that the certificate has"
        )
    if isinstance(error, redis.BusyLoadingError):
        return Unreachable(f"Redis at {server} is still loading its data; try again shortly")
    unreachable = (redis.ConnectionError, redis.TimeoutError, RedisClusterException, OSError)
    if isinstance(error, unreachable):
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


def describe_all(client: "redis.Redis") -> dict[str, RedisFacts]:
    """The server by its address, or every primary of a Cluster. Raises redis-py's errors."""
    from retrieval_draft.store.redis_clients import as_cluster, server_name

    cluster = as_cluster(client)
    if cluster is None:
        return {server_name(client): describe(client)}
    primaries = sorted(cluster.get_primaries(), key=lambda node: str(node.name))
    return {str(p.name): describe(cluster.get_redis_connection(p)) for p in primaries}


def durability_of(url: str, client: "redis.Redis") -> Durability:
    """What survives of what this client's server acknowledges.

    FSYNC only of one server that says so: where another takes over, the last writes may be lost.
    """
    if parse_redis_url(url).kind != "single":
        return Durability.REDIS
    return describe(client).durability


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
