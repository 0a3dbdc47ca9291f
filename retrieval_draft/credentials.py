"""How a client proves who it is, and how it knows the server: a bearer token, TLS, a client certificate."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval_draft.errors import InvalidInput, PermissionDenied
from retrieval_draft.targets import is_loopback

if TYPE_CHECKING:
    import grpc

TOKEN_VARIABLE = "RETRIEVAL_DRAFT_TOKEN"  # noqa: S105 - a name
CA_VARIABLE = "RETRIEVAL_DRAFT_TLS_CA"
CERTIFICATE_VARIABLE = "RETRIEVAL_DRAFT_TLS_CERT"
KEY_VARIABLE = "RETRIEVAL_DRAFT_TLS_KEY"
SYSTEM = "system"
"""Instead of a CA file: the authorities that this machine trusts."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Empty: no token, and no TLS. `ca` or `use_system_ca` asks for TLS wherever the target is a port."""

    token: str = field(default="", repr=False)
    ca: bytes | None = None
    use_system_ca: bool = False
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    @property
    def has_tls(self) -> bool:
        return self.ca is not None or self.use_system_ca

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self, target: str, options: tuple[tuple[str, int], ...] = ()) -> "grpc.Channel":
        """A channel to `unix:PATH`, always without TLS, or `HOST:PORT`.

        Raises PermissionDenied where the token would cross a network that others can listen to.
        """
        import grpc

        if self.has_tls and not target.startswith("unix:"):
            secured = grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)
            return grpc.secure_channel(target, secured, options=options)
        if self.token and not is_loopback(target):
            raise PermissionDenied(
                f"the token is not sent to {target} without TLS: give --tls-ca or {CA_VARIABLE}"
            )
        return grpc.insecure_channel(target, options=options)


def load_credentials(
    token_file: Path | None = None, ca: str = "", certificate: str = "", key: str = ""
) -> Credentials:
    """Of these files, and of the environment where one is not named.

    `ca` is a file or `system`. Raises InvalidInput for a file that cannot be read and for a client
    certificate without its key or without TLS.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token_file is not None:
        token = _read("--token-file", str(token_file)).decode(errors="replace").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        # Never the value itself.
        raise InvalidInput("token", "something else", "one line of printable ASCII, without blanks")
    ca = ca or os.environ.get(CA_VARIABLE, "")
    certificate = certificate or os.environ.get(CERTIFICATE_VARIABLE, "")
    key = key or os.environ.get(KEY_VARIABLE, "")
    if bool(certificate) != bool(key):
        raise InvalidInput("--tls-cert", certificate, "given together with --tls-key")
    if certificate and not ca:
        raise InvalidInput("--tls-cert", certificate, "given together with --tls-ca")
    return Credentials(
        token,
        ca=_read("--tls-ca", ca) if ca and ca != SYSTEM else None,
        use_system_ca=ca == SYSTEM,
        certificate=_read("--tls-cert", certificate) if certificate else None,
        key=_read("--tls-key", key) if key else None,
    )


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(option, path, "a file", error.strerror or "") from error
