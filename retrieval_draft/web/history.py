"""The last hour, kept by this sidecar so that a page that was opened just now shows it."""

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable

import msgspec

from retrieval_draft.engine import Engine
from retrieval_draft.rates import rates_of, ratio, since
from retrieval_draft.stats import stats_of
from retrieval_draft.v1 import store_pb2 as pb
from retrieval_draft.web.shown import known, step_p99_us
from retrieval_draft.web.total import total

log = logging.getLogger(__name__)

POINT_SECONDS = 5.0
HOUR_POINTS = 720
WINDOW_POINTS = 6
"""A point says what so many intervals brought, its own the last: one alone may have a few steps only."""
SERIES_MAX = 64
"""Namespaces with a history: of the tenant that has most of them the least recently active one gives way."""

Key = tuple[str, str]
"""Tenant and namespace; "" for all of the tenant's together."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """What was counted up to `unix_seconds`, in the last WINDOW_POINTS intervals where anything was."""

    unix_seconds: float
    steps: int
    mat: float | None
    acceptance_rate: float | None
    p99_us: float | None
    lag_records: int
    evicted: int
    tiers: dict[str, float]
    sources: dict[str, float]


class History:
    """Takes a point every POINT_SECONDS of every namespace where something happened."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._points: OrderedDict[Key, deque[Point]] = OrderedDict()
        self._before: dict[Key, deque[pb.NamespaceStats]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Begin to take points in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def points(self, tenant: str, namespace: str, after: float = 0.0) -> list[Point]:
        """Of at most an hour, oldest first, those newer than `after` (unix seconds)."""
        since_hour = max(after, time.time() - HOUR_POINTS * POINT_SECONDS)
        with self._lock:
            kept = self._points.get((tenant, namespace), ())
            return [point for point in kept if point.unix_seconds > since_hour]

    def take(self) -> None:
        """One point of each, now."""
        tenants = {state.key.tenant for state in self._engine.stores.all()}
        latest: dict[Key, pb.NamespaceStats] = {}
        for tenant in tenants:
            stats = stats_of(self._engine, tenant)
            for one in stats.namespaces:
                latest[tenant, one.namespace] = one
            latest[tenant, ""] = total(stats.namespaces)
        now = time.time()
        with self._lock:
            # What is gone leaves nothing behind.
            for gone in self._before.keys() - latest.keys():
                del self._before[gone]
                self._points.pop(gone, None)
            for key, one in latest.items():
                self._take(key, one, now)
            while len(self._points) > SERIES_MAX:
                series = Counter(tenant for tenant, _ in self._points)
                largest, _ = series.most_common(1)[0]
                del self._points[next(key for key in self._points if key[0] == largest)]

    def _take(self, key: Key, one: pb.NamespaceStats, now: float) -> None:
        before = self._before.get(key)
        if before is None or one.steps < before[-1].steps:  # new, or deleted and created anew
            before = deque([pb.NamespaceStats()], maxlen=WINDOW_POINTS)
        if one.steps == before[-1].steps and one.lag_records == before[-1].lag_records:
            return
        self._before[key] = before
        points = self._points.setdefault(key, deque(maxlen=HOUR_POINTS))
        points.append(point_of(since(before[0], one), now))
        self._points.move_to_end(key)
        before.append(one)

    def _run(self) -> None:
        while not self._ended.wait(POINT_SECONDS):
            try:
                self.take()
            except Exception:  # a bug of ours must not end the thread
                log.exception("no point of the history was taken")


def point_of(counted: pb.NamespaceStats, now: float) -> Point:
    """The figures of an interval, from what was counted in it."""
    rates = rates_of(counted)
    return Point(
        round(now, 1),
        counted.steps,
        known(rates.mat),
        known(rates.acceptance_rate),
        step_p99_us(counted),
        counted.lag_records,
        counted.evicted_sequences,
        _hit_rates(counted.tiers),
        _hit_rates(counted.sources),
    )


def _hit_rates(rows: Iterable[pb.Hits]) -> dict[str, float]:
    return {row.name: round(ratio(row.hits, row.steps), 4) for row in rows if row.steps}
