"""Where the steps of a decoder spend their time."""

import time
from typing import Literal, get_args

Stage = Literal["draft", "transfer", "forward", "verification", "observation", "commit"]
STAGES: tuple[Stage, ...] = get_args(Stage)
OVERHEAD: tuple[Stage, ...] = ("transfer", "verification", "commit")
"""What a step costs beside its draft, the target's forward, and the observations it sends."""


class StageClock:
    """Seconds by stage, summed over steps; `lap` gives what went by since the last call to a stage.

    `transfer` is making the target's inputs and handing them over: tokens, positions, masks, aims.
    On a GPU calls return before the work is done, and the wait for a forward counts as verification.
    Costs some 0.1 µs a lap.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._at = 0.0

    def start(self) -> None:
        """A step begins."""
        self.steps += 1
        self._at = time.perf_counter()

    def lap(self, stage: Stage) -> None:
        """What went by since the last call belongs to this stage."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._at
        self._at = now

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def overhead_ms(self) -> float:
        """Milliseconds a step outside forward, draft and observations."""
        return 1e3 * sum(self.seconds[stage] for stage in OVERHEAD) / max(1, self.steps)

    def shares(self) -> dict[Stage, float]:
        """Of the time of all steps, by stage."""
        total = self.total
        return {stage: seconds / total if total else 0.0 for stage, seconds in self.seconds.items()}
