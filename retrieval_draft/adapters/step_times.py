"""How long the engine's steps take, by when they ask for drafts: from one answer of ours to the next call."""

from collections.abc import Callable, Sequence

from retrieval_draft.adapters.measured_cost import MeasuredCost
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree


class StepTimes:
    """Only steps that decoded one batch and nothing else tell what a step of it costs.

    Not those that read prompts, where a request came or ended, or that an idle engine began with.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cost = MeasuredCost()
        self._batch: list[str] = []
        self._nodes = 0
        self._began = 0.0

    def ended(self, batch: list[str], others: int) -> None:
        """A step decoded this batch, and so many other requests whose prompts it read."""
        if batch and batch == self._batch and not others:
            milliseconds = 1000 * (self._clock() - self._began)
            self._cost.observe(len(batch), self._nodes, milliseconds)
        self._batch = batch

    def begins(self, trees: Sequence[DraftTree]) -> None:
        """The engine goes on, and verifies these."""
        self._nodes = sum(map(len, trees))
        self._began = self._clock()

    def cost(self) -> VerifyCost | None:
        """Of the next step, if it decodes the same batch; None as long as it is not known."""
        return self._cost.at(len(self._batch))

    def should_vary(self) -> bool:
        """Whether the next step had better go without drafts, so that steps tell; asked once a step."""
        return self._cost.should_vary(len(self._batch))
