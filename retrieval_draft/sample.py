"""The newest finished sequences of every namespace, kept in memory alone, so that advice can be replayed.

They never leave the process: not to the store, and not over the wire. Sequences that teach nothing are
never kept, and those of a namespace go with it.
"""

import itertools
import threading
from collections import OrderedDict
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

    def __len__(self) -> int:
        return len(self.prompt) + len(self.output)


class Sample:
    """One namespace's: at most `tokens_max` tokens, prompts included; 0 keeps nothing."""

    def __init__(self, room: "SampleRoom", tokens_max: int) -> None:
        self.tokens_max = tokens_max
        self.kept: OrderedDict[int, Sampled] = OrderedDict()
        """In the order in which they finished, by their number in the room; guarded by its lock."""
        self.tokens = 0
        self.is_closed = False
        self._room = room

    def take(self, sequence: Sequence) -> None:
        """Keep a copy of a sequence that is over, if it is worth it; the oldest make way. O(tokens)."""
        if not self.tokens_max or sequence.learning == Learning.NONE:
            return
        begin = max(sequence.low, min(sequence.prompt_length, sequence.stop))
        output = min(sequence.stop - begin, OUTPUT_TOKENS_MAX)
        first = max(sequence.low, begin - PROMPT_TOKENS_MAX)
        size = begin + output - first
        if output < OUTPUT_TOKENS_MIN or begin == first or size > self.tokens_max:
            return
        tokens = sequence.read(first, begin + output)
        one = Sampled(tokens[: begin - first], tokens[begin - first :], sequence.temperature)
        self._room.keep(self, one)

    def sequences(self) -> list[Sampled]:
        """Oldest first."""
        return self._room.kept_of(self)

    def close(self) -> None:
        """The namespace is gone: forget all, and keep nothing more."""
        self._room.close(self)


class SampleRoom:
    """What all namespaces of a sidecar keep: at most `tokens_max` tokens, whosever; the oldest make way."""

    def __init__(self, tokens_max: int) -> None:
        self.tokens = 0
        self._tokens_max = tokens_max
        self._owners: OrderedDict[int, Sample] = OrderedDict()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def keep(self, sample: Sample, one: Sampled) -> None:
        """The newest of this namespace."""
        with self._lock:
            if sample.is_closed:
                return
            number = next(self._numbers)
            sample.kept[number], self._owners[number] = one, sample
            sample.tokens += len(one)
            self.tokens += len(one)
            while sample.tokens > sample.tokens_max:
                self._drop(next(iter(sample.kept)))
            while self.tokens > self._tokens_max:
                self._drop(next(iter(self._owners)))

    def kept_of(self, sample: Sample) -> list[Sampled]:
        """Oldest first."""
        with self._lock:
            return list(sample.kept.values())

    def close(self, sample: Sample) -> None:
        """Forget all of it, for good."""
        with self._lock:
            sample.is_closed = True
            for number in list(sample.kept):
                self._drop(number)

    def _drop(self, number: int) -> None:
        sample = self._owners.pop(number)
        size = len(sample.kept.pop(number))
        sample.tokens -= size
        self.tokens -= size
