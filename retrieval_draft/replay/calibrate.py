"""Learning a prior: what `mix` has learned about its sources when recordings were replayed.

Its state counts evidence by kind, never tokens, so it carries over to other models and vocabularies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.figures import Figures, figures_of
from retrieval_draft.replay.play import Trace, play_one
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.step import DraftOptions, TreeShape

METHOD = "mix"


@runtime_checkable
class Learned(Protocol):
    """A method that can hand out what it has learned."""

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Arrays by name."""
        ...


@dataclass(frozen=True, slots=True)
class Prior:
    """What was learned, by name, and the figures of the replay that it was learned in."""

    arrays: dict[str, npt.NDArray[np.generic]]
    figures: Figures

    def write(self, path: Path) -> None:
        """One compressed .npz of the arrays."""
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)


def calibrate(
    files: Sequence[RecordedFile],
    nodes: Sequence[int],
    shape: TreeShape,
    advance: Callable[[], None] = lambda: None,
) -> Prior:
    """Replay the files in one namespace, the budgets in turn from sequence to sequence.

    Every file starts where the one before ended: what is learned about the sources is to hold for cold
    and warm stores alike. `advance` is called after each sequence.
    """
    vocab_size = max(file.vocab_size for file in files)
    sequences = [sequence for file in files for sequence in file.sequences]
    together = RecordedFile("calibration", vocab_size, sequences, files[0].end_tokens)
    trace = Trace()
    options = DraftOptions(method=METHOD, shape=shape)
    with EngineDrafter(together, Setting(options)) as drafter:
        method = drafter.state.methods[METHOD]
        if not isinstance(method, Learned):
            raise FailedPrecondition(f"{METHOD} keeps nothing that could be a prior")
        for i, sequence in enumerate(sequences):
            drafter.options = replace(options, nodes_max=nodes[i % len(nodes)])
            play_one(drafter, sequence, trace, 0)
            advance()
        return Prior(method.state(), figures_of(trace))
