"""Where a Redis is and how one gets in, as one URL says it.

    redis://HOST:PORT/DB          rediss://...            one server; with TLS
    unix:///path/to.sock          unix:///path?db=1       one server, through a Unix socket
    redis+sentinel://H:P,H:P/SERVICE/DB   rediss+sentinel://...   the primary that Sentinels name
    redis+cluster://H:P,H:P       rediss+cluster://...    a Redis Cluster; any of its nodes

User and password stand before the hosts (`user:password@`, percent-encoded) or in parameters behind
`?`, which have redis-py's names where it has one. Passwords are never shown: see `shown_url`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from retrieval_draft.errors import InvalidInput

PASSWORD_VARIABLE = "RETRIEVAL_DRAFT_REDIS_PASSWORD"  # noqa: S105 - a name, not a password
HIDDEN = "***"
REDIS_PORT, SENTINEL_PORT = 6379, 26379
DB_MAX = 65_535

Kind = Literal["single", "sentinel", "cluster"]
_KINDS: dict[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_LOGIN = ("username", "password", "password_file")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_OF_SENTINELS = ("sentinel_username", "sentinel_password", "sentinel_password_file")
_FILES = ("password_file", "sentinel_password_file", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

# Greedy up to the last @: a password with an unescaped @ or / must not show either.
_LOGIN_PASSWORD = re.compile(r"(//[^/@:]*):.*@", re.DOTALL)
_QUERY_PASSWORD = re.compile(r"(password=)[^&#]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks to be let in. A file is read for every new connection, so it may change."""

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A URL taken apart. `nodes` are servers, Sentinels or seeds of a Cluster, by `kind`."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    socket: str = ""  # instead of `nodes`
    service: str = ""  # what the Sentinels call the primary
    db: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: bool = False
    ca: str = ""  # files; "" = the system's authorities, no certificate of ours
    cert: str = ""
    key: str = ""
    check_hostname: bool = True


def shown_url(url: str) -> str:
    """The URL for messages and logs: without password, wherever it stands."""
    hidden = _QUERY_PASSWORD.sub(rf"\1{HIDDEN}", _LOGIN_PASSWORD.sub(rf"\1:{HIDDEN}@", url))
    return hidden.removesuffix("?password=")  # of our own server, which has none


def unix_url(path: str) -> str:
    """The URL of a server on this Unix socket."""
    return f"unix://{quote(path)}"


def private_url(path: str) -> str:
    """The URL of our own server on this Unix socket: without password, whatever the environment has."""
    return f"{unix_url(path)}?password="


def with_files(url: str, files: Mapping[str, Path | None]) -> str:
    """The URL with these files as parameters: what `--redis-ca` and its like mean."""
    given = [f"{name}={quote(str(path))}" for name, path in files.items() if path is not None]
    return f"{url}{'&' if '?' in url else '?'}{'&'.join(given)}" if given else url


def parse_redis_url(url: str) -> RedisAddress:
    """Take the URL apart; the password may be that of the environment.

    Raises InvalidInput, without any password, for what is no URL of the kinds above.
    """
    try:
        return _parsed(url)
    except ValueError:  # its text may quote a part of the password
        raise _refused(url, "a valid URL, with passwords percent-encoded") from None


def _parsed(url: str) -> RedisAddress:
    scheme, _, _ = url.partition("://")
    if scheme not in _KINDS or "://" not in url:
        raise _refused(url, ", ".join(f"{known}://" for known in _KINDS))
    kind, tls = _KINDS[scheme]
    parts = urlsplit(url)
    if parts.fragment:
        raise _refused(url, "a URL without #, which is %23 within a password or a path")
    query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    parameters = dict(query)
    _check_parameters(url, parameters, kind, tls)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    service, db, socket = "", "", ""
    if scheme == "unix":
        socket = unquote(parts.path)
        if hosts or not socket:
            raise _refused(url, "unix:///path/to/the.sock")
    elif kind == "sentinel":
        service, _, db = parts.path.removeprefix("/").partition("/")
        if not service:
            raise _refused(url, f"{scheme}://HOST:PORT,HOST:PORT/SERVICE")
    else:
        db = parts.path.removeprefix("/")
    default_port = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    address = RedisAddress(
        kind,
        () if socket else tuple(_node(host, default_port) for host in hosts.split(",")),
        socket,
        unquote(service),
        int(parameters.get("db") or db or 0),
        _login(url, "", parameters, unquote(username), unquote(password)),
        _login(url, "sentinel_", parameters, "", ""),
        tls,
        parameters.get("ssl_ca_certs", ""),
        parameters.get("ssl_certfile", ""),
        parameters.get("ssl_keyfile", ""),
        _truth(parameters.get("ssl_check_hostname", "yes")),
    )
    if not 0 <= address.db <= (0 if kind == "cluster" else DB_MAX):
        raise _refused(url, f"a database up to {0 if kind == 'cluster' else DB_MAX}")
    if address.key and not address.cert:
        raise _refused(url, "ssl_certfile beside ssl_keyfile")
    return address


def _check_parameters(url: str, parameters: Mapping[str, str], kind: Kind, tls: bool) -> None:
    allowed = {
        "db",
        *_LOGIN,
        *(_TLS if tls else ()),
        *(_OF_SENTINELS if kind == "sentinel" else ()),
    }
    for name in parameters:
        if name in _TLS and not tls:
            raise _refused(url, "rediss:// (with TLS)", f"{name} is of no use without")
        if name not in allowed:
            raise _refused(url, f"the parameters {', '.join(sorted(allowed))}", f"not {name}")
    for name in _FILES:
        if name in parameters and not os.access(parameters[name], os.R_OK):
            raise InvalidInput(name, parameters[name], "a file that can be read")


def _login(url: str, prefix: str, given: Mapping[str, str], username: str, password: str) -> Login:
    password = given.get(f"{prefix}password") or password
    file = given.get(f"{prefix}password_file", "")
    if password and file:
        raise _refused(url, f"one {prefix}password, in the URL or in a file")
    if not (prefix or password or file or "password" in given):
        password = os.environ.get(PASSWORD_VARIABLE, "")
    return Login(given.get(f"{prefix}username") or username, password, file)


def _node(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):  # IPv6
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("brackets")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    number = int(port) if port else default_port
    if not 1 <= number <= 65_535:
        raise ValueError("port")
    return unquote(host) or "localhost", number


def _truth(text: str) -> bool:
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("truth")
    return known[text.lower()]


def _refused(url: str, limit: str, reason: str = "") -> InvalidInput:
    return InvalidInput("redis URL", shown_url(url), limit, reason)
