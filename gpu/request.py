"""What is asked of the decoder, and what comes back: requests, committed tokens, figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.step import Learning
from retrieval_draft.tree import Float32Array, Int32Array


class Finish(IntEnum):
    """Why a sequence ended; equal to the wire's FinishReason (a test compares them)."""

    END = 1
    LENGTH = 2
    STOP = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One sequence to decode. `plain` keeps it from the drafter altogether."""

    sequence_id: str
    prompt: Int32Array
    tokens_max: int
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    plain: bool = False
    ignore_end: bool = False
    learning: Learning = Learning.UNSPECIFIED
    corpora: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many alternatives of every token are wanted with their log-probabilities; None for neither."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One sequence so far. `steps` are forwards after prefill, `drafted_steps` had a tree."""

    prompt_tokens: int
    output_tokens: int
    steps: int
    drafted_steps: int
    drafted: int
    accepted: int
    seconds: float

    @property
    def mat(self) -> float:
        """Tokens gained per step over all steps, the bonus token included; 0 without steps."""
        return (self.output_tokens - 1) / self.steps if self.steps else 0.0


@dataclass(frozen=True, slots=True)
class Total:
    """Several sequences together. Ratios are per step over all steps; 0 without steps."""

    output_tokens: int
    gained: int
    """Tokens of steps: all but the one that each prompt gave."""
    steps: int
    drafted_steps: int
    drafted: int
    accepted: int

    @classmethod
    def of(cls, figures: Sequence[Figures]) -> "Total":
        return cls(
            sum(one.output_tokens for one in figures),
            sum(one.output_tokens - 1 for one in figures),
            sum(one.steps for one in figures),
            sum(one.drafted_steps for one in figures),
            sum(one.drafted for one in figures),
            sum(one.accepted for one in figures),
        )

    @property
    def mat(self) -> float:
        """Tokens gained per step, the bonus token included."""
        return self.gained / self.steps if self.steps else 0.0

    @property
    def drafted_per_step(self) -> float:
        return self.drafted / self.steps if self.steps else 0.0

    @property
    def accepted_per_step(self) -> float:
        return self.accepted / self.steps if self.steps else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Of drafted tokens; 0 without any."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def mean_accepted_length(self) -> float:
        """As vLLM has it: 1 + accepted / drafted steps."""
        return 1 + self.accepted / self.drafted_steps if self.drafted_steps else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Logprobs:
    """Of n committed tokens, at temperature 1 and before top-k and top-p: float32[n] their own, and
    int32[n, k], float32[n, k] of the most probable ones.
    """

    chosen: Float32Array
    tokens: Int32Array
    values: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """Tokens that a sequence gained, in order; `finish` is set with the last of them."""

    sequence_id: str
    tokens: Int32Array
    finish: Finish | None
    figures: Figures
    logprobs: Logprobs | None = None
