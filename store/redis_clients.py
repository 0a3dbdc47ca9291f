"""redis-py's clients for the addresses that we know: one server, Sentinel, Cluster; with TLS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import ConnectionInterface
from redis.credentials import CredentialProvider
from redis.exceptions import AskError, ClusterDownError, RedisClusterException, TryAgainError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.redis_address import Login, RedisAddress

REDIS_ERRORS: tuple[type[Exception], ...] = (redis.RedisError, RedisClusterException, OSError)
# What a Cluster answers while a slot is on its way (MovedError is an AskError): nothing was done.
MOVING = (AskError, TryAgainError, ClusterDownError)
SENTINEL_SECONDS_MAX = 1.0  # for one Sentinel: the next is asked then

Connected = Callable[[], None]


def client_of(
    address: RedisAddress,
    connect_seconds_max: float,
    answer_seconds_max: float,
    connected: Connected | None = None,
) -> redis.Redis:
    """A client that repeats nothing: whether that is safe only the callers know.

    `connected` is called with every connection that is made. A Cluster is asked for its nodes at
    once, and redis-py's errors of that are raised.
    """
    settings: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": connect_seconds_max,
        "socket_timeout": answer_seconds_max,
        **_login(address.login),
        **_tls(address),
    }
    if address.kind == "cluster":
        return _cluster(address, settings, connected)
    settings |= {"retry": Retry(NoBackoff(), 0), "db": address.db}
    if connected is not None:
        settings["redis_connect_func"] = _introduced(connected)
    if address.kind == "sentinel":
        return _of_sentinels(address, settings)
    if address.socket:
        return redis.Redis(unix_socket_path=address.socket, **settings)
    ((host, port),) = address.nodes
    return redis.Redis(host, port, **settings)


def as_cluster(client: redis.Redis) -> RedisCluster | None:
    """The Cluster behind a client of `client_of`, if it is one."""
    found = cast(object, client)
    return found if isinstance(found, RedisCluster) else None


def server_name(client: redis.Redis) -> str:
    """Where the server is: `host:port` of the present primary, or the path of its socket."""
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        host, port = pool.sentinel_manager.discover_master(pool.service_name)
        return f"{host}:{port}"
    settings = cast(dict[str, object], pool.connection_kwargs)
    return str(settings.get("path") or f"{settings.get('host')}:{settings.get('port')}")


class _OfSentinels(redis.Redis):
    """Closes its connections to the Sentinels too."""

    def close(self) -> None:
        super().close()
        pool = self.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()


class _FromFile(CredentialProvider):
    """The password is read for every connection, so that it can be changed without a restart."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = Path(self._login.password_file).read_text(encoding="utf-8").strip("\r\n")
        return (self._login.username, password) if self._login.username else (password,)


def _login(login: Login) -> dict[str, Any]:
    if login.password_file:
        provider = _FromFile(login)
        if not provider.get_credentials()[-1]:
            raise InvalidInput("password_file", login.password_file, "a file with a password")
        return {"credential_provider": provider}
    return {"username": login.username or None, "password": login.password or None}


def _tls(address: RedisAddress) -> dict[str, Any]:
    if not address.tls:
        return {}
    return {
        "ssl": True,
        "ssl_ca_certs": address.ca or None,
        "ssl_certfile": address.cert or None,
        "ssl_keyfile": address.key or None,
        "ssl_check_hostname": address.check_hostname,
    }


def _introduced(connected: Connected) -> Callable[[ConnectionInterface], None]:
    def introduce(connection: ConnectionInterface) -> None:
        connection.on_connect()
        connected()

    return introduce


def _of_sentinels(address: RedisAddress, settings: dict[str, Any]) -> redis.Redis:
    asking = {
        "protocol": 2,
        "socket_connect_timeout": SENTINEL_SECONDS_MAX,
        "socket_timeout": SENTINEL_SECONDS_MAX,
        "retry": Retry(NoBackoff(), 0),
        **_login(address.sentinel_login),
        **_tls(address),
    }
    sentinels = Sentinel(list(address.nodes), sentinel_kwargs=asking)
    client = sentinels.master_for(address.service, redis_class=_OfSentinels, **settings)
    return cast(redis.Redis, client)


def _cluster(
    address: RedisAddress, settings: dict[str, Any], connected: Connected | None
) -> redis.Redis:
    if connected is not None:
        settings["redis_connect_func"] = lambda _connection: connected()
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
        retry=Retry(NoBackoff(), 0),
        reinitialize_steps=1,  # every redirection is a reason to look who has which slot
        require_full_coverage=False,
        **settings,
    )
    return cast(redis.Redis, cast(object, cluster))
