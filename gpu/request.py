"""What is asked of the decoder, and what comes back: requests, committed tokens, figures."""

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
