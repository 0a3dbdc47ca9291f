"""What an engine's steps cost, learned from how long they take, so that nobody has to measure it.

A step costs what its batch costs, and something more for every row that is drafted: on a CPU each is
computed, on a GPU they are free up to where memory is no longer what is waited for. Where a batch works
that is a straight line; which one is learned for every number of sequences, and how steep for all.
"""

import math
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import int32s

TABLE_NODES = 4096
"""A table goes so far; beyond, who reads it goes on in a straight line."""
STEPS_MIN = 8
"""Before that there is no table."""
FIRST_STEPS = 3
"""Their median is the first that is known of a batch: the very first is often unlike the others."""
LEVEL_WEIGHT = 1 / 16
"""Of the newest step in what is usual: a changed load is followed within some dozen steps."""
FORGOTTEN_MAX = 1 / 64
"""Of what is known of prices, by one step; and never more than that step tells of them."""
ERRORS_MAX = 3.0
"""A step that is off by more than so many errors to be expected counts as one that is off by so many."""
CHANGE_MAX = 0.5
"""Of a usual step: an error counts for no more, so that what is usual cannot leap away."""
DOUBT_MAX = 0.15
"""Of a usual step: where a step without drafts is known no better than this, there is no table."""
ALIKE_SHARE = 1 / 8
"""Steps whose drafted rows differ by less are alike, and tell next to nothing of what rows cost."""
ALIKE_STEPS_UNKNOWN, ALIKE_STEPS_KNOWN = 16, 256
"""After so many that are all alike one goes without drafts, to see what that costs."""
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

    def of_row(self) -> float:
        return max(0.0, self.product / self.square) if self.square else 0.0


class MeasuredCost:
    """One engine's. Not thread-safe; a few µs a step and a few KB, whatever comes."""

    def __init__(self) -> None:
        self._usual: dict[int, _Usual] = {}
        self._price = _Price()
        self._error = 0.0
        self._steps = 0
        self._alike = 0

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
        expected = more_rows * self._price.of_row()
        error = more - expected
        # What held a step up once, another process or a pause, is not what its rows cost.
        most = CHANGE_MAX * usual.milliseconds
        if self._steps >= STEPS_MIN:
            most = min(most, ERRORS_MAX * (self._error + self._doubt(usual, more_rows)))
        weight = max(LEVEL_WEIGHT, 1 / (1 + self._steps))
        self._error += weight * (min(abs(error), CHANGE_MAX * usual.milliseconds) - self._error)
        self._steps += 1
        is_alike = abs(more_rows) < max(1.0, ALIKE_SHARE * (usual.rows - sequences))
        self._alike = self._alike + 1 if is_alike else 0
        error = max(-most, min(most, error))
        self._price.learn(more_rows, expected + error)
        usual.rows += LEVEL_WEIGHT * more_rows
        usual.milliseconds = max(1e-3, usual.milliseconds + LEVEL_WEIGHT * (expected + error))

    def at(self, sequences: int) -> VerifyCost | None:
        """Of steps of so many sequences by the nodes of all of them; None as long as it is not known.

        The same object for some steps. Finite, above 0, and rising from 0 nodes on.
        """
        usual = self._usual.get(_class_of(sequences))
        if usual is None or not self._is_known(usual, sequences):
            return None
        if usual.table is None or self._steps >= usual.table_until:
            usual.table = self._table(usual, sequences)
            usual.table_until = self._steps + min(TABLE_STEPS_MAX, self._steps // STEPS_MIN)
        return usual.table

    def should_vary(self, sequences: int) -> bool:
        """Whether the next step had better be a plain one, because all are alike; asked once a step."""
        usual = self._usual.get(_class_of(sequences))
        if usual is None or usual.rows < sequences + 1:
            return False
        is_known = self._is_known(usual, sequences)
        if self._alike < (ALIKE_STEPS_KNOWN if is_known else ALIKE_STEPS_UNKNOWN):
            return False
        self._alike = 0
        return True

    def _is_known(self, usual: _Usual, sequences: int) -> bool:
        """Whether a step without drafts is known, from which the usual one is so many rows away."""
        if self._steps < STEPS_MIN or len(usual.first) < FIRST_STEPS:
            return False
        return self._doubt(usual, usual.rows - sequences) <= DOUBT_MAX * usual.milliseconds

    def _doubt(self, usual: _Usual, rows: float) -> float:
        """The error to be expected in the price of so many rows: of all of it while there is none."""
        square = self._price.square
        of_row = self._error / math.sqrt(square) if square else math.inf
        return abs(rows) * min(of_row, usual.milliseconds / max(1.0, usual.rows))

    def _table(self, usual: _Usual, sequences: int) -> VerifyCost:
        drafted = max(0.0, usual.rows - sequences)
        # A row that is drafted costs no more than one that is not: at most its share of the usual step.
        price = min(self._price.of_row(), usual.milliseconds / max(usual.rows, 1.0))
        plain = usual.milliseconds - price * drafted
        return VerifyCost(
            int32s([0, TABLE_NODES]), np.array([plain, plain + price * TABLE_NODES], np.float32)
        )


def _class_of(sequences: int) -> int:
    """Up to 16 each number is one; above, those within an eighth of an octave."""
    shift = max(0, sequences.bit_length() - 4)
    return sequences >> shift << shift
