"""Serving an ASGI application: uvicorn in a thread of its own, from `start` to `stop`."""

import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import uvicorn
from starlette.applications import Starlette

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.server.tls import TlsFiles

START_SECONDS_MAX = 30.0
CONNECTIONS_WAITING_MAX = 256


class HttpServer:
    """On HOST:PORT, port 0 for any. `address` is where, once it is started.

    With `tls` it speaks HTTPS alone, and with its `ca` to clients that show a certificate of it. The
    files have been checked before. `stopping` is called when no more requests are taken: what streams
    without end is to end then.
    """

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        tls: TlsFiles | None = None,
        stopping: Callable[[], object] = lambda: None,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            access_log=False,
            backlog=CONNECTIONS_WAITING_MAX,
            lifespan="off",
            server_header=False,
            # Whoever is refused is logged by address, not by what it says of itself.
            proxy_headers=False,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
            ssl_ca_certs=None if tls is None or tls.ca is None else str(tls.ca),
            ssl_cert_reqs=ssl.CERT_REQUIRED if tls is not None and tls.ca else ssl.CERT_NONE,
        )
        self._host, self._tls, self._stopping = host, tls, stopping
        self._server = _Server(self._config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self.address = ""

    def start(self) -> None:
        """Returns when it listens. Raises FailedPrecondition if it cannot."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.01)
        if not self._server.started:
            port = self._server.config.port
            raise FailedPrecondition(f"cannot serve HTTP on {self._host}:{port}")
        port = self._server.servers[0].sockets[0].getsockname()[1]
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"{scheme}://{host}:{port}"

    def reload(self) -> None:
        """Read the certificate afresh, for connections that begin from now on, and trust `ca` as well.

        What was trusted before still is. Raises FailedPrecondition for files that do not fit together.
        """
        context = self._config.ssl
        if self._tls is None or context is None:
            return
        try:
            context.load_cert_chain(self._tls.certificate, self._tls.key)
            if self._tls.ca is not None:
                context.load_verify_locations(self._tls.ca)
        except OSError as error:
            raise FailedPrecondition(f"{self._tls.certificate} cannot be used: {error}") from error

    def stop(self, grace_seconds: float) -> None:
        """Take no more requests, let running ones finish for so long, end."""
        self._server.should_exit = True
        self._stopping()
        self._thread.join(grace_seconds)
        self._server.force_exit = True
        self._thread.join(START_SECONDS_MAX)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that it cannot listen; it has logged why
            return


class _Server(uvicorn.Server):
    """Leaves signals to who runs us."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()
