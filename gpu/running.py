"""A sequence while it holds a slot: where it stands, what it has gained, when it ends."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from retrieval_draft.gpu.request import Committed, Figures, Finish, Logprobs, Request
from retrieval_draft.step import Rows
from retrieval_draft.tree import Int32Array, int32s


@dataclass(slots=True)
class Running:
    """One running sequence: its last committed token `last` stands at position `cached`."""

    request: Request
    end_tokens: frozenset[int]
    is_drafting: bool
    started: float
    cached: int
    last: int = -1
    output_tokens: int = 0
    steps: int = 0
    drafted_steps: int = 0
    drafted: int = 0
    accepted: int = 0
    finish: Finish | None = None

    @property
    def remaining(self) -> int:
        return self.request.tokens_max - self.output_tokens

    def take(self, tokens: Sequence[int]) -> Int32Array:
        """Commit tokens up to an end token or to tokens_max; those that count."""
        kept = list(tokens[: self.remaining])
        for i, token in enumerate(kept):
            if token in self.end_tokens:
                del kept[i + 1 :]
                self.finish = Finish.END
                break
        self.output_tokens += len(kept)
        self.last = kept[-1]
        if self.finish is None and self.remaining == 0:
            self.finish = Finish.LENGTH
        return int32s(kept)

    def figures(self) -> Figures:
        return Figures(
            prompt_tokens=len(self.request.prompt),
            output_tokens=self.output_tokens,
            steps=self.steps,
            drafted_steps=self.drafted_steps,
            drafted=self.drafted,
            accepted=self.accepted,
            seconds=time.perf_counter() - self.started,
        )

    def committed(self, tokens: Int32Array, logprobs: Logprobs | None = None) -> Committed:
        return Committed(self.request.sequence_id, tokens, self.finish, self.figures(), logprobs)


@dataclass(slots=True)
class Prefill:
    """A sequence whose prompt is worked off in slot `slot`: `at` tokens of it are, with these rows."""

    sequence: Running
    slot: int
    at: int = 0
    rows: list[Rows] = field(default_factory=list[Rows])
