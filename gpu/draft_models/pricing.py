"""What a draft model's time is worth: whether it is asked, and how deep its trees grow.

A level is grown where the tokens that it is expected to add to the retrieved trees outweigh its forward,
at what the worker gains in a millisecond: the paths' probabilities, as far as they held so far, times how
often the model has had a token there that retrieval had not. Judged afterwards by what was committed: if
steps with the model gained less than they would have without, it is left out for up to 16 steps at a time
(`Pace`). What is never asked is not learned from, so it is looked at now and then: one level, one sequence.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from retrieval_draft.gpu.draft_models.causal import BACKLOG_MAX
from retrieval_draft.gpu.draft_models.level_cost import LevelCosts
from retrieval_draft.gpu.draft_models.levels import Frontier
from retrieval_draft.gpu.draft_models.rescues import Cover, Rescues
from retrieval_draft.gpu.step_cost import StepCosts
from retrieval_draft.gpu.width import best_width
from retrieval_draft.pace import Pace
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import EMPTY, DraftTree

RATE_WEIGHT = 1 / 24
"""Of the newest step in the running rate."""
FIRST_STEPS = 4
"""So many steps weigh as much as the first guess."""
COVERED_AT_FIRST, COVER_WEIGHT = 0.5, 1 / 24
"""Of the next token by retrieved trees, as long as they have not come; a tree's weight in the mean."""
READ_STEPS = 16
"""What the model reads of a text serves so many steps, as far as its price goes."""
LEVEL_NODES = 4
"""So many nodes of a level are verified, about: what it lists beside the likeliest is part of its worth."""
LOOK_SHARE = 1 / 50
"""Of the time since, at most, is spent on looking again; but after LOOK_STEPS_MAX it is looked anyway."""
LOOK_STEPS_MAX = 16 * READ_STEPS
CONTEXT_STEP = 64
"""Tokens of context by which prices are told apart."""
PRICES_MAX = 64

SLOWER_MAX = 4.0
"""Of one draft: whoever stops a machine for a second does not say what a draft costs."""
NOTHING = Cover(EMPTY)
Trees = dict[str, DraftTree]
Retrieved = Callable[[], Trees | None]
"""The retrieved trees of the step; None as long as they have not come."""


@dataclass(frozen=True, slots=True)
class _Prices:
    """Milliseconds for so many sequences of one length: by the largest tree's nodes, and by levels."""

    cost: VerifyCost
    verify: list[float]
    levels: list[float]

    @property
    def level(self) -> float:
        """Of verifying what a level more adds to the largest tree, at the table's average."""
        nodes_max = len(self.verify) - 1
        return LEVEL_NODES * (self.verify[-1] - self.verify[0]) / max(LEVEL_NODES, nodes_max)


@dataclass(slots=True)
class _Step:
    """The step that is being drafted, then verified; its times in milliseconds."""

    sequences: int
    ms: _Prices
    level_ms: list[float]
    rate: float
    """Tokens a millisecond that the worker gains as it is."""
    is_look: bool = False
    has_model: bool = False
    model_ms: float = 0.0
    reading_ms: float = 0.0
    """Of those, what one step of many pays for what the model reads."""
    asking_ms: float = 0.0
    width: int = 0
    width_alone: int = 0
    model: dict[str, Cover] = field(default_factory=dict[str, Cover])
    retrieved: Trees = field(default_factory=dict[str, DraftTree])
    covers: dict[str, Cover] | None = None
    tokens: int = 0
    tokens_alone: int = 0


class Pricing:
    """One worker's. Costs some tens of µs a sequence and level."""

    def __init__(
        self,
        costs: StepCosts,
        levels: LevelCosts,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._token_ms = levels.token_ms
        self._clock = clock
        # Of what was measured at start, when nothing ran between two drafts and all was in the caches.
        self._slower = 1.0
        # Steps are alike, and numpy's calls would cost more than all else here.
        self._prices = lru_cache(PRICES_MAX)(partial(_prices, costs, levels))
        self._pace = Pace()
        self._rescues = Rescues()
        self._covered = COVERED_AT_FIRST
        # What steps gained and took, relative to plain ones: sums that forget.
        self._gained = self._took = 1.0
        self._steps = self._idle = 0
        self._idle_ms = 0.0
        self._step: _Step | None = None
        self._lengths: dict[str, int] = {}

    @property
    def spent_ms(self) -> float:
        """What the step has spent on the draft model."""
        return 0.0 if self._step is None else self._step.model_ms

    def timed(self, draft: Callable[[], Trees]) -> Trees:
        """What this gives, which is the draft model's work for the step: what it really takes counts on."""
        began = self._clock()
        trees = draft()
        if (step := self._step) is not None and step.model_ms:
            table_ms = (
                step.model_ms - step.reading_ms
            ) / self._slower + step.reading_ms * READ_STEPS
            ratio = 1e3 * (self._clock() - began) / table_ms
            self._slower += RATE_WEIGHT * (min(ratio, SLOWER_MAX) - self._slower)
        return trees

    def open(self, sequence_id: str, tokens: int) -> None:
        """A sequence begins with so many."""
        self._lengths[sequence_id] = tokens

    def finish(self, sequence_id: str) -> None:
        self._lengths.pop(sequence_id, None)

    def begin(self, sequences: Iterable[str]) -> None:
        """These are drafted for next; what the step before came to is known now."""
        if self._step is not None:
            self._judge(self._step)
        lengths = [self._lengths[name] for name in sequences if name in self._lengths]
        self._step = None
        if not lengths:
            return
        context = round(sum(lengths) / len(lengths) / CONTEXT_STEP) * CONTEXT_STEP
        ms = self._prices(len(lengths), context)
        rate = max(1.0, self._gained / self._took) * len(lengths) / ms.verify[0]
        self._step = _Step(len(lengths), ms, ms.levels, rate)

    def asked(self, unread: dict[str, int], retrieved: Retrieved) -> list[str]:
        """For whom the draft model shall draft, of these, of whom it has to read so many tokens."""
        if (step := self._step) is None or not unread:
            return []
        roots: dict[str, list[Frontier]] = {name: [(1.0, [])] for name in unread}
        names = list(unread)
        reading_ms = self._reading_ms(unread, names)
        if not self._pays(step, 0, roots, retrieved, reading_ms) or not self._pace.asks():
            names = [min(unread, key=unread.__getitem__)]
            reading_ms = self._reading_ms(unread, names)
            step.level_ms = self._prices(1, 0).levels
            # Much that is unread is read apart, in a forward of its own.
            forwards = 1 + (unread[names[0]] > BACKLOG_MAX)
            if not self._looks(forwards * step.level_ms[1] + reading_ms * READ_STEPS):
                return []
            step.is_look = True
        step.reading_ms = reading_ms
        step.model_ms = self._slower * step.level_ms[1] + reading_ms
        return names

    def goes_on(
        self, levels: int, frontier: dict[str, list[Frontier]], retrieved: Retrieved
    ) -> bool:
        """Whether trees of so many levels shall have one more."""
        step = self._step
        if step is None or step.is_look or not self._pays(step, levels, frontier, retrieved):
            return False
        step.model_ms += self._slower * (step.level_ms[levels + 1] - step.level_ms[levels])
        return True

    def verifies(
        self,
        trees: Trees,
        model: Trees,
        retrieved: Trees,
        asking_ms: float,
    ) -> int:
        """The nodes that each of these trees may have; `model` and `retrieved` are what they came of.

        A batch costs as many nodes as its largest tree has, for every sequence.
        """
        if (step := self._step) is None:
            return max(map(len, trees.values()), default=0)
        step.asking_ms = asking_ms
        if not trees:
            return 0
        step.width = best_width(
            trees.values(), step.sequences, step.ms.cost, step.model_ms + asking_ms
        )
        step.width_alone = max(map(len, retrieved.values()), default=0)
        step.model = {name: Cover(tree) for name, tree in model.items() if len(tree)}
        step.retrieved = {name: retrieved.get(name, EMPTY) for name in step.model}
        covered = sum(
            min(1.0, float(tree.probability[tree.parent < 0].sum())) for tree in retrieved.values()
        )
        self._covered += COVER_WEIGHT * (covered / step.sequences - self._covered)
        return step.width

    def gained(self, sequence_id: str, tokens: list[int]) -> None:
        """Verification committed these."""
        if sequence_id in self._lengths:
            self._lengths[sequence_id] += len(tokens)
        if (step := self._step) is None:
            return
        step.tokens += len(tokens)
        model = step.model.pop(sequence_id, None)
        if model is None:
            step.tokens_alone += len(tokens)
            return
        retrieved = step.retrieved[sequence_id]
        step.tokens_alone += 1 + len(retrieved.follow(tokens))
        self._rescues.teach(model, Cover(retrieved), tokens)
        step.has_model = True

    def _pays(
        self,
        step: _Step,
        levels: int,
        frontier: dict[str, list[Frontier]],
        retrieved: Retrieved,
        reading_ms: float = 0.0,
    ) -> bool:
        if step.covers is None and (trees := retrieved()) is not None:
            step.covers = {name: Cover(tree) for name, tree in trees.items()}
        gain = 0.0
        for name, nodes in frontier.items():
            cover = None if step.covers is None else step.covers.get(name, NOTHING)
            for probability, path in nodes:
                covered = self._covered if cover is None else cover.along(path)
                gain += probability * self._rescues.chance(covered)
        more_ms = self._slower * (step.level_ms[levels + 1] - step.level_ms[levels])
        return gain > step.rate * (more_ms + step.ms.level + reading_ms)

    def _reading_ms(self, unread: dict[str, int], names: list[str]) -> float:
        tokens = sum(max(0, unread[name] - 1) for name in names)
        return tokens * self._token_ms / READ_STEPS

    def _looks(self, look_ms: float) -> bool:
        """Whether it is time to look at what the model would add."""
        if self._idle < READ_STEPS:
            return False
        return self._idle_ms * LOOK_SHARE >= look_ms or self._idle >= LOOK_STEPS_MAX

    def _judge(self, step: _Step) -> None:
        if not step.tokens:
            return
        verify_ms = step.ms.verify[step.width]
        took = step.model_ms + step.asking_ms + verify_ms
        self._steps += 1
        weight = max(RATE_WEIGHT, 1 / (FIRST_STEPS + self._steps))
        self._gained += weight * (step.tokens / step.sequences - self._gained)
        self._took += weight * (took / step.ms.verify[0] - self._took)
        self._idle, self._idle_ms = self._idle + 1, self._idle_ms + took
        if step.model_ms:
            self._idle, self._idle_ms = 0, 0.0
        if step.has_model and not step.is_look:
            more_ms = step.model_ms + verify_ms - step.ms.verify[step.width_alone]
            surplus = step.tokens - step.tokens_alone - step.rate * more_ms
            self._pace.judge(1 + surplus / step.sequences)


def _prices(costs: StepCosts, levels: LevelCosts, sequences: int, context_tokens: int) -> _Prices:
    cost = costs.by_width(sequences, context_tokens)
    verify = np.interp(np.arange(cost.nodes[-1] + 1), cost.nodes, cost.milliseconds)
    return _Prices(cost, verify.tolist(), levels.at(sequences).tolist())
