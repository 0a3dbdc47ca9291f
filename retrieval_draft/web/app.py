"""The routes: the page, its figures as a stream of events, metrics, and whether the sidecar is up."""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval_draft import __version__
from retrieval_draft.engine import Engine
from retrieval_draft.errors import (
    DraftError,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
)
from retrieval_draft.server.access import Access
from retrieval_draft.server.watch import Watchers
from retrieval_draft.stats import stats_of
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.web.history import History
from retrieval_draft.web.recent import Recent
from retrieval_draft.web.shown import Figures, figures
from retrieval_draft.web.total import total

log = logging.getLogger(__name__)

EVENT_SECONDS = 2.0
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/figures.js": ("figures.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""All that is served of the folder page/, by exact path."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What the page's data comes from. `recent` is there only where the operator lets text be shown."""

    engine: Engine
    access: Access
    history: History
    metrics: Callable[[Engine, str], bytes]
    recent: Recent | None = None


class Dashboard:
    """One sidecar's page. `stop` ends the streams of those who look at it."""

    def __init__(
        self,
        sources: Sources,
        host: str,
        *,
        over_tls: bool = False,
        event_seconds: float = EVENT_SECONDS,
    ) -> None:
        self._from = sources
        self._host = host
        self._over_tls = over_tls
        self._event_seconds = event_seconds
        self._watchers = Watchers(sources.engine.config)
        self._stopping = anyio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def app(self) -> Starlette:
        """The ASGI application."""
        page = files("retrieval_draft.web") / "page"
        routes = [
            Route(path, _served((page / name).read_bytes(), kind))
            for path, (name, kind) in PAGE.items()
        ]
        routes += [
            Route("/api/figures", self._figures),
            Route("/metrics", self._metrics),
            Route("/healthz", self._health),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, host=self._host, is_proven=self._is_proven)],
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )

    def stop(self) -> None:
        """End all streams, from any thread; their pages will say that the sidecar is gone."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _is_proven(self) -> bool:
        """Whether a foreign page could not ask in our name: it has no token, or no certificate for it."""
        return self._over_tls or self._from.access.tenants is not None

    def _tenant(self, http: Request) -> str:
        """Whose figures may be shown. Raises 401."""
        peer = http.client.host if http.client else ""
        try:
            return self._from.access.of_header(http.headers.getlist("authorization"), peer)
        except Unauthenticated as error:
            raise HTTPException(401, str(error), {"www-authenticate": "Bearer"}) from error

    async def _health(self, http: Request) -> Response:
        return Response(b"ok\n", media_type="text/plain")

    async def _metrics(self, http: Request) -> Response:
        tenant = self._tenant(http)
        text = await anyio.to_thread.run_sync(self._from.metrics, self._from.engine, tenant)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _figures(self, http: Request) -> Response:
        place = ExitStack()
        try:
            place.enter_context(self._watchers.place(self._tenant(http)))
        except ResourceExhausted as error:
            raise HTTPException(503, str(error), {"retry-after": "10"}) from error
        return _Events(self._events(http), place)

    async def _events(self, http: Request) -> AsyncIterator[bytes]:
        """First the last hour, then every EVENT_SECONDS the figures and what is new."""
        namespace = http.query_params.get("namespace", "")
        wants_text = http.query_params.get("text") == "1"
        newest, seen = 0.0, 0
        self._loop = asyncio.get_running_loop()
        try:
            while not self._stopping.is_set():
                # Asked again with every event: a token that was revoked shows nothing more.
                tenant = self._tenant(http)
                shown = await anyio.to_thread.run_sync(self._shown, tenant, namespace)
                yield _event("figures", shown)
                points = self._from.history.points(tenant, namespace, newest)
                if points or not newest:
                    yield _event("points", points)
                    newest = points[-1].unix_seconds if points else 1.0
                if self._from.recent is not None and wants_text:
                    keys = self._readable(self._from.recent, tenant, namespace)
                    texts, seen = self._from.recent.texts(keys, seen)
                    if texts:
                        yield _event("texts", texts)
                with anyio.move_on_after(self._event_seconds):
                    await self._stopping.wait()
        except HTTPException as error:
            yield _event("refused", error.detail)
        except NotFound as error:
            yield _event("gone", str(error))

    def _readable(self, recent: Recent, tenant: str, namespace: str) -> set[NamespaceKey]:
        """Those of the tenant's namespaces that are asked for, without those of another tokenizer."""
        return {
            state.key
            for state in self._from.engine.stores.states(tenant)
            if namespace in ("", state.key.namespace)
            and state.spec.tokenizer_fingerprint in ("", recent.fingerprint)
        }

    def _shown(self, tenant: str, namespace: str) -> Figures:
        stats = stats_of(self._from.engine, tenant)
        if namespace:
            chosen = next((n for n in stats.namespaces if n.namespace == namespace), None)
            if chosen is None:
                raise NotFound(f"there is no namespace {namespace}")
        else:
            chosen = total(stats.namespaces)
        return figures(
            stats,
            chosen,
            __version__,
            stats.namespaces,
            can_show_text=self._from.recent is not None,
        )


class _Events(StreamingResponse):
    """A stream that gives its place back however it ends, also before it began."""

    def __init__(self, events: AsyncIterator[bytes], place: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


class Guard:
    """Sets the headers, and refuses a page of somebody else's that calls itself us.

    Without tenants and TLS whoever reaches the port may look. A site that lets its own name stand for this
    address (DNS rebinding) would make a visitor's browser reach it: names with a dot are refused, but
    for the one that we were told to listen on.
    """

    def __init__(self, app: ASGIApp, host: str, is_proven: Callable[[], bool]) -> None:
        self._app, self._host, self._is_proven = app, host, is_proven

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                ours = HEADERS | (
                    {} if b"cache-control" in given else {"cache-control": "no-store"}
                )
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in ours.items()),
                ]
            await send(message)

        if self._is_proven() or self._is_ours(Request(scope).headers):
            await self._app(scope, receive, with_headers)
            return
        text = b"this address answers only under its own name\n"
        await Response(text, 421, media_type="text/plain")(scope, receive, with_headers)

    def _is_ours(self, headers: Mapping[str, str]) -> bool:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]")
        if "." not in name or name == self._host:
            return bool(name)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _served(content: bytes, kind: str) -> "Callable[[Request], Response]":
    """A file of the page; a newer version is taken at the next look."""

    def answer(http: Request) -> Response:
        return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})

    return answer


def _event(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


async def _refused(http: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(f"{error.detail}\n", error.status_code, error.headers, "text/plain")


async def _failed(http: Request, error: Exception) -> Response:
    if isinstance(error, InvalidInput | NotFound):
        return Response(f"{error}\n", 404, media_type="text/plain")
    if not isinstance(error, DraftError):
        log.error("a request for %s failed", http.url.path, exc_info=error)
    return Response(b"internal error\n", 500, media_type="text/plain")
