"""What a draft model's levels cost by sequences, measured on the loaded model: host time included."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_draft.drafter import Opening
from retrieval_draft.gpu.draft_models.causal import BACKLOG_MAX, CausalDrafts
from retrieval_draft.gpu.draft_models.levels import Frontier
from retrieval_draft.gpu.step_cost import BATCHES, CONTEXT_TOKENS, ROWS_MAX, step_clock
from retrieval_draft.step import Learning
from retrieval_draft.tree import Float64Array, int32s

SECONDS_MAX = 0.5
NODES_ALL = 1 << 20
"""So that no level is left out because it would change nothing."""
OPENING = Opening(
    rows=None,
    temperature=None,
    length_max=0,
    end_tokens=(),
    learning=Learning.UNSPECIFIED,
    corpora=(),
)


@dataclass(frozen=True, slots=True, eq=False)
class LevelCosts:
    """`milliseconds` [batches, levels + 1] of a tree of so many levels for so many sequences; 0 levels
    cost nothing. `token_ms` is what a committed token more costs that a sequence's model has not read.
    """

    batches: tuple[int, ...]
    milliseconds: Float64Array
    token_ms: float

    def at(self, sequences: int) -> Float64Array:
        """By levels. Straight lines between the measured batches, in proportion beyond the last. Some µs."""
        if sequences > self.batches[-1]:
            beyond: Float64Array = self.milliseconds[-1] * (sequences / self.batches[-1])
            return beyond
        columns = [np.interp(sequences, self.batches, by_batch) for by_batch in self.milliseconds.T]
        return np.array(columns)


def measure_level_costs(
    model: CausalDrafts, slots: int, *, seconds_max: float = SECONDS_MAX
) -> LevelCosts:
    """Medians over about `seconds_max`, or over one round if that takes longer, after a warm-up.

    For 1, 4, 16 and `slots` sequences as far as ROWS_MAX rows a level. Nothing may be open, and what the
    model's slots hold is written over.
    """
    rows = model.children_max
    batches = [
        b for b in sorted({*BATCHES, slots}) if b == 1 or (b <= slots and b * rows <= ROWS_MAX)
    ]
    model.scramble()
    _round(model, batches)
    end = time.perf_counter() + seconds_max
    rounds = [_round(model, batches)]
    while time.perf_counter() < end:
        rounds.append(_round(model, batches))
    levels = np.median([by_batch for by_batch, _ in rounds], axis=0)
    rising = np.maximum.accumulate(np.maximum.accumulate(levels, axis=1), axis=0)
    reading = float(np.median([ms for _, ms in rounds]))
    return LevelCosts(tuple(batches), rising, max(0.0, reading))


def _round(model: CausalDrafts, batches: Sequence[int]) -> tuple[Float64Array, float]:
    """Milliseconds by batch and levels, and of reading a token more."""
    levels = np.array([_levels(model, batch) for batch in batches])
    unread = min(BACKLOG_MAX, _length(model))
    together = _levels(model, 1, unread)
    return levels, float(together[1] - levels[0, 1]) / max(1, unread - 1)


def _levels(model: CausalDrafts, batch: int, unread: int = 1) -> Float64Array:
    """Milliseconds by levels, from one tree a sequence that grows as deep as it can."""
    clock = step_clock(model.model)
    names = [f"measured-{i}" for i in range(batch)]
    times: list[float] = []

    def grown(levels: int, frontier: dict[str, list[Frontier]]) -> bool:
        times.append(clock())
        return True

    for name in names:
        model.open(name, int32s([0] * _length(model)), **OPENING)
    try:
        model.skip_to(unread)
        times.append(clock())
        model.draft(dict.fromkeys(names, NODES_ALL), grown)
        times.append(clock())
    finally:
        for name in reversed(names):
            model.finish(name)
    while len(times) <= model.depth_max:
        # Slots too short for so many levels.
        times.append(2 * times[-1] - times[-2])
    return 1e3 * (np.array(times) - times[0])


def _length(model: CausalDrafts) -> int:
    return max(1, min(CONTEXT_TOKENS, model.length_max - model.depth_max - 1))
