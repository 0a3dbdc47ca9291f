"""The thread that adds this replica's counts to the fleet's: drafting only ever counts in memory."""

import logging
import random
import threading
import time

from retrieval_draft.errors import DraftError
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.stores import Stores

REPORT_SECONDS = 2.0
HEARTBEAT_SECONDS = 30.0
"""A namespace where nothing happens is heard of so often."""

log = logging.getLogger(__name__)


class _Reported:
    """How far a namespace's counters have been handed to the backend."""

    def __init__(self, state: NamespaceState) -> None:
        self.state = state
        self.counts: dict[str, int] = {}
        self.activity = 0
        self.at = -HEARTBEAT_SECONDS  # monotonic


class Reporter:
    """Hands what has changed to `Backend.add_counts`, until it is stopped."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._reported: dict[int, _Reported] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)
        self._complained = False

    def start(self) -> None:
        """Begin to report in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Report a last time and end; a store that does not answer holds this up by one time-out."""
        if self._ended.is_set() or self._thread.ident is None:
            return
        self._ended.set()
        self._thread.join()
        self._attempt()

    def report(self) -> None:
        """Add what was counted since the last report. Raises what the store raises; nothing is lost."""
        with self._lock:
            states = self._stores.all()
            known = self._reported
            self._reported = {
                id(state): known.get(id(state)) or _Reported(state) for state in states
            }
            for reported in self._reported.values():
                self._report(reported)

    def _report(self, reported: _Reported) -> None:
        now = time.monotonic()
        counters, before = reported.state.counters, reported.counts
        activity = counters.activity()
        if activity == reported.activity and now - reported.at < HEARTBEAT_SECONDS:
            return
        counts = counters.counts()
        more = {name: value - before.get(name, 0) for name, value in counts.items()}
        more = {name: value for name, value in more.items() if value > 0}
        # From here on they are the backend's: what it cannot store now goes with the next call.
        reported.counts, reported.activity = counts, activity
        reported.at = -HEARTBEAT_SECONDS
        self._stores.backend.add_counts(reported.state.key, more)
        reported.at = now

    def _run(self) -> None:
        # Spread, so that replicas that started together do not come all at once.
        while not self._ended.wait(REPORT_SECONDS * random.uniform(0.75, 1.25)):  # noqa: S311
            self._attempt()

    def _attempt(self) -> None:
        try:
            self.report()
        except DraftError as error:
            if not self._complained:
                log.warning("the fleet's counts wait: %s", error)
            self._complained = True
        except Exception:  # a bug of ours must not end the thread, nor drafting
            log.exception("this replica's counts were not reported")
        else:
            self._complained = False
