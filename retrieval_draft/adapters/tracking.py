"""Which row of a batch is which sequence, for stacks that do not say: by what their tokens are."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval_draft.tree import Int32Array

TAIL_TOKENS = 32


@dataclass(slots=True)
class _Tracked:
    name: str
    row: int
    seen: float


class Tracker:
    """Names rows so that one that goes on where another ended keeps its name.

    A sequence is known by its length and its last 32 tokens. Two that agree in both are alike as far as
    drafting goes; the row then decides.
    """

    def __init__(self, idle_seconds_max: float) -> None:
        self._idle_seconds_max = idle_seconds_max
        self._ends: dict[tuple[int, bytes], list[_Tracked]] = {}
        self._count = 0
        self._swept = 0.0

    def names(self, histories: Sequence[Int32Array], fresh: Sequence[int], now: float) -> list[str]:
        """The names of rows whose last `fresh` tokens are new, in their order. O(1) a row."""
        found: list[_Tracked] = []
        for row, (history, new) in enumerate(zip(histories, fresh, strict=True)):
            key = _end(history, len(history) - new)
            alike = self._ends.get(key)
            if alike:
                one = next((one for one in alike if one.row == row), alike[0])
                alike.remove(one)
                if not alike:
                    del self._ends[key]
            else:
                self._count += 1
                one = _Tracked(f"row-{self._count}", row, now)
            one.row, one.seen = row, now
            found.append(one)
        # Only now: a row of this step does not go on where another one has just ended.
        for history, one in zip(histories, found, strict=True):
            self._ends.setdefault(_end(history, len(history)), []).append(one)
        return [one.name for one in found]

    def gone(self, now: float) -> list[str]:
        """Forget those absent for `idle_seconds_max`; their names. Looks four times in that time."""
        if now - self._swept < self._idle_seconds_max / 4:
            return []
        self._swept = now
        names: list[str] = []
        for key, alike in list(self._ends.items()):
            names += [one.name for one in alike if now - one.seen >= self._idle_seconds_max]
            alike[:] = [one for one in alike if now - one.seen < self._idle_seconds_max]
            if not alike:
                del self._ends[key]
        return names


def tail(history: Int32Array, length: int) -> bytes:
    """The last tokens of its first `length`: by them a sequence is known again."""
    return history[max(0, length - TAIL_TOKENS) : length].tobytes()


def _end(history: Int32Array, length: int) -> tuple[int, bytes]:
    return length, tail(history, length)
