"""What a step costs now: the table that was measured at start, corrected by the steps that are made.

A machine that was busy for those seconds, or runs at another clock now, leaves a table that buys too
many nodes or too few for as long as the worker runs. What steps really take, over what the table says,
is therefore followed by a line: a level, and a price for every node, by least squares that forget. The
table takes the price of nodes from it, relative to a plain step. Not the level: where every step drafts, it
holds as well what drafting itself costs a step, in caches that others have used meanwhile.
"""

import numpy as np

from retrieval_draft.gpu.step_cost import StepCosts, rising
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import Float64Array

KEPT = 63 / 64
"""Of what earlier steps say, each time another one is done."""
NODE_SHARE = 1 / 16
"""The unit of a node's price, as a share of a plain step: about what one costs where it costs at all."""
LEVEL_TRUST, NODE_TRUST = 0.05, 0.1
"""Steps that the table itself counts as: few, as it is a handful of times."""
SURPRISE_MAX = 2.0
"""Of one step to what was expected: a machine that stops for a moment says little."""
LEVEL_MAX = 8.0
"""Of a level to the table, either way."""


class LiveCosts:
    """One worker's; its decoder reports, its conversations ask. Some tens of µs a step."""

    def __init__(self, measured: StepCosts) -> None:
        self.measured = measured
        # By measured batch: sums of 1, x, x², y and xy over steps, x of the nodes and y of the time.
        self._sums: Float64Array = np.zeros((len(measured.batches), 5))

    def at(self, sequences: int, context_tokens: float) -> VerifyCost:
        """As `StepCosts.at`."""
        return self._corrected(self.measured.at(sequences, context_tokens), sequences)

    def by_width(self, sequences: int, context_tokens: float) -> VerifyCost:
        """As `StepCosts.by_width`."""
        cost = self.measured.by_width(sequences, context_tokens)
        return self._corrected(cost, sequences, sequences)

    def took(self, sequences: int, width: int, context_tokens: float, milliseconds: float) -> None:
        """A step of so many sequences, whose largest tree had `width` nodes."""
        cost = self.measured.by_width(sequences, context_tokens)
        expected = cost.at(width)
        if expected <= 0 or milliseconds <= 0:
            return
        batch = self._nearest(sequences)
        x = width * sequences * _unit(cost) / expected
        level, node = self._line(batch)
        said = max(level + node * x, 1 / LEVEL_MAX)
        ratio = min(max(milliseconds / expected, said / SURPRISE_MAX), said * SURPRISE_MAX)
        sums = self._sums[batch]
        sums *= KEPT
        sums += (1.0, x, x * x, ratio, x * ratio)

    def _corrected(self, cost: VerifyCost, sequences: int, rows: int = 1) -> VerifyCost:
        level, node = self._line(self._nearest(sequences))
        unit = _unit(cost)
        found = cost.milliseconds + node / level * unit * rows * cost.nodes
        lowest = cost.plain_ms / LEVEL_MAX
        return VerifyCost(cost.nodes, rising(np.maximum(found, lowest).astype(np.float32)))

    def _line(self, batch: int) -> tuple[float, float]:
        """The level, and the price of a node in units: 1 and 0 as long as no step was made."""
        n, x, xx, y, xy = self._sums[batch].tolist()
        # Ridge regression of y - 1 on (1, x).
        a, d = n + LEVEL_TRUST, xx + NODE_TRUST
        u, v = y - n, xy - x
        whole = a * d - x * x
        level = 1 + (d * u - x * v) / whole
        return min(max(level, 1 / LEVEL_MAX), LEVEL_MAX), (a * v - x * u) / whole

    def _nearest(self, sequences: int) -> int:
        sizes = [one.sequences for one in self.measured.batches]
        return min(range(len(sizes)), key=lambda i: abs(sizes[i] - sequences))


def _unit(cost: VerifyCost) -> float:
    return NODE_SHARE * cost.plain_ms
