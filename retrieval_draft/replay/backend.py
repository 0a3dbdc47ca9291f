"""The memory backend of a replay: records are learned where they are appended, by the one thread there is.

A server's journal comes back through a follower's thread within milliseconds; here it comes back at
once, so that the same replay gives the same figures twice. What other replicas would send is handed in.
"""

from retrieval_draft.store.backend import Listener
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.records import Batch, Record


class ReplayBackend(MemoryBackend):
    """One replica. With `is_recording` the batches that it journalled are kept in `sent` for others."""

    def __init__(self, *, is_recording: bool = False) -> None:
        super().__init__()
        self.sent: list[tuple[NamespaceKey, Batch]] = []
        self._is_recording = is_recording
        self._replica = ""
        self._number = 0
        self._listener: Listener | None = None

    def start(self, replica: str, listener: Listener) -> None:
        """See Backend."""
        self._replica, self._listener = replica, listener
        super().start(replica, listener)

    def append(self, key: NamespaceKey, record: Record) -> None:
        """Learn the record here and now."""
        self._number += 1
        batch = Batch(self._replica, self._number, [record])
        self.take(key, batch)
        if self._is_recording:
            self.sent.append((key, batch))

    def take(self, key: NamespaceKey, batch: Batch) -> None:
        """Learn a batch of this or another replica."""
        assert self._listener is not None, "the engine starts its backend first"
        self._listener.apply(key, f"{self._number}-0", batch)

    def flush(self, seconds_max: float) -> bool:
        """True: nothing is ever waiting."""
        return True
