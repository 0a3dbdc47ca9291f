"""Engines that take turns of a few steps: a machine's speed changes more from one second to the next than
what is to be told apart.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from retrieval_draft.replay.vllm_arms import Run, VllmEngine

TURN_STEPS = 12

_Name = TypeVar("_Name")


class Decoding:
    """An engine's way through a workload: so many prompts at once, the next one when one has ended.

    Every prompt once; each is sampled with a seed of its own, from `seed` on.
    """

    def __init__(
        self,
        engine: VllmEngine,
        prompts: Sequence[list[int]],
        tokens: int,
        concurrency: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._engine = engine
        self._tokens, self._temperature, self._seed = tokens, temperature, seed
        self._prompts, self._concurrency = list(prompts), concurrency
        self._begun: list[str] = []
        self._outputs: dict[str, list[int]] = {}
        self._seconds = self._cpu_seconds = 0.0
        engine.count_anew()

    @property
    def is_over(self) -> bool:
        return len(self._outputs) == len(self._prompts)

    def take_turn(self) -> None:
        """So many steps, or those that are left."""
        began, spent = time.perf_counter(), time.process_time()
        for _ in range(TURN_STEPS):
            if self.is_over:
                break
            first = len(self._begun)
            last = len(self._outputs) + self._concurrency
            for i, prompt in enumerate(self._prompts[first:last], first):
                name = self._engine.begin(prompt, self._tokens, self._temperature, self._seed + i)
                self._begun.append(name)
            self._outputs |= self._engine.step()
        self._seconds += time.perf_counter() - began
        self._cpu_seconds += time.process_time() - spent

    def pause(self) -> None:
        """Another one's turn begins."""
        self._engine.pause()

    def to_end(self) -> Run:
        """Without others."""
        while not self.is_over:
            self.take_turn()
        return self.run()

    def run(self) -> Run:
        """What it came to."""
        counts = self._engine.counts
        outputs = [self._outputs[name] for name in self._begun]
        tokens = sum(map(len, outputs))
        return Run(
            tokens,
            len(outputs),
            self._seconds,
            self._cpu_seconds,
            # Without a drafter every step yields one token.
            (counts.rows or tokens) - len(outputs),
            counts.drafts,
            counts.drafted,
            counts.accepted,
            hashlib.md5(repr(outputs).encode(), usedforsecurity=False).hexdigest(),
            outputs,
            list(counts.propose_us),
        )


def in_turns(decodings: Mapping[_Name, Decoding], first: int) -> None:
    """All of them to their ends, beginning with the one of this number."""
    names = list(decodings)
    at = first
    while any(not one.is_over for one in decodings.values()):
        one = decodings[names[at % len(names)]]
        at += 1
        if not one.is_over:
            one.take_turn()
            one.pause()
