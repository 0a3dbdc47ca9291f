"""Where the steps of a decoder spend their time."""

import time
from collections.abc import Callable
from typing import Literal, get_args

Stage = Literal["draft", "transfer", "forward", "verify", "observe", "commit"]
STAGES: tuple[Stage, ...] = get_args(Stage)
OVERHEAD: tuple[Stage, ...] = ("transfer", "verify", "commit")
"""What a step costs beside its draft, the target's forward, and the observations it sends."""


class StageClock:
    """Seconds by stage, summed over steps; `lap` gives what went by since the last call to a stage.

    `transfer` is making the target's inputs and handing them over: tokens, positions, masks, aims.
    On a GPU calls return before the work is done, and the wait for a forward counts as verify: with
    `wait`, called when a forward was launched, as forward, which costs what else would overlap.
    `cpu_seconds` are the calling thread's own: on a busy machine they alone say what a step costs.
    Costs some 0.5 µs a lap.
    """

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        self._wait = wait
        self.steps = 0
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self.cpu_seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._at = self._cpu_at = 0.0

    def start(self) -> None:
        """A step begins."""
        self.steps += 1
        self._at, self._cpu_at = time.perf_counter(), time.thread_time()

    def lap(self, stage: Stage) -> None:
        """What went by since the last call belongs to this stage."""
        if stage == "forward" and self._wait is not None:
            self._wait()
        now, cpu_now = time.perf_counter(), time.thread_time()
        self.seconds[stage] += now - self._at
        self.cpu_seconds[stage] += cpu_now - self._cpu_at
        self._at, self._cpu_at = now, cpu_now

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def overhead_ms(self) -> float:
        """Milliseconds a step outside forward, draft and observations."""
        return self._overhead(self.seconds)

    @property
    def cpu_overhead_ms(self) -> float:
        """The same, of the calling thread's own time."""
        return self._overhead(self.cpu_seconds)

    def _overhead(self, seconds: dict[Stage, float]) -> float:
        return 1e3 * sum(seconds[stage] for stage in OVERHEAD) / max(1, self.steps)

    def shares(self) -> dict[Stage, float]:
        """Of the time of all steps, by stage."""
        total = self.total
        return {stage: seconds / total if total else 0.0 for stage, seconds in self.seconds.items()}
