"""Whether asking for drafts pays: a step that asks must gain more tokens per millisecond than another.

The other is a plain one for whoever asks a sidecar, and one without its draft model for a worker.
"""

from retrieval_draft.step import VerifyCost

GAIN_AT_FIRST = 1.2
"""Optimistic, so that a start is not given up before anything was learned."""
FIRST_STEPS = 4
"""So many asked steps weigh as much as that."""
GAIN_WEIGHT = 1 / 24
"""Of the newest asked step in the running mean, once there were more; one that comes after skipped steps
speaks for them too, so that what was seen when asking did not pay is forgotten as fast.
"""
GAIN_WEIGHT_MAX = 1 / 4
"""Of one step, whatever was skipped before it."""
LOSS_MAX = 0.01
"""Share of the time that asking may cost where it does not pay: the less it costs, the more often it is
tried. A gain just below 1 is mostly chance, and what is skipped then would have paid.
"""
SKIPS_MAX = 63
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
        asked_ms = asking_ms + cost.at(nodes)
        self.judge((tokens / asked_ms) / (sequences / cost.plain_ms))

    def judge(self, ratio: float) -> None:
        """A step that asked gained so many times the tokens per millisecond of one that does not."""
        self._asked += 1
        weight = min(GAIN_WEIGHT_MAX, (1 + self._skips) * GAIN_WEIGHT)
        self._gain += max(weight, 1 / (FIRST_STEPS + self._asked)) * (ratio - self._gain)
        # Of 1 + skips steps one asks, and costs 1 - gain of a step.
        self._skips = min(SKIPS_MAX, max(0, int((1 - self._gain) / LOSS_MAX)))
        self._skipping = self._skips
