"""What sharing the learned tier is worth: replicas that split one file's sequences between them.

Sequence i goes to replica i modulo their number. A replica learns its own records at once; those of the
others reach it when `delay` more sequences have ended (shared), or never (private).
"""

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from retrieval_draft.replay.backend import ReplayBackend
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.play import Trace, play_one
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import Batch

Batches = list[tuple[NamespaceKey, Batch]]


@dataclass(frozen=True, slots=True)
class Sharing:
    """MAT over all replicas with their learned tiers shared, and with each its own."""

    file: str
    method: str
    nodes_max: int
    replicas: int
    delay: int
    shared_mat: float
    private_mat: float


def counts(replicas: int) -> list[int]:
    """1, 2, 4, ... up to and including `replicas`: the points of the curve."""
    powers = [1 << i for i in range(replicas.bit_length()) if 1 << i < replicas]
    return [*powers, replicas]


def sharing(
    file: RecordedFile,
    setting: Setting,
    replicas: int,
    delay: int,
    advance: Callable[[], None] = lambda: None,
) -> Sharing:
    """Replay the file twice over so many engines; `advance` is called after each sequence."""
    shared = _mat(file, setting, replicas, delay, advance)
    private = shared if replicas == 1 else _mat(file, setting, replicas, None, advance)
    options = setting.options
    return Sharing(file.name, options.method, options.nodes_max, replicas, delay, shared, private)


def _mat(
    file: RecordedFile,
    setting: Setting,
    replicas: int,
    delay: int | None,
    advance: Callable[[], None],
) -> float:
    trace = Trace()
    with ExitStack() as stack:
        backends = [ReplayBackend(is_recording=True) for _ in range(replicas)]
        drafters = [
            stack.enter_context(EngineDrafter(file, setting, backend, f"replica-{i}"))
            for i, backend in enumerate(backends)
        ]
        waiting: deque[tuple[int, Batches]] = deque()
        for i, sequence in enumerate(file.sequences):
            own = i % replicas
            play_one(drafters[own], sequence, trace, 0)
            waiting.append((own, backends[own].sent))
            backends[own].sent = []
            while delay is not None and len(waiting) > delay:
                _deliver(backends, *waiting.popleft())
            advance()
    return trace.mat


def _deliver(backends: list[ReplayBackend], sender: int, batches: Batches) -> None:
    for i, backend in enumerate(backends):
        if i != sender:
            for key, batch in batches:
                backend.take(key, batch)
