"""The engines that draft here, each with its open sequences, within the bounds of memory and time."""

import threading
import time
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
    """

    def __init__(self, config: Config, closing: Callable[[Sequence], None]) -> None:
        self.config = config
        self._closing = closing
        self._clients: dict[tuple[str, str], ClientState] = {}
        self._lock = threading.Lock()
        self._swept = 0.0
        self._bytes_open = 0

    def account(self, nbytes: int) -> None:
        """Open sequences grew by so many bytes, or shrank."""
        with self._lock:
            self._bytes_open += nbytes

    def close(self, client: ClientState, name: str) -> Sequence | None:
        """Take the sequence out, if it is there. The caller holds the client's lock."""
        sequence = client.sequences.pop(name, None)
        if sequence is not None:
            self.account(-sequence.nbytes)
            self._closing(sequence)
        return sequence

    def get(self, tenant: str, client_id: str) -> ClientState:
        """The client's state, made if it is new. InvalidInput for a bad id, ResourceExhausted if full."""
        if not 1 <= len(client_id) <= self.config.id_characters_max:
            limit = f"1 to {self.config.id_characters_max} characters"
            raise InvalidInput("client_id", client_id, limit)
        now = time.monotonic()
        if len(self._clients) >= self.config.clients_max:
            # Nobody else may come to sweep: those that could are refused here.
            self._drop_idle(now)
        with self._lock:
            state = self._clients.get((tenant, client_id))
            if state is None:
                if len(self._clients) >= self.config.clients_max:
                    raise ResourceExhausted(f"clients: the limit is {self.config.clients_max}")
                state = self._clients[tenant, client_id] = ClientState()
            state.touched = now
        return state

    def sweep(self, now: float) -> None:
        """Close what idled too long, every SWEEP_SECONDS, and above the bound of bytes what idled longest."""
        if now - self._swept < SWEEP_SECONDS and not self._over():
            return
        self._swept = now
        self._drop_idle(now)
        if self._over():
            self._close_oldest()

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
                    self._clients.pop(key, None)
            finally:
                client.lock.release()

    def _close_oldest(self) -> None:
        for client, name, _ in sorted(self._all(), key=lambda entry: entry[2].touched):
            if not self._over():
                return
            if client.lock.acquire(blocking=False):
                try:
                    self._evict(client, name)
                finally:
                    client.lock.release()

    def _evict(self, client: ClientState, name: str) -> None:
        if (sequence := self.close(client, name)) is not None:
            sequence.state.counters.evicted_sequences += 1
