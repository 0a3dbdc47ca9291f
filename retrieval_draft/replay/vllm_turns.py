"""What a step without drafts costs: two engines decode the same prompts, a few steps each in turn.

Where nothing is drafted, what is looked for is a hundredth of a step, and a machine's speed changes more
from one second to the next. Turns of some ten milliseconds see the same machine.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from retrieval_draft.replay.vllm_arms import VllmEngine

TURN_STEPS = 4
PASSES = 6


@dataclass(frozen=True, slots=True)
class Turns:
    """The second engine's median step, in the first one's."""

    by_clock: float
    by_cpu: float


def turns(
    engines: tuple[VllmEngine, VllmEngine], prompts: Sequence[list[int]], tokens: int
) -> Turns:
    """All prompts at once in each of them, PASSES times; medians over passes."""
    found: list[Turns] = []
    for number in range(PASSES):
        spent: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
        for engine in engines:
            engine.begin(prompts, tokens)
        turn = number
        while all(engine.is_busy for engine in engines):
            one = turn % 2
            _take_turn(engines[one], *spent[one])
            turn += 1
        for engine in engines:
            while engine.is_busy:
                engine.step()
        (clock, cpu), (their_clock, their_cpu) = spent
        found.append(Turns(median(their_clock) / median(clock), median(their_cpu) / median(cpu)))
    return Turns(median(one.by_clock for one in found), median(one.by_cpu for one in found))


def _take_turn(engine: VllmEngine, clock: list[float], cpu: list[float]) -> None:
    for i in range(TURN_STEPS):
        if not engine.is_busy:
            return
        began, spent = time.perf_counter(), time.process_time()
        engine.step()
        # The first one finds the other engine's memory in the caches.
        if i:
            clock.append(time.perf_counter() - began)
            cpu.append(time.process_time() - spent)
