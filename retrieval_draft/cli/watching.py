"""Figures of several sidecars, each read by a thread of its own that comes back after a restart."""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retrieval_draft.errors import DraftError

if TYPE_CHECKING:
    from retrieval_draft.client import GrpcClient
    from retrieval_draft.v1 import store_pb2 as pb

WINDOW_SECONDS = 10.0
"""What is shown happened within so long."""
RETRY_SECONDS = 1.0


@dataclass
class Watched:
    """One sidecar: its readings of the last WINDOW_SECONDS, or what is wrong."""

    target: str
    readings: "deque[pb.Stats]" = field(default_factory=deque)
    problem: str = "connecting"

    def took(self, reading: "pb.Stats") -> None:
        """The newest reading; of before a restart none is kept."""
        kept = self.readings
        if kept and kept[-1].replica_id != reading.replica_id:
            kept.clear()
        kept.append(reading)
        while len(kept) > 2 and kept[1].unix_seconds < reading.unix_seconds - WINDOW_SECONDS:
            kept.popleft()
        self.problem = ""

    def lost(self, problem: str) -> None:
        """It does not answer; what it said last is no longer true."""
        self.readings.clear()
        self.problem = problem


class Watcher:
    """Reads until it is stopped. `changed` is set whenever there is news."""

    def __init__(self, client: "GrpcClient", namespace: str, interval_ms: int) -> None:
        self.watched = Watched(client.target)
        self.changed = threading.Event()
        self._client = client
        self._namespace = namespace
        self._interval_ms = interval_ms
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self, changed: threading.Event) -> None:
        self.changed = changed
        self._thread.start()

    def stop(self) -> None:
        """Returns when its thread has ended."""
        self._ended.set()
        self._client.close()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                readings = self._client.watch_stats(self._namespace, interval_ms=self._interval_ms)
                for reading in readings:
                    self.watched.took(reading)
                    self.changed.set()
                self.watched.lost("it ended the stream")
            except DraftError as error:
                self.watched.lost(str(error))
            except ValueError:  # the channel was closed under it
                if not self._ended.is_set():
                    raise
            self.changed.set()
            self._ended.wait(RETRY_SECONDS)
