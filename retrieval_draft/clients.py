"""The engines that draft here, each with its open sequences, within the bounds of memory and time."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from retrieval_draft.config import Config
from retrieval_draft.errors import InvalidInput, ResourceExhausted
from retrieval_draft.sequence import Sequence
from retrieval_draft.step import StepResponse

SWEEP_SECONDS = 5.0


@dataclass(slots=True)
class ClientState:
    """One engine process: its sequences, and its newest answer for a retry. Guarded by `lock`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    last_step: int = 0
    last_response: StepResponse | None = None
    sequences: dict[str, Sequence] = field(default_factory=dict)
    unsettled: list[Sequence] = field(default_factory=list)
    """Took tokens that nobody looked at for the journal yet."""
    touched: float = 0.0


class Clients:
    """Sequences are closed when they are finished, idle too long, or when memory runs out.

    A closed one costs its engine a RESYNC, never a token: `closing` hears of each before it is gone.
    Memory is taken back from the tenant that holds most, until all fit: whoever holds no more than an
    equal share loses nothing to others.
    """

    def __init__(self, config: Config, closing: Callable[[Sequence], None]) -> None:
        self.config = config
        self._closing = closing
        self._clients: dict[tuple[str, str], ClientState] = {}
        self._lock = threading.Lock()
        self._swept = 0.0
        self._bytes_open = 0
        self._bytes_of: Counter[str] = Counter()
        self._count_of: Counter[str] = Counter()

    def account(self, tenant: str, nbytes: int) -> None:
        """Open sequences of the tenant grew by so many bytes, or shrank."""
        with self._lock:
            self._bytes_open += nbytes
            self._bytes_of[tenant] += nbytes
            if not self._bytes_of[tenant]:
                del self._bytes_of[tenant]

    def close(self, client: ClientState, name: str) -> Sequence | None:
        """Take the sequence out, if it is there. The caller holds the client's lock."""
        sequence = client.sequences.pop(name, None)
        if sequence is not None:
            self.account(sequence.state.key.tenant, -sequence.ring.nbytes)
            self._closing(sequence)
        return sequence

    def get(self, tenant: str, client_id: str) -> ClientState:
        """The client's state, made if it is new. InvalidInput for a bad id, ResourceExhausted if full."""
        if not 1 <= len(client_id) <= self.config.id_characters_max:
            limit = f"1 to {self.config.id_characters_max} characters"
            raise InvalidInput("client_id", client_id, limit)
        now = time.monotonic()
        if (tenant, client_id) not in self._clients and self._full(tenant):
            # Nobody else may come to sweep: those that could are refused here.
            self._drop_idle(now)
        with self._lock:
            state = self._clients.get((tenant, client_id))
            if state is None:
                if limit := self._full(tenant):
                    raise ResourceExhausted(limit)
                state = self._clients[tenant, client_id] = ClientState()
                self._count_of[tenant] += 1
            state.touched = now
        return state

    def _full(self, tenant: str) -> str:
        """The limit that one more client would pass, or nothing."""
        if len(self._clients) >= (most := self.config.clients_max):
            return f"clients: the limit is {most}"
        if self._count_of[tenant] >= (most := self.config.tenant_clients_max):
            return f"clients: the limit of a tenant is {most}"
        return ""

    def sweep(self, now: float) -> None:
        """Close what idled too long, every SWEEP_SECONDS, and enough to be within the bound of bytes."""
        if now - self._swept < SWEEP_SECONDS and not self._over():
            return
        self._swept = now
        self._drop_idle(now)
        if self._over():
            self._close_some()

    def _over(self) -> bool:
        return self._bytes_open > self.config.context_bytes_max

    def count(self) -> int:
        return len(self._all())

    def all(self) -> list[ClientState]:
        return list(self._clients.values())

    def open_sequences(self) -> list[Sequence]:
        return [sequence for _, _, sequence in self._all()]

    def _all(self) -> list[tuple[ClientState, str, Sequence]]:
        return [
            (client, name, sequence)
            for client in self.all()
            for name, sequence in list(client.sequences.items())
        ]

    def _drop_idle(self, now: float) -> None:
        for key, client in list(self._clients.items()):
            # A client in the middle of a step keeps its sequences: never wait for a lock here.
            if not client.lock.acquire(blocking=False):
                continue
            try:
                for name, sequence in list(client.sequences.items()):
                    if now - sequence.touched > self.config.idle_seconds_max:
                        self._evict(client, name)
                if now - client.touched > self.config.idle_seconds_max and not client.sequences:
                    self._forget(key)
            finally:
                client.lock.release()

    def _forget(self, key: tuple[str, str]) -> None:
        with self._lock:
            if self._clients.pop(key, None) is not None:
                self._count_of[key[0]] -= 1
                if not self._count_of[key[0]]:
                    del self._count_of[key[0]]

    def _close_some(self) -> None:
        """Again and again the longest idle one of whoever holds most, while all are too many."""
        waiting: dict[str, list[tuple[ClientState, str, Sequence]]] = {}
        for entry in sorted(self._all(), key=lambda entry: -entry[2].touched):
            waiting.setdefault(entry[2].state.key.tenant, []).append(entry)
        while self._over() and (largest := self._largest()) is not None:
            if not (its := waiting.get(largest)):
                # What is left of it is in the middle of steps; others do not pay for that.
                return
            client, name, _ = its.pop()
            if client.lock.acquire(blocking=False):
                try:
                    self._evict(client, name)
                finally:
                    client.lock.release()

    def _largest(self) -> str | None:
        with self._lock:
            return max(self._bytes_of, key=lambda tenant: self._bytes_of[tenant], default=None)

    def _evict(self, client: ClientState, name: str) -> None:
        if (sequence := self.close(client, name)) is not None:
            sequence.state.counters.evicted_sequences += 1
