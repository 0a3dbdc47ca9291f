"""WatchStats: figures again and again, to a bounded number of watchers."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput, ResourceExhausted
from retrieval_draft.server.edge import Context
from retrieval_draft.stats import fleet_stats_of, stats_of
from retrieval_draft.v1 import store_pb2 as pb

INTERVAL_MS_DEFAULT = 1000
INTERVAL_MS_MIN, INTERVAL_MS_MAX = 100, 3_600_000
FLEET_INTERVAL_MS_MIN = 2000
"""Replicas report no more often, and every reading is a call of the store."""


class Watchers:
    """Those who look at figures at once: so many in all, and of one tenant. Thread-safe."""

    def __init__(self, config: Config) -> None:
        self._most, self._tenant_most = config.watchers_max, config.tenant_watchers_max
        self._of: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """One of them, for as long as this is entered. Raises ResourceExhausted if there is none."""
        with self._lock:
            if self._of[tenant] >= self._tenant_most:
                text = f"watchers of figures: the limit of a tenant is {self._tenant_most}"
                raise ResourceExhausted(text)
            if self._of.total() >= self._most:
                raise ResourceExhausted(f"watchers of figures: the limit is {self._most}")
            self._of[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._of[tenant] -= 1
                if not self._of[tenant]:
                    del self._of[tenant]


class StatsWatch:
    """One server's watchers, each of which holds one of its threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._watchers = Watchers(engine.config)

    def stats(
        self, message: pb.WatchStatsRequest, tenant: str, context: Context
    ) -> Iterator[pb.Stats]:
        """Until the caller ends it, the namespace is gone, or the store of a fleet's figures is."""
        interval_ms = message.interval_ms or INTERVAL_MS_DEFAULT
        if not INTERVAL_MS_MIN <= interval_ms <= INTERVAL_MS_MAX:
            limit = f"0, or {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}"
            raise InvalidInput("interval_ms", interval_ms, limit)
        if message.fleet:
            interval_ms = max(interval_ms, FLEET_INTERVAL_MS_MIN)
        ended = threading.Event()
        with self._watchers.place(tenant):
            if not context.add_callback(ended.set):
                return
            while True:
                if message.fleet:
                    yield fleet_stats_of(self._engine, tenant, message.namespace)
                else:
                    yield stats_of(self._engine, tenant, message.namespace)
                if ended.wait(interval_ms / 1000):
                    return
