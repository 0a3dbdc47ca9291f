"""The sidecar's life: backend up, journal replayed, kernels compiled, then SERVING; and the way back."""

import logging
import os
import queue
import shutil
import signal
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

from retrieval_draft.config import MESSAGE_BYTES_MAX, Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import DraftError, FailedPrecondition, InvalidInput
from retrieval_draft.server import draft_service, listen, store_service
from retrieval_draft.server.access import Access
from retrieval_draft.server.edge import Edge
from retrieval_draft.server.open_services import add_open_services
from retrieval_draft.server.tls import ServerTls, TlsFiles
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.block_cache import BlockCache
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.folder_blocks import FolderBlocks
from retrieval_draft.store.url_blobs import blocks_at
from retrieval_draft.tenants import read_tenants

if TYPE_CHECKING:
    from retrieval_draft.server.http import HttpServer
    from retrieval_draft.server.tracing import Tracing

log = logging.getLogger(__name__)

THREADS_MAX = 128
"""A stream holds a thread for its life: one per engine."""
DRAIN_SECONDS = 2.0
FLUSH_SECONDS = 5.0
SERVICES = (draft_service.SERVICE, store_service.SERVICE)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `retrieval-draft serve` was told; an empty `redis` means the embedded server, and empty
    `blocks` the data folder with that, else your Redis. Without `tenants` every caller is `local`."""

    listen: tuple[str, ...] = ()
    data: Path | None = None
    redis: str = ""
    blocks: str = ""
    insecure: bool = False
    config: Config = field(default_factory=Config)
    tenants: Path | None = None
    tls: TlsFiles | None = None
    pad_drafts: bool = False
    traces: bool = False
    """Spans for OpenTelemetry, which is imported only then."""
    web: str = ""
    show_tokens: str = ""
    """A tokenizer: output is then kept for the dashboard, which may show it."""

    @property
    def secured(self) -> bool:
        """Whether callers prove who they are, and nobody can listen to them."""
        return self.tls is not None and (self.tenants is not None or self.tls.ca is not None)


class Sidecar:
    """One process's server. `start` serves when it returns, `stop` drains and flushes."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._undo: list[Callable[[], object]] = []
        self.targets: list[str] = []
        self.engine: Engine
        self.edge: Edge
        self.access = Access()
        self._tls: ServerTls | None = None
        self._web: HttpServer | None = None

    def reload(self) -> bool:
        """Read tenants and certificates afresh; what cannot be read stays as it was. Whether all could."""
        return all([self._reload_tenants(), self._reload_tls()])

    def start(self) -> None:
        """Raises DraftError if an address, the data folder or Redis cannot be had; nothing is left then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> bool:
        """Health says NOT_SERVING, calls drain, the journal is flushed. Whether nothing was lost."""
        kept = True
        while self._undo:
            kept = self._undo.pop()() is not False and kept
        return kept

    def _start(self) -> None:
        options = self._options
        secured = options.secured
        addresses = [listen.parse(text, options.insecure, secured) for text in options.listen]
        web = listen.parse(options.web, options.insecure, secured, "web") if options.web else None
        if web is not None and web.path is not None:
            raise InvalidInput("web", options.web, "HOST:PORT")
        if options.tenants is not None:
            self.access.tenants = read_tenants(options.tenants)
        if options.tls is not None:
            self._tls = ServerTls(options.tls)
        folder = DataFolder(options.data)
        self._undo.append(folder.close)
        if not addresses:
            addresses = [listen.parse(f"unix:{folder.draft_socket}", options.insecure)]
        for address in addresses:
            listen.claim(address)
        config = options.config
        if options.tenants is None:
            # The one tenant there is need not leave anything to others.
            config = replace(
                config,
                tenant_clients_max=config.clients_max,
                tenant_namespaces_max=config.namespaces_max,
                tenant_watchers_max=config.watchers_max,
            )
        if config.scratch is None:
            # Segments are as large as their blocks: on that disk, and gone with a crash's next start.
            scratch = folder.path / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(mode=0o700)
            config = replace(config, scratch=scratch)
        self.engine = Engine(self._backend(folder), config)
        self.engine.start(f"{os.uname().nodename}-{uuid.uuid4().hex[:8]}")
        self._undo.append(lambda: self.engine.stop(FLUSH_SECONDS))
        if web is not None:
            self._serve_web(web)
        self._serve(addresses)

    def _backend(self, folder: DataFolder) -> Backend:
        url, rules = self._options.redis, self._options.config.journal
        cache = BlockCache(folder.path / "cache", self._options.config.cache_bytes_max)
        blocks = blocks_at(self._options.blocks, cache) if self._options.blocks else None
        if url == "none":
            from retrieval_draft.store.memory_backend import MemoryBackend
            from retrieval_draft.store.memory_store import MemoryStore

            log.warning("--redis none: what is learned and warmed ends with this process")
            return MemoryBackend(MemoryStore(blocks, rules))
        from retrieval_draft.store.redis_backend import RedisBackend

        if url:
            most = self._options.config.blocks_redis_bytes_max
            return RedisBackend(url, blocks=blocks, cache=cache, blocks_bytes_max=most, rules=rules)
        from retrieval_draft.store.embedded import EmbeddedRedis

        server = EmbeddedRedis(folder)
        server.start()
        self._undo.append(server.stop)
        blocks = blocks or FolderBlocks(folder.path / "blocks")
        return RedisBackend(server.url, name="embedded", blocks=blocks, rules=rules)

    def _reload_tenants(self) -> bool:
        if (path := self._options.tenants) is None:
            return True
        try:
            tenants = read_tenants(path)
        except DraftError as error:
            log.error("kept the tenants of before: %s", error)
            return False
        self.access.tenants = tenants
        log.info("read %s: %d tenants", path, len(tenants.by_name))
        return True

    def _reload_tls(self) -> bool:
        if self._tls is None:
            return True
        try:
            self._tls.reload()
            if self._web is not None:
                self._web.reload()
        except DraftError as error:
            log.error("kept the certificate of before: %s", error)
            return False
        log.info("read the certificate for new connections")
        return True

    def _tracing(self) -> "Tracing | None":
        if not self._options.traces:
            return None
        try:
            from retrieval_draft.server.tracing import Tracing
        except ImportError as error:
            raise FailedPrecondition(
                f"--otel needs OpenTelemetry: pip install 'retrieval-draft[otel]' ({error})"
            ) from error
        tracing = Tracing(self.engine.replica)
        self._undo.append(tracing.stop)
        return tracing

    def _serve_web(self, address: listen.Address) -> None:
        from retrieval_draft.server.http import HttpServer
        from retrieval_draft.web.app import Dashboard, Sources
        from retrieval_draft.web.history import History
        from retrieval_draft.web.metrics import text

        host, _, port = address.target.rpartition(":")
        host = host.strip("[]")
        recent = None
        if self._options.show_tokens:
            from retrieval_draft.tokenizer import load_tokenizer
            from retrieval_draft.web.recent import Recent

            recent = Recent(load_tokenizer(self._options.show_tokens))
            self.engine.on_committed = recent.committed
            self.engine.stores.on_gone = recent.forget
        history = History(self.engine)
        history.start()
        self._undo.append(history.stop)
        tls = self._options.tls
        sources = Sources(self.engine, self.access, history, text, recent)
        page = Dashboard(sources, host, over_tls=tls is not None)
        web = HttpServer(page.app(), host, int(port), tls, page.stop)
        web.start()
        self._web = web
        self._undo.append(lambda: web.stop(DRAIN_SECONDS))

    def _serve(self, addresses: list[listen.Address]) -> None:
        tracing = self._tracing()
        server = grpc.server(
            ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="rpc"),
            interceptors=[] if tracing is None else [tracing],
            options=(
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
                ("grpc.so_reuseport", 0),
                # Clients ask whether we are there every 30 s; by default that is taken for abuse.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ),
        )
        tenants = self._options.tenants is not None
        most = self._options.config.tenant_calls_max if tenants else 0
        self.edge = edge = Edge(self.access, most)
        server.add_generic_rpc_handlers(
            (
                draft_service.DraftService(self.engine, self._options.pad_drafts, tracing).handler(
                    edge
                ),
                store_service.StoreService(self.engine).handler(edge),
            )
        )
        status = add_open_services(server, SERVICES)
        bound: list[listen.Address] = []

        def drain() -> None:
            status.enter_graceful_shutdown()
            server.stop(DRAIN_SECONDS).wait()
            for address in bound:
                if address.path is not None:
                    address.path.unlink(missing_ok=True)

        self._undo.append(drain)
        for address in addresses:
            credentials = None if self._tls is None else self._tls.credentials()
            self.targets.append(listen.bind(server, address.target, credentials))
            bound.append(address)
        server.start()
        if self._web is not None:
            self.targets.append(self._web.address)
        for name in ("", *SERVICES):
            status.set(name, health_pb2.HealthCheckResponse.SERVING)


def serve(options: ServeOptions, ready: Callable[[list[str]], None]) -> bool:
    """Serve until SIGTERM or SIGINT; `ready` hears the targets. Whether all that was learned is stored.

    SIGHUP reads the tenants and certificates afresh; where there are none it ends like SIGTERM, as when a
    terminal is closed.
    """
    has_files = options.tenants is not None or options.tls is not None
    # Its `put` may interrupt itself, as a signal's handler does.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.put(number))
    sidecar = Sidecar(options)
    sidecar.start()
    ready(sidecar.targets)
    while signals.get() == signal.SIGHUP and has_files:
        sidecar.reload()
    log.info("stopping: draining calls and flushing the journal")
    return sidecar.stop()
