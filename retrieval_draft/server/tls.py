"""TLS of the listeners: certificates from files, read afresh without a restart."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from retrieval_draft.errors import FailedPrecondition

READS_MAX = 3


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `ca`, every client must show a certificate that it has signed (mTLS)."""

    certificate: Path
    key: Path
    ca: Path | None = None


class ServerTls:
    """Connections that begin after `reload` see the new files; those that stand keep theirs.

    TLS 1.2 or newer. Raises FailedPrecondition for files that are missing or do not fit together.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._configuration = _read(files)

    def reload(self) -> None:
        """Read the files afresh; raises FailedPrecondition, and then keeps what it had."""
        self._configuration = _read(self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """For one listener; gRPC asks for the newest configuration with every connection."""
        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._configuration,
            lambda: self._configuration,
            require_client_authentication=self._files.ca is not None,
        )
        return made


def _read(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    for _ in range(READS_MAX):
        read = _bytes(files)
        _check(files)
        # Files that change while they are read could be two halves of different pairs.
        if read == _bytes(files):
            certificate, key, ca = read
            return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)
    raise FailedPrecondition(f"{files.certificate} and {files.key} keep changing")


def _bytes(files: TlsFiles) -> tuple[bytes, bytes, bytes | None]:
    try:
        ca = files.ca.read_bytes() if files.ca is not None else None
        return files.certificate.read_bytes(), files.key.read_bytes(), ca
    except OSError as error:
        raise FailedPrecondition(f"{error.filename} cannot be read: {error.strerror}") from error


def _check(files: TlsFiles) -> None:
    """gRPC itself would take any bytes, and then refuse every connection."""

    def no_password() -> str:
        raise FailedPrecondition(f"{files.key} is encrypted; give one without a password")

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key, no_password)
        if files.ca is not None:
            context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        where = f"{files.certificate}, {files.key}" + (f", {files.ca}" if files.ca else "")
        raise FailedPrecondition(f"no certificate with its key in {where}: {error}") from error
