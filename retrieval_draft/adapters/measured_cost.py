"""What an engine's steps cost, learned from how long they take, so that nobody has to measure it.

A step costs what its batch costs, something once if anything was drafted (stacks verify by another way
than they sample), and something more for every row that is drafted: on a CPU each is computed, on a GPU
they are free up to where memory is no longer what is waited for. Where a batch works that is a straight
line; where it begins is learned for every number of sequences, its price for all.
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
"""Of what is known of a price, by one step; and never more than that step tells of it."""
ERRORS_MAX = 3.0
"""A step that is off by more than so many errors to be expected counts as one that is off by so many."""
ERROR_MIN = 0.01
"""Of a usual step: no step is known better, however alike those were that came."""
CHANGE_MAX = 0.5
"""Of a usual step: an error counts for no more, so that what is usual cannot leap away."""
DOUBT_MAX = 0.15
"""Of a usual step: where a step without drafts is known no better than this, there is no table."""
TOLD_MIN = 0.5
"""A step tells what drafting costs at all if it differs by so much in that from the usual one."""
VARIED_UNKNOWN, VARIED_KNOWN = 8, 256
"""After so many that do not tell one goes without drafts, to see what that costs."""
FIRST_TOLD, ROW_TOLD = 1e-3, 1e-6
"""What is known of the two prices before any step: next to nothing, and of a row still less, so that what
steps cannot tell apart is put down to their rows."""
TABLE_STEPS_MAX = 16
"""A table serves for so many more steps, at first for fewer: who gets a new one has to look at it."""


@dataclass(slots=True)
class _Usual:
    """The usual step of so many sequences."""

    drafted: float = 0.0
    """Share of steps that verified anything."""
    rows: float = 0.0
    milliseconds: float = 0.0
    first: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])
    table: VerifyCost | None = None
    table_until: int = 0


class _Prices:
    """Of drafting anything, and of a row: recursive least squares over how steps differ from usual ones."""

    def __init__(self) -> None:
        self._first = self._row = 0.0
        # The squares of what was seen, forgotten slowly, each price's for itself.
        self._ff, self._fr, self._rr = FIRST_TOLD, 0.0, ROW_TOLD

    def best(self) -> tuple[float, float]:
        """Both, never below 0: what the one loses by that is the other's."""
        first, row = self._first, self._row
        if first < 0:
            first, row = 0.0, row + first * self._fr / self._rr
        elif row < 0:
            first, row = first + row * self._fr / self._ff, 0.0
        return max(0.0, first), max(0.0, row)

    def of(self, drafted: float, rows: float) -> tuple[float, float]:
        """What a step costs more that differs so, and how far that is off, in errors of a step."""
        ff, fr, rr = self._ff, self._fr, self._rr
        determinant = max(ff * rr - fr * fr, FIRST_TOLD * ROW_TOLD)
        square = (rr * drafted * drafted - 2 * fr * drafted * rows + ff * rows * rows) / determinant
        return drafted * self._first + rows * self._row, math.sqrt(max(0.0, square))

    def learn(self, drafted: float, rows: float, error: float) -> None:
        """A step that differs so was off by so many milliseconds."""
        told_first, told_row = drafted * drafted, rows * rows
        # Steps that are all alike tell nothing of a price, and so they make nothing forgotten.
        kept_first = 1 - min(told_first / self._ff, FORGOTTEN_MAX)
        kept_row = 1 - min(told_row / self._rr, FORGOTTEN_MAX)
        ff = max(FIRST_TOLD, kept_first * self._ff) + told_first
        rr = max(ROW_TOLD, kept_row * self._rr) + told_row
        fr = math.sqrt(kept_first * kept_row) * self._fr + drafted * rows
        self._ff, self._fr, self._rr = ff, fr, rr
        part = error / max(ff * rr - fr * fr, FIRST_TOLD * ROW_TOLD)
        self._first += part * (rr * drafted - fr * rows)
        self._row += part * (ff * rows - fr * drafted)


class MeasuredCost:
    """One engine's. Not thread-safe; a few µs a step and a few KB, whatever comes."""

    def __init__(self) -> None:
        self._usual: dict[int, _Usual] = {}
        self._prices = _Prices()
        self._error = 0.0
        self._steps = 0
        self._untold = 0
        """Steps in a row that did not tell what drafting costs at all."""

    def observe(self, sequences: int, nodes: int, milliseconds: float) -> None:
        """A step of so many sequences that verified so many nodes took so long."""
        if sequences < 1 or not 0 < milliseconds < math.inf:
            return
        usual = self._usual.get(number := _class_of(sequences))
        if usual is None:
            usual = self._usual[number] = _Usual()
        drafted, rows = int(nodes > 0), sequences + nodes
        if len(usual.first) < FIRST_STEPS:
            usual.first.append((drafted, rows, milliseconds))
            usual.drafted = float(median(one for one, _, _ in usual.first))
            usual.rows = float(median(count for _, count, _ in usual.first))
            usual.milliseconds = median(ms for _, _, ms in usual.first)
            return
        more_drafted, more_rows = drafted - usual.drafted, rows - usual.rows
        expected, spread = self._prices.of(more_drafted, more_rows)
        error = milliseconds - usual.milliseconds - expected
        # What held a step up once, another process or a pause, is not what its rows cost.
        most = CHANGE_MAX * usual.milliseconds
        if self._steps >= STEPS_MIN:
            most = min(most, ERRORS_MAX * (self._error + self._doubt(usual, spread)))
        weight = max(LEVEL_WEIGHT, 1 / (1 + self._steps))
        self._error += weight * (min(abs(error), CHANGE_MAX * usual.milliseconds) - self._error)
        self._steps += 1
        self._untold = 0 if abs(more_drafted) >= TOLD_MIN else self._untold + 1
        error = max(-most, min(most, error))
        self._prices.learn(more_drafted, more_rows, error)
        usual.drafted += LEVEL_WEIGHT * more_drafted
        usual.rows += LEVEL_WEIGHT * more_rows
        usual.milliseconds = max(1e-3, usual.milliseconds + LEVEL_WEIGHT * (expected + error))

    def at(self, sequences: int) -> VerifyCost | None:
        """Of steps of so many sequences by the nodes of all of them; None as long as it is not known.

        The same object for some steps. Finite, above 0, and rising from 0 nodes on.
        """
        usual = self._usual.get(_class_of(sequences))
        if usual is None:
            return None
        if self._steps >= usual.table_until:
            is_known = self._is_known(usual, sequences)
            usual.table = self._table(usual, sequences) if is_known else None
            usual.table_until = self._steps + min(TABLE_STEPS_MAX, self._steps // STEPS_MIN)
        return usual.table

    def should_vary(self, sequences: int) -> bool:
        """Whether the next step had better be a plain one, because all have drafted; asked once a step, after
        `at`.
        """
        if self._untold < VARIED_UNKNOWN:
            return False
        usual = self._usual.get(_class_of(sequences))
        if usual is None or len(usual.first) < FIRST_STEPS or usual.drafted < TOLD_MIN:
            return False
        if self._untold < VARIED_KNOWN and usual.table is not None:
            return False
        self._untold = 0
        return True

    def _is_known(self, usual: _Usual, sequences: int) -> bool:
        """Whether a step without drafts is known, from which the usual one is so many rows away."""
        if self._steps < STEPS_MIN or len(usual.first) < FIRST_STEPS:
            return False
        _, spread = self._prices.of(usual.drafted, usual.rows - sequences)
        return self._doubt(usual, spread) <= DOUBT_MAX * usual.milliseconds

    def _doubt(self, usual: _Usual, spread: float) -> float:
        """The error to be expected in a price: never more than the usual step."""
        error = max(self._error, ERROR_MIN * usual.milliseconds)
        return min(error * spread, usual.milliseconds)

    def _table(self, usual: _Usual, sequences: int) -> VerifyCost:
        first, row = self._prices.best()
        # A row that is drafted costs no more than one that is not: at most its share of the usual step.
        row = min(row, usual.milliseconds / max(usual.rows, 1.0))
        left = usual.milliseconds - row * max(0.0, usual.rows - sequences)
        first = min(first, left / 2)
        plain = left - first * usual.drafted
        return VerifyCost(
            int32s([0, 1, TABLE_NODES]),
            np.array([plain, plain + first + row, plain + first + row * TABLE_NODES], np.float32),
        )


def _class_of(sequences: int) -> int:
    """Up to 16 each number is one; above, those within an eighth of an octave."""
    shift = max(0, sequences.bit_length() - 4)
    return sequences >> shift << shift
