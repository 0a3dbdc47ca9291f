"""WatchStats: figures again and again, to a bounded number of watchers."""

import threading
from collections.abc import Iterator

from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput, ResourceExhausted
from retrieval_draft.server.edge import Context
from retrieval_draft.stats import fleet_stats_of, stats_of
from retrieval_draft.v1 import store_pb2 as pb

WATCHERS_MAX = 32
"""Each holds one of the server's threads."""
INTERVAL_MS_DEFAULT = 1000
INTERVAL_MS_MIN, INTERVAL_MS_MAX = 100, 3_600_000
FLEET_INTERVAL_MS_MIN = 2000
"""Replicas report no more often, and every reading is a call of the store."""


class StatsWatch:
    """One server's watchers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free = threading.BoundedSemaphore(WATCHERS_MAX)

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
        if not self._free.acquire(blocking=False):
            raise ResourceExhausted(f"watchers of figures: the limit is {WATCHERS_MAX}")
        ended = threading.Event()
        try:
            if not context.add_callback(ended.set):
                return
            while True:
                if message.fleet:
                    yield fleet_stats_of(self._engine, tenant, message.namespace)
                else:
                    yield stats_of(self._engine, tenant, message.namespace)
                if ended.wait(interval_ms / 1000):
                    return
        finally:
            self._free.release()
