"""Serving the application: uvicorn in a thread of its own, from `start` to `stop`."""

import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from retrieval_draft.errors import FailedPrecondition

START_SECONDS_MAX = 30.0
CONNECTIONS_WAITING_MAX = 256


class HttpServer:
    """On HOST:PORT, port 0 for any. `address` is where, once it is started."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            access_log=False,
            backlog=CONNECTIONS_WAITING_MAX,
            lifespan="off",
            server_header=False,
        )
        self._host, self._server = host, _Server(config)
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
        self.address = f"http://{self._host}:{port}"

    def stop(self, grace_seconds: float) -> None:
        """Take no more requests, let running ones finish for so long, end."""
        self._server.should_exit = True
        self._thread.join(grace_seconds)
        self._server.force_exit = True
        self._thread.join(START_SECONDS_MAX)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that it cannot listen; it has logged why
            return


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The worker handles signals."""

    def capture_signals(self) -> "Callable[[], None]":  # type: ignore[override]
        from contextlib import nullcontext

        return nullcontext()  # type: ignore[return-value]
