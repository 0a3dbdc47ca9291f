"""The demo's measurement: the same prompts plain and with drafts, token for token.

Every drafted arm decodes prompts that no arm of its namespace decoded before, and no file that a prompt
comes from is ever warmed. Plain and drafted runs of a prompt alternate, so that a machine that slows
down slows both.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from retrieval_draft.conversation import Conversation
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.step_cost import measure_step_costs
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import DraftTree, Int32Array, int32s

TEMPERATURE = 0.7
PATH_SHOWN_MAX = 6
"""Accepted nodes in the picture: longer paths are one copied line."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One step's tree, for a picture: what it grew from, and what verification kept."""

    context: list[int]
    tree: DraftTree
    path: list[int]


@dataclass(slots=True)
class Arm:
    """One set of prompts, decoded plain and drafted."""

    name: str
    decoding: str
    prompts: int = 0
    tokens: int = 0
    plain_seconds: float = 0.0
    drafted_seconds: float = 0.0
    steps: int = 0
    gained: int = 0
    drafted: int = 0
    accepted: int = 0
    different: list[int] = field(default_factory=list)
    best_step: Drawn | None = None

    @property
    def plain_rate(self) -> float:
        """Tokens per second without any drafter, prefill included."""
        return self.tokens / self.plain_seconds

    @property
    def drafted_rate(self) -> float:
        """Tokens per second with drafts, prefill, round trips and observations included."""
        return self.tokens / self.drafted_seconds

    @property
    def mat(self) -> float:
        """Tokens gained per step over all steps, the bonus token included."""
        return self.gained / self.steps if self.steps else 0.0


class Arms:
    """Decodes prompts one at a time, plain and drafted, and compares the tokens. Measures steps first."""

    def __init__(self, model: TargetModel, length_max: int, nodes_max: int) -> None:
        def decoder(drafter: Conversation | None) -> Decoder:
            return Decoder(
                model,
                slots=1,
                length_max=length_max,
                nodes_max=nodes_max,
                drafter=drafter,
                on_step=self._look if drafter else None,
                costs=self.costs if drafter else None,
            )

        self._new = decoder
        self.plain = decoder(None)
        self.costs = LiveCosts(measure_step_costs(self.plain.runner))
        self._tokens: list[int] = []
        self._arm: Arm | None = None

    def run(
        self,
        arm: Arm,
        prompts: Sequence[Int32Array],
        tokens_max: int,
        conversation: Conversation,
        advance: Callable[[], None],
    ) -> Arm:
        """Decode every prompt both ways; prompt i is sampled with seed i."""
        drafting = self._new(conversation)
        self._arm = arm
        for i, prompt in enumerate(prompts):
            temperature = TEMPERATURE if arm.decoding == "sampled" else 0.0
            request = Request(
                sequence_id=f"{arm.name}-{arm.decoding}-{i}",
                prompt=prompt,
                tokens_max=tokens_max,
                sampling=SamplingOptions(temperature=temperature, seed=i),
                ignore_end=True,
            )
            began = time.perf_counter()
            expected = self._decode(self.plain, request)
            between = time.perf_counter()
            got = self._decode(drafting, request)
            arm.drafted_seconds += time.perf_counter() - between
            arm.plain_seconds += between - began
            arm.prompts += 1
            arm.tokens += len(expected)
            if got != expected:
                arm.different.append(i)
            conversation.flush()
            advance()
        return arm

    def _decode(self, decoder: Decoder, request: Request) -> list[int]:
        first = decoder.admit(request)
        self._tokens = [*request.prompt.tolist(), *first.tokens.tolist()]
        last = first
        while decoder.active:
            (last,) = decoder.step()
            self._tokens += last.tokens.tolist()
        arm = self._arm
        if decoder is not self.plain and arm is not None:
            arm.steps += last.figures.steps
            arm.gained += last.figures.output_tokens - 1
            arm.drafted += last.figures.drafted
            arm.accepted += last.figures.accepted
        return self._tokens[len(request.prompt) :]

    def _look(
        self, sequence_id: str, tree: DraftTree, path: Sequence[int], committed: Int32Array
    ) -> None:
        """Keep the first step of the arm that shows most: branches, and a path accepted among them."""
        arm = self._arm
        if arm is None:
            return
        shown = arm.best_step
        better = shown is None or (len(path), len(tree)) > (len(shown.path), len(shown.tree))
        if better and len(path) <= PATH_SHOWN_MAX:
            arm.best_step = Drawn(list(self._tokens), tree, list(path))


def prompts_of(texts: Sequence[str], encode: Callable[[str], list[int]]) -> list[Int32Array]:
    return [int32s(encode(text)) for text in texts]
