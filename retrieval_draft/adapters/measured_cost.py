"""What an engine's steps cost, learned from how long they take, so that nobody has to measure it.

A step costs what its batch costs, and more for what is drafted: on a CPU every row is computed, on a GPU
rows are nearly free up to where memory is no longer what is waited for. So the price of a row is learned
for every octave of rows, and the usual step for every number of sequences.
"""

import math
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import int32s

OCTAVES = 12
"""Of rows; beyond the last one its price goes on."""
STEPS_MIN = 8
"""Before that there is no table."""
FIRST_STEPS = 3
"""Their median is the first that is known of a batch: the very first is often unlike the others."""
LEVEL_WEIGHT = 1 / 16
"""Of the newest step in what is usual: a changed load is followed within some dozen steps."""
FORGOTTEN_MAX = 1 / 128
"""Of what is known of prices, by one step; and never more than that step tells of them."""
ERRORS_MAX = 3.0
"""A step that is off by more than so many usual errors counts as one that is off by so many."""
CHANGE_MAX = 0.5
"""Of a usual step: an error counts for no more, so that what is usual cannot leap away."""
POOLED_STEPS = 4
"""An octave goes by the price over all octaves until it has seen about so many steps itself."""
DOUBT_MAX = 0.25
"""Of a usual step: where a step without drafts is known no better than this, there is no table."""
TABLE_STEPS_MAX = 16
"""A table serves for so many more steps, at first for fewer: who gets a new one has to look at it."""


@dataclass(slots=True)
class _Usual:
    """The usual step of so many sequences."""

    rows: float = 0.0
    milliseconds: float = 0.0
    first: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    table: VerifyCost | None = None
    table_until: int = 0


@dataclass(slots=True)
class _Price:
    """Of one row more: least squares over how steps differed from the usual one."""

    square: float = 0.0
    product: float = 0.0

    def learn(self, rows: float, milliseconds: float) -> None:
        # Steps that are all alike tell nothing of the price, and so they make nothing forgotten.
        told = rows * rows
        if told:
            kept = 1 - min(told / self.square, FORGOTTEN_MAX) if self.square else 0.0
            self.square = kept * self.square + told
            self.product = kept * self.product + rows * milliseconds

    def of_row(self, prior: float = 0.0, weight: float = 0.0) -> float:
        square = self.square + weight
        return max(0.0, (self.product + weight * prior) / square) if square else prior


class MeasuredCost:
    """One engine's. Not thread-safe; a few µs a step and a few KB, whatever comes."""

    def __init__(self) -> None:
        self._usual: dict[int, _Usual] = {}
        self._prices = [_Price() for _ in range(OCTAVES)]
        self._pooled = _Price()
        self._error = 0.0
        self._steps = 0

    def observe(self, sequences: int, nodes: int, milliseconds: float) -> None:
        """A step of so many sequences that verified so many nodes took so long."""
        if sequences < 1 or not 0 < milliseconds < math.inf:
            return
        usual = self._usual.setdefault(_class_of(sequences), _Usual())
        rows = sequences + nodes
        if len(usual.first) < FIRST_STEPS:
            usual.first.append((rows, milliseconds))
            usual.rows = float(median(count for count, _ in usual.first))
            usual.milliseconds = median(ms for _, ms in usual.first)
            return
        more_rows, more = rows - usual.rows, milliseconds - usual.milliseconds
        parts = self._parts(usual.rows, rows)
        expected = sum(part * price for _, part, price in parts)
        error = more - expected
        # What held a step up once, another process or a pause, is not what its rows cost.
        most = CHANGE_MAX * usual.milliseconds
        if self._steps >= STEPS_MIN:
            most = min(most, ERRORS_MAX * self._error)
        weight = max(LEVEL_WEIGHT, 1 / (1 + self._steps))
        self._error += weight * (min(abs(error), CHANGE_MAX * usual.milliseconds) - self._error)
        self._steps += 1
        error = max(-most, min(most, error))
        self._pooled.learn(more_rows, expected + error)
        for octave, part, price in parts:
            # What the others do not explain.
            self._prices[octave].learn(part, part * price + error)
        usual.rows += LEVEL_WEIGHT * more_rows
        usual.milliseconds = max(1e-3, usual.milliseconds + LEVEL_WEIGHT * (expected + error))

    def at(self, sequences: int) -> VerifyCost | None:
        """Of steps of so many sequences by the nodes of all of them; None as long as it is not known.

        The same object for some steps. Finite, above 0, and rising from 0 nodes on.
        """
        usual = self._usual.get(_class_of(sequences))
        if usual is None or len(usual.first) < FIRST_STEPS or not self._is_known(usual, sequences):
            return None
        if usual.table is None or self._steps >= usual.table_until:
            usual.table = self._table(usual, sequences)
            usual.table_until = self._steps + min(TABLE_STEPS_MAX, self._steps // STEPS_MIN)
        return usual.table

    def _is_known(self, usual: _Usual, sequences: int) -> bool:
        """Whether a step without drafts is known, from which the usual one is so many rows away."""
        if self._steps < STEPS_MIN:
            return False
        away = abs(usual.rows - sequences)
        if away < 1:
            return True
        doubted = self._error * away
        return doubted < DOUBT_MAX * usual.milliseconds * math.sqrt(self._pooled.square)

    def _parts(self, rows: float, other: float) -> list[tuple[int, float, float]]:
        """From so many rows to so many others: each octave, its rows of them, and its price."""
        low, high = min(rows, other), max(rows, other)
        sign = 1 if other >= rows else -1
        found: list[tuple[int, float, float]] = []
        while low < high:
            octave = _octave(low)
            end = high if octave == OCTAVES - 1 else min(high, 2 << octave)
            found.append((octave, sign * (end - low), self._price(octave)))
            low = end
        return found

    def _price(self, octave: int) -> float:
        weight = POOLED_STEPS * FORGOTTEN_MAX * self._pooled.square
        return self._prices[octave].of_row(self._pooled.of_row(), weight)

    def _table(self, usual: _Usual, sequences: int) -> VerifyCost:
        low, cost = sequences, 0.0
        nodes, costs = [0], [0.0]
        drafted = 0.0
        for octave in range(_octave(sequences), OCTAVES):
            price, high = self._price(octave), 2 << octave
            drafted += price * min(max(usual.rows - low, 0.0), high - low)
            cost += price * (high - low)
            nodes.append(high - sequences)
            costs.append(cost)
            low = high
        # A row that is drafted costs no more than one that is not: at most its share of the usual step.
        most = usual.milliseconds * (1 - sequences / max(usual.rows, sequences))
        scale = most / drafted if drafted > most else 1.0
        plain = usual.milliseconds - scale * drafted
        return VerifyCost(
            int32s(nodes), np.array([plain + scale * one for one in costs], np.float32)
        )


def _octave(rows: float) -> int:
    return min(OCTAVES, max(1, int(rows).bit_length())) - 1


def _class_of(sequences: int) -> int:
    """Up to 16 each number is one; above, those within an eighth of an octave."""
    shift = max(0, sequences.bit_length() - 4)
    return sequences >> shift << shift
