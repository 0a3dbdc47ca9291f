"""When to leave a drafter alone: one that fails or hangs costs no more than a try now and then."""

from collections.abc import Callable

FAILURES_MAX = 3
"""In a row, until the breaker opens."""
WAITS_MAX = 16
"""For one answer that does not come, until the breaker opens: a drafter that hangs must cost no more."""
BACKOFF_SECONDS_MIN = 0.1
BACKOFF_SECONDS_MAX = 5.0


class Breaker:
    """Open for a pause that doubles with every try in vain; closed from the first answer on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._waits = 0
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._clock() < self._retry_at

    @property
    def failures(self) -> int:
        """In a row, up to now."""
        return self._failures

    def answered(self) -> None:
        self._failures = self._waits = 0

    def waited(self) -> None:
        """In vain, for an answer that is outstanding."""
        self._waits += 1
        if self._waits >= WAITS_MAX:
            self._pause(self._waits - WAITS_MAX)

    def failed(self, *, lasting: bool) -> None:
        """`lasting` failures, which trying again does not mend, open it at once."""
        if lasting:
            self._failures = max(self._failures, FAILURES_MAX)
        self._waits = 0
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._pause(self._failures - FAILURES_MAX)

    def _pause(self, in_vain: int) -> None:
        pause = BACKOFF_SECONDS_MIN * 2 ** min(in_vain, 16)
        self._retry_at = self._clock() + min(BACKOFF_SECONDS_MAX, pause)
