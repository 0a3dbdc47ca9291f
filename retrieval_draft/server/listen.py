"""Where the sidecar may be reached: Unix sockets for this user alone, loopback, or more if told so."""

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from retrieval_draft.errors import FailedPrecondition, InvalidInput, PermissionDenied
from retrieval_draft.targets import is_loopback

SOCKET_PATH_BYTES_MAX = 107


@dataclass(frozen=True, slots=True)
class Address:
    """`target` is what gRPC binds and what clients dial; `path` is set for Unix sockets."""

    target: str
    path: Path | None = None


def parse(listen: str, insecure: bool, secured: bool = False, option: str = "listen") -> Address:
    """The address of `unix:PATH` or `HOST:PORT`; `option` is what errors call it.

    Raises InvalidInput for anything else, PermissionDenied for an address that others can reach unless
    it is `secured` (TLS, and callers that prove who they are) or `insecure` is said.
    """
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:")).absolute()
        if not listen.removeprefix("unix:"):
            raise InvalidInput(option, listen, "unix:PATH or HOST:PORT")
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
            raise InvalidInput(option, listen, f"a path of {SOCKET_PATH_BYTES_MAX} bytes")
        return Address(f"unix:{path}", path)
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidInput(option, listen, "unix:PATH or HOST:PORT")
    if not (insecure or secured or is_loopback(listen)):
        raise PermissionDenied(
            f"--{option} {listen}: others could reach it without TLS and authentication; give "
            "--tls-cert and --tls-key with --tenants or --tls-ca where the verb has them, use a "
            "loopback address or a Unix socket, or say --insecure"
        )
    return Address(f"{host}:{port}")


def claim(address: Address) -> None:
    """Make the socket's folder and remove a socket that a dead process left behind.

    Raises FailedPrecondition if something else lies there or another process answers on it.
    """
    if address.path is None:
        return
    address.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not address.path.exists():
        return
    if not address.path.is_socket():
        raise FailedPrecondition(f"{address.path} exists and is not a socket")
    if _answers(address.path):
        raise FailedPrecondition(f"another process is serving on {address.path}")
    address.path.unlink()


def bind(
    server: grpc.Server, target: str, credentials: grpc.ServerCredentials | None = None
) -> str:
    """Let the server listen there; the target as clients dial it, with the port that was chosen for 0.

    With `credentials` a port speaks TLS; a Unix socket never does. Raises FailedPrecondition if it
    cannot be had.
    """
    # A socket is this user's alone from its first moment, whatever the folder allows.
    before = os.umask(0o177)
    try:
        if credentials is None or target.startswith("unix:"):
            port = server.add_insecure_port(target)
        else:
            port = server.add_secure_port(target, credentials)
    except RuntimeError as error:
        raise FailedPrecondition(f"cannot listen on {target}: {error}") from error
    finally:
        os.umask(before)
    if target.startswith("unix:"):
        return target
    return f"{target.rpartition(':')[0]}:{port}"


def _answers(path: Path) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
