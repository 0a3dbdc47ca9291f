"""The newest finished sequences of a namespace, kept in memory alone, so that advice can be replayed.

They never leave the process: not to the store, and not over the wire. Sequences that teach nothing are
never kept.
"""

import threading
from collections import deque
from dataclasses import dataclass

from retrieval_draft.sequence import Sequence
from retrieval_draft.step import Learning
from retrieval_draft.tree import Int32Array

PROMPT_TOKENS_MAX = 4096
"""Of a longer one its end."""
OUTPUT_TOKENS_MIN, OUTPUT_TOKENS_MAX = 8, 4096


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """One sequence: the end of its prompt, and its output."""

    prompt: Int32Array
    output: Int32Array
    temperature: float | None


class Sample:
    """At most `tokens_max` tokens, prompts included; 0 keeps nothing."""

    def __init__(self, tokens_max: int) -> None:
        self._tokens_max = tokens_max
        self._kept: deque[Sampled] = deque()
        self._tokens = 0
        self._lock = threading.Lock()

    def take(self, sequence: Sequence) -> None:
        """Keep a copy of a sequence that is over, if it is worth it; the oldest make way. O(tokens)."""
        if not self._tokens_max or sequence.learning == Learning.NONE:
            return
        begin = max(sequence.low, min(sequence.prompt_length, sequence.stop))
        output = min(sequence.stop - begin, OUTPUT_TOKENS_MAX)
        first = max(sequence.low, begin - PROMPT_TOKENS_MAX)
        size = begin + output - first
        if output < OUTPUT_TOKENS_MIN or begin == first or size > self._tokens_max:
            return
        tokens = sequence.read(first, begin + output)
        one = Sampled(tokens[: begin - first], tokens[begin - first :], sequence.temperature)
        with self._lock:
            self._kept.append(one)
            self._tokens += size
            while self._tokens > self._tokens_max:
                oldest = self._kept.popleft()
                self._tokens -= len(oldest.prompt) + len(oldest.output)

    def sequences(self) -> list[Sampled]:
        """Oldest first."""
        with self._lock:
            return list(self._kept)
