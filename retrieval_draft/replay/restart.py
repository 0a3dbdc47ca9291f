"""What the journal is worth to a replica that starts again.

The first half of a file is decoded by one replica; the second half then by a replica that knows nothing,
by one that was restarted (it has the first half's journal, and nothing else), and by the first, which
never stopped and so also keeps what its mixer knows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from retrieval_draft.replay.backend import ReplayBackend
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.play import play
from retrieval_draft.replay.sequences import RecordedFile


@dataclass(frozen=True, slots=True)
class Restart:
    """MAT over the second half of the file's sequences."""

    file: str
    sequences: int
    cold_mat: float
    restarted_mat: float
    kept_mat: float


def restart(
    file: RecordedFile, setting: Setting, advance: Callable[[], None] = lambda: None
) -> Restart:
    """Replay a file of at least two sequences; `advance` is called after each of 2 x sequences."""
    middle = len(file.sequences) // 2
    first, second = file.sequences[:middle], file.sequences[middle:]
    backend = ReplayBackend(is_recording=True)
    with EngineDrafter(file, setting, backend) as drafter:
        play(drafter, first, advance)
        journal, backend.sent = backend.sent, []
        kept = play(drafter, second, advance)
    backend = ReplayBackend()
    with EngineDrafter(file, setting, backend) as drafter:
        for key, batch in journal:
            backend.take(key, batch)
        restarted = play(drafter, second, advance)
    with EngineDrafter(file, setting) as drafter:
        cold = play(drafter, second, advance)
    return Restart(file.name, len(second), cold.mat, restarted.mat, kept.mat)
