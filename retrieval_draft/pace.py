"""Whether asking for drafts pays: a step that asks must gain more tokens per millisecond than another.

The other is a plain one for whoever asks a sidecar, and one without its draft model for a worker.
"""

import numpy as np

from retrieval_draft.step import VerifyCost

GAIN_AT_FIRST = 1.2
"""Optimistic, so that a start is not given up before anything was learned."""
FIRST_STEPS = 4
"""So many asked steps weigh as much as that: where drafts bring nothing, it costs a dozen steps."""
GAIN_WEIGHT = 1 / 24
"""Of the newest asked step in the running mean, once there were more."""
SKIPS_MAX = 16
"""Steps without asking between two tries, at most: nothing is ever switched off for good."""


class Pace:
    """One drafter's. Prices are those of its own cost table; without one every step asks."""

    def __init__(self) -> None:
        self._gain = GAIN_AT_FIRST
        self._asked = 0
        self._skips = 0
        self._skipping = 0

    @property
    def gain(self) -> float:
        """Tokens per millisecond of asked steps, relative to others; above 1 asking pays."""
        return self._gain

    def asks(self) -> bool:
        """Whether the coming step should ask; counts it as skipped if not."""
        if self._skipping:
            self._skipping -= 1
            return False
        return True

    def gained(
        self, tokens: int, sequences: int, nodes: int, cost: VerifyCost, asking_ms: float
    ) -> None:
        """A step that asked verified `nodes` and gained `tokens` over its sequences."""
        plain_ms = float(cost.milliseconds[0])
        asked_ms = asking_ms + float(np.interp(nodes, cost.nodes, cost.milliseconds))
        self.judge((tokens / asked_ms) / (sequences / plain_ms))

    def judge(self, ratio: float) -> None:
        """A step that asked gained so many times the tokens per millisecond of one that does not."""
        self._asked += 1
        weight = max(GAIN_WEIGHT, 1 / (FIRST_STEPS + self._asked))
        self._gain += weight * (ratio - self._gain)
        if self._gain >= 1:
            self._skips = 0
        else:
            self._skips = min(SKIPS_MAX, 2 * self._skips or 1)
        self._skipping = self._skips
