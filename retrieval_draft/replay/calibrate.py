"""Learning a prior: what `mix` has learned about its sources when recordings were replayed.

Its state counts evidence by kind, never tokens, so it carries over to other models and vocabularies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from retrieval_draft.drafting.mix import as_prior
from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.figures import Figures, figures_of
from retrieval_draft.replay.play import Trace, play_one
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.tree import Float32Array

METHOD = "mix"


@runtime_checkable
class Learned(Protocol):
    """A method that can hand out what it has learned."""

    def state(self) -> dict[str, Float32Array]:
        """Arrays by name."""
        ...


@dataclass(frozen=True, slots=True)
class Prior:
    """What was learned, by name, and the figures of the replay that it was learned in."""

    arrays: dict[str, Float32Array]
    figures: Figures

    def write(self, path: Path) -> None:
        """One compressed .npz of the arrays."""
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)


def calibrate(
    files: Sequence[RecordedFile],
    nodes: Sequence[int],
    shapes: Sequence[TreeShape],
    advance: Callable[[], None] = lambda: None,
) -> Prior:
    """Replay the files in one namespace, shapes and budgets in turn from sequence to sequence.

    Every file starts where the one before ended: what is learned about the sources is to hold for cold
    and warm stores alike. `advance` is called after each sequence.
    """
    vocab_size = max(file.vocab_size for file in files)
    sequences = [sequence for file in files for sequence in file.sequences]
    together = RecordedFile("calibration", vocab_size, sequences, files[0].end_tokens)
    trace = Trace()
    turns = list(product(shapes, nodes))
    options = DraftOptions(method=METHOD)
    with EngineDrafter(together, Setting(options)) as drafter:
        method = drafter.state.methods[METHOD]
        if not isinstance(method, Learned):
            raise FailedPrecondition(f"{METHOD} keeps nothing that could be a prior")
        for i, sequence in enumerate(sequences):
            shape, budget = turns[i % len(turns)]
            drafter.options = replace(options, nodes_max=budget, shape=shape)
            play_one(drafter, sequence, trace, 0)
            advance()
        return Prior(as_prior(method.state()), figures_of(trace))
