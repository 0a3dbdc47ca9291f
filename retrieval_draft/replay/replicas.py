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
        drafters = [
            stack.enter_context(
                EngineDrafter(file, setting, ReplayBackend(is_recording=True), f"replica-{i}")
            )
            for i in range(replicas)
        ]
        waiting: deque[tuple[int, Batches]] = deque()
        for i, sequence in enumerate(file.sequences):
            own = i % replicas
            play_one(drafters[own], sequence, trace, 0)
            waiting.append((own, drafters[own].backend.sent))
            drafters[own].backend.sent = []
            while delay is not None and len(waiting) > delay:
                _deliver(drafters, *waiting.popleft())
            advance()
    return sum(trace.gained) / len(trace.gained)


def _deliver(drafters: list[EngineDrafter], sender: int, batches: Batches) -> None:
    for i, drafter in enumerate(drafters):
        if i != sender:
            for key, batch in batches:
                drafter.backend.take(key, batch)
