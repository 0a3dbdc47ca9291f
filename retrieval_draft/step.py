"""What one decode step asks and answers, without a network: the engine's interface.

Field by field this is the wire's DraftRequest and DraftResponse, with each sequence's part cut out of
the columns. Meanings of the fields are documented once, in proto/retrieval_draft/v1/draft.proto.
"""

from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.tree import DraftTree, Float32Array, Int32Array


class TreeShape(IntEnum):
    UNSPECIFIED = 0
    TREE = 1
    CHAIN = 2


class Status(IntEnum):
    UNSPECIFIED = 0
    OK = 1
    RESYNC = 2
    REJECTED = 3


class Learning(IntEnum):
    UNSPECIFIED = 0
    OUTPUT = 1
    PROMPT_AND_OUTPUT = 2
    NONE = 3


@dataclass(frozen=True)
class VerifyCost:
    """Cost of a step of this batch by its drafted nodes; `nodes` ascends from 0."""

    nodes: Int32Array
    milliseconds: Float32Array

    @cached_property
    def plain_ms(self) -> float:
        """Of a step without drafts."""
        return float(self.milliseconds[0])

    def at(self, count: int) -> float:
        """Of so many nodes: in a straight line between two entries, and as the last one beyond it."""
        nodes, milliseconds = self._line
        above = bisect_right(nodes, count)
        if above == len(nodes):
            return milliseconds[-1]
        low, first = nodes[above - 1], milliseconds[above - 1]
        return first + (milliseconds[above] - first) * (count - low) / (nodes[above] - low)

    @cached_property
    def _line(self) -> tuple[list[int], list[float]]:
        # A table serves many steps: numbers of Python are looked at in a tenth of the time of numpy's.
        return self.nodes.tolist(), self.milliseconds.tolist()


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """How much and how to draft; 0, "" and None mean the server's default."""

    nodes_max: int = 0
    depth_max: int = 0
    children_max: int = 0
    shape: TreeShape = TreeShape.UNSPECIFIED
    method: str = ""
    batch_nodes_max: int = 0
    verify_cost: VerifyCost | None = None
    draft_us_max: int = 0
    seed: int = 0


DEFAULTS = DraftOptions()


@dataclass(frozen=True, slots=True)
class SequenceStart:
    """How a sequence opens."""

    prompt_length: int
    first_position: int = 0
    learn_from: int = 0
    learning: Learning = Learning.UNSPECIFIED
    temperature: float | None = None
    length_max: int = 0
    end_tokens: tuple[int, ...] = ()
    corpora: tuple[str, ...] = ()
    namespace: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The target's top-k predictions of one sequence's step.

    at[r] >= 0: of the token after that position; at[r] < 0: after node -1 - at[r] of the verified tree.
    tokens[r] descend in probability; logprobs are at temperature 1, or have no columns. hidden[r] is
    the target's last hidden state there, float16, where the worker sends it.
    """

    at: Int32Array
    tokens: Int32Array
    logprobs: Float32Array
    hidden: npt.NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.at)


class SequenceStep(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One sequence's part of a step."""

    sequence_id: str
    base_position: int
    tokens: Int32Array
    start: SequenceStart | None = None
    nodes_max: int | None = None
    finished: bool = False
    verified_step: int = 0
    accepted: int = -1
    rows: Rows | None = None
    model_tree: DraftTree | None = None
    verified_tree: DraftTree | None = None


class StepRequest(msgspec.Struct, frozen=True, eq=False, gc=False):
    step_id: int
    namespace: str
    client_id: str
    sequences: list[SequenceStep]
    options: DraftOptions = DEFAULTS


@dataclass(frozen=True, slots=True)
class Problem:
    """Why sequence `index` was rejected."""

    index: int
    field: str
    value: str
    limit: str
    reason: str = ""


class StepResponse(msgspec.Struct, frozen=True, eq=False, gc=False):
    step_id: int
    statuses: list[Status]
    trees: list[DraftTree]
    draft_us: int = 0
    problems: list[Problem] = []  # msgspec copies it
