"""TLS and client certificates: who gets in, as whom, and certificates that change while it serves."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from retrieval_draft.config import Config
from retrieval_draft.credentials import Credentials
from retrieval_draft.errors import DraftError, FailedPrecondition, Unauthenticated, Unreachable
from retrieval_draft.server.tls import ServerTls, TlsFiles
from retrieval_draft.tenants import with_certificates
from tests.certificates import Authority, Issued
from tests.engine.driving import Caller, part
from tests.server.sidecars import connected, running_sidecar, short_folder
from tests.server.tenancy import Tenancy, tenancy

CONFIG = Config(learned_bytes_max=1 << 20)
LISTEN = ("127.0.0.1:0",)
SPIFFE = "spiffe://prod.example/acme"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def pem(authority: Authority) -> Iterator[Path]:
    """A folder with the server's certificate and the authority's."""
    with short_folder() as folder:
        authority.server().write(folder, "server")
        (folder / "ca.pem").write_bytes(authority.certificate)
        yield folder


@pytest.fixture(scope="module")
def files(pem: Path) -> TlsFiles:
    """Of a server that wants client certificates."""
    return TlsFiles(pem / "server.pem", pem / "server.key", pem / "ca.pem")


@pytest.fixture(scope="module")
def mutual(files: TlsFiles) -> Iterator[Tenancy]:
    """Tenants with certificates of either kind."""
    with tenancy(CONFIG, listen=LISTEN, tls=files) as running:
        tenants = with_certificates(running.tenants, "acme", (SPIFFE,))
        running.write(with_certificates(tenants, "bolt", ("bolt-engine",)))
        yield running


def shown(authority: Authority, client: Issued | None = None, token: str = "") -> Credentials:
    """What a client has: the authority, and perhaps a certificate and a token."""
    return Credentials(
        token,
        authority.certificate,
        certificate=client.certificate if client else None,
        key=client.key if client else None,
    )


@contextmanager
def namespaces_of(running: Tenancy, credentials: Credentials) -> Iterator[list[str]]:
    with connected(running.sidecar.targets[0], None, credentials) as client:
        yield [one.namespace for one in client.list_namespaces()]


def test_a_certificate_is_its_tenants_by_spiffe_id_or_common_name(
    mutual: Tenancy, authority: Authority
) -> None:
    acme = shown(authority, authority.client("whoever", SPIFFE))
    bolt = shown(authority, authority.client("bolt-engine"))
    with connected(mutual.sidecar.targets[0], credentials=acme) as client:
        assert Caller(client).step(part("s", 0, [1, 2], prompt=2)).statuses == [1]
    with namespaces_of(mutual, acme) as mine, namespaces_of(mutual, bolt) as others:
        assert (mine, others) == (["code"], [])


@pytest.mark.parametrize(
    ("name", "spiffe"),
    [("stranger", ""), ("bolt-engine", "spiffe://prod.example/other"), (SPIFFE, "")],
)
def test_a_certificate_that_nobody_was_given_is_refused(
    mutual: Tenancy, authority: Authority, name: str, spiffe: str
) -> None:
    """One with a SPIFFE id is nothing else, and a common name that looks like one is none."""
    credentials = shown(authority, authority.client(name, spiffe))
    with (
        pytest.raises(Unauthenticated, match="no tenant has this client certificate"),
        namespaces_of(mutual, credentials),
    ):
        pass


def test_a_token_decides_over_the_certificate(mutual: Tenancy, authority: Authority) -> None:
    certificate = authority.client("bolt-engine")
    with connected(
        mutual.sidecar.targets[0], credentials=shown(authority, certificate, mutual.tokens["acme"])
    ):
        pass
    with namespaces_of(mutual, shown(authority, certificate)) as others:
        assert others == []
    with (
        pytest.raises(Unauthenticated, match="this token is not valid"),
        namespaces_of(mutual, shown(authority, certificate, "w" * 43)),
    ):
        pass


def test_without_a_certificate_of_the_authority_there_is_no_connection(
    mutual: Tenancy, authority: Authority
) -> None:
    stranger = Authority()
    for credentials in (
        shown(authority, token=mutual.tokens["acme"]),
        shown(authority, stranger.client("bolt-engine")),
        shown(stranger, authority.client("bolt-engine")),
        mutual.credentials("acme"),  # in the clear
    ):
        with pytest.raises(Unreachable), namespaces_of(mutual, credentials):
            pass


def test_it_speaks_no_tls_older_than_1_2(pem: Path, authority: Authority) -> None:
    def version(target: str, newest: ssl.TLSVersion) -> str | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority.certificate.decode())
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = newest
        host, _, port = target.rpartition(":")
        with (
            socket.create_connection((host, int(port)), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return secured.version()

    tls = TlsFiles(pem / "server.pem", pem / "server.key")
    with running_sidecar(CONFIG, listen=LISTEN, tls=tls) as sidecar:
        target = sidecar.targets[0]
        assert version(target, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert version(target, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        with (
            pytest.warns(DeprecationWarning, match="TLSv1_1"),
            pytest.raises(ssl.SSLError, match="EOF"),
        ):
            version(target, ssl.TLSVersion.TLSv1_1)


def test_tls_with_tokens_alone_and_a_unix_socket_beside_it(pem: Path, authority: Authority) -> None:
    tls = TlsFiles(pem / "server.pem", pem / "server.key")
    with short_folder() as folder:
        listen = (*LISTEN, f"unix:{folder}/s.sock")
        with tenancy(CONFIG, listen=listen, tls=tls, unix_sockets="bolt") as running:
            acme = shown(authority, token=running.tokens["acme"])
            with connected(running.sidecar.targets[0], credentials=acme) as client:
                assert len(client.list_namespaces()) == 1
            with connected(running.sidecar.targets[1], None) as client:
                assert client.list_namespaces() == []
            with pytest.raises(Unauthenticated), namespaces_of(running, shown(authority)):
                pass


def test_tls_without_tenants_makes_everybody_local(files: TlsFiles, authority: Authority) -> None:
    with running_sidecar(CONFIG, listen=LISTEN, tls=files) as sidecar:
        credentials = shown(authority, authority.client("anybody"))
        with connected(sidecar.targets[0], credentials=credentials) as client:
            assert len(client.list_namespaces()) == 1
            state = sidecar.engine.stores.states("local")
            assert [one.spec.namespace for one in state] == ["code"]


def test_certificates_change_under_load_without_a_failed_call(authority: Authority) -> None:
    """Calls of standing connections and of new ones; a client that knows the new authority alone gets in."""
    newer = Authority()
    with short_folder() as folder:
        authority.server().write(folder, "server")
        files = TlsFiles(folder / "server.pem", folder / "server.key")
        with running_sidecar(CONFIG, listen=LISTEN, tls=files) as sidecar:
            target = sidecar.targets[0]
            both = Credentials(ca=authority.certificate + newer.certificate)
            failures: list[Exception] = []
            calls = 0
            ended = threading.Event()

            def call(is_new: bool) -> None:
                nonlocal calls
                with connected(target, None, both) as standing:
                    while not ended.is_set():
                        try:
                            if is_new:
                                with connected(target, None, both) as fresh:
                                    fresh.stats()
                            else:
                                standing.stats()
                            calls += 1
                        except DraftError as error:
                            failures.append(error)

            threads = [threading.Thread(target=call, args=(kind,)) for kind in (True, False)]
            for thread in threads:
                thread.start()
            for issuer in (newer, authority, newer):
                issuer.server().write(folder, "server")
                assert sidecar.reload()
                with connected(target, None, Credentials(ca=issuer.certificate)) as client:
                    assert client.info().version
            ended.set()
            for thread in threads:
                thread.join()
            assert failures == []
            assert calls > 0
            with (
                connected(target, None, Credentials(ca=authority.certificate)) as client,
                pytest.raises(Unreachable),
            ):
                client.info(2.0)


def test_files_that_do_not_fit_are_refused_and_the_old_ones_stay(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with short_folder() as folder:
        certificate, key = authority.server().write(folder, "server")
        files = TlsFiles(certificate, key)
        with running_sidecar(CONFIG, listen=LISTEN, tls=files) as sidecar:
            good = key.read_bytes()
            for bad in (authority.server().key, b"", b"no key", None):
                key.unlink()
                if bad is not None:
                    key.write_bytes(bad)
                else:
                    key.symlink_to(folder / "nowhere")
                assert not sidecar.reload()
                assert "kept the certificate of before" in caplog.text
                with pytest.raises(FailedPrecondition, match=r"server\.key"):
                    ServerTls(files)
                with suppress(FileNotFoundError):
                    key.unlink()
                key.write_bytes(b"")
            with connected(
                sidecar.targets[0], None, Credentials(ca=authority.certificate)
            ) as client:
                assert client.info().version
            key.write_bytes(good)
            assert sidecar.reload()
    with pytest.raises(FailedPrecondition, match="nowhere"):
        ServerTls(TlsFiles(Path("/nowhere"), Path("/nowhere")))


def test_a_channel_is_secure_only_where_it_is_asked_for(mutual: Tenancy) -> None:
    """The mutation that this file rests on: a plain channel to this port fails."""
    with (
        grpc.insecure_channel(mutual.sidecar.targets[0]) as channel,
        pytest.raises(grpc.FutureTimeoutError),
    ):
        grpc.channel_ready_future(channel).result(timeout=0.5)
