"""What asking a drafter costs and brings: prices of steps, whether the coming one asks, and figures."""

from dataclasses import dataclass, replace

import numpy as np

from retrieval_draft.pace import Pace
from retrieval_draft.step import DraftOptions, VerifyCost

ROUND_TRIP_WEIGHT = 0.1
"""Of the newest round trip in the running mean."""
PRICED_ANEW = 0.02
"""Of a plain step: tables follow what asking costs when it has changed by more."""


@dataclass(slots=True)
class Figures:
    """What the conversation came to, for metrics."""

    steps: int = 0
    late: int = 0
    failed: int = 0
    skipped: int = 0
    resyncs: int = 0
    rejected: int = 0
    bad_trees: int = 0
    paced: int = 0
    """Steps that did not ask because asking has not paid lately."""
    round_trip_seconds: float = 0.0


class Asking:
    """One conversation's. Without a cost table every step asks, and none is priced."""

    def __init__(self, options: DraftOptions) -> None:
        self.options = options
        self.spent_ms = 0.0
        """What the coming step has cost before it asks."""
        self._round_trip_ms = 0.0
        self._pace = Pace()
        # The newest step that asked: nodes that came for its sequences, tokens they gained since.
        self._asked: dict[str, int] = {}
        self._gained = 0
        self._priced: DraftOptions | None = None
        self._priced_ms = 0.0

    def price(self, cost: VerifyCost | None) -> None:
        """From here on steps cost this."""
        if cost is not self.options.verify_cost:
            self.options = replace(self.options, verify_cost=cost)
            self._priced = None

    def gained(self, sequence_id: str, tokens: int) -> None:
        """Verification committed so many."""
        if sequence_id in self._asked:
            self._gained += tokens

    def answered(self, asked: dict[str, int], milliseconds: float) -> None:
        """A step asked: so many nodes came, after so long a wait."""
        self._round_trip_ms += ROUND_TRIP_WEIGHT * (milliseconds - self._round_trip_ms)
        self._asked = asked

    def pays(self) -> bool:
        """Judge the newest step that asked, and say whether this one should."""
        cost = self.options.verify_cost
        if cost is None:
            return True
        if self._asked and self._gained:
            nodes = sum(self._asked.values())
            self._pace.gained(self._gained, len(self._asked), nodes, cost, self._round_trip_ms)
        self._asked, self._gained = {}, 0
        return self._pace.asks()

    def priced(self) -> DraftOptions:
        """The options; a step that asks for drafts costs the asking too, however many come back."""
        cost = self.options.verify_cost
        if cost is None:
            return self.options
        asking_ms = self._round_trip_ms + self.spent_ms
        most = PRICED_ANEW * cost.plain_ms
        if self._priced is None or abs(asking_ms - self._priced_ms) > most:
            milliseconds = cost.milliseconds + np.float32(asking_ms)
            self._priced = replace(
                self.options, verify_cost=replace(cost, milliseconds=milliseconds)
            )
            self._priced_ms = asking_ms
        return self._priced
