"""A sidecar with tenants: its file, their tokens, and clients of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.credentials import Credentials
from retrieval_draft.server.lifecycle import Sidecar
from retrieval_draft.tenants import Tenants, with_token, write_tenants
from tests.server.sidecars import RawCalls, connected, running_sidecar, short_folder

NAMES = ("acme", "bolt")


@dataclass
class Tenancy:
    """What the operator of the sidecar knows, and the tokens that were handed out."""

    sidecar: Sidecar
    path: Path
    tenants: Tenants
    tokens: dict[str, str]

    def credentials(self, name: str) -> Credentials:
        return Credentials(self.tokens[name])

    @contextmanager
    def client(self, name: str, target: str = "", **more: Any) -> Iterator[GrpcClient]:
        """A client of this tenant, on the Unix socket unless told otherwise."""
        target = target or self.sidecar.targets[0]
        with connected(target, credentials=self.credentials(name), **more) as ready:
            yield ready

    @contextmanager
    def raw(self, credentials: Credentials, target: str = "") -> Iterator[RawCalls]:
        calls = RawCalls(target or self.sidecar.targets[0], credentials)
        try:
            yield calls
        finally:
            calls.close()

    def write(self, tenants: Tenants) -> None:
        """The operator changes the file and tells the sidecar."""
        self.tenants = tenants
        write_tenants(self.path, tenants)
        assert self.sidecar.reload()


@contextmanager
def tenancy(
    config: Config | None = None,
    names: tuple[str, ...] = NAMES,
    unix_sockets: str = "",
    listen: tuple[str, ...] = (),
    **more: Any,
) -> Iterator[Tenancy]:
    """A sidecar in this process with one token for each of these tenants; data in memory."""
    with short_folder() as folder:
        tenants, tokens = Tenants(unix_sockets=unix_sockets), {}
        for name in names:
            tenants, tokens[name] = with_token(tenants, name)
        write_tenants(folder / "tenants.toml", tenants)
        listen = listen or (f"unix:{folder}/draft.sock",)
        with running_sidecar(
            config, folder / "data", tenants=folder / "tenants.toml", listen=listen, **more
        ) as sidecar:
            yield Tenancy(sidecar, folder / "tenants.toml", tenants, tokens)
