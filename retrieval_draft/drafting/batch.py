"""A batch as `mix` takes it: every sequence of a step at once, in one call of its kernel.

What a sequence costs beside the kernel is most of a step for many of them; so a sequence is a row of numbers
and addresses here (kernels/contexts), and so is what it drafts from (kernels/stepping).
"""

import math

import msgspec
import numpy as np

from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.kernels.stepping import LOW, STOP
from retrieval_draft.drafting.root import Root
from retrieval_draft.step import VerifyCost
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.stand import Grams
from retrieval_draft.tree import Int32Array, Int64Array

NO_TOKENS: Int32Array = np.empty(0, np.int32)

Row = tuple[int, ...]
"""One sequence's, as in kernels/contexts. Whoever gives it to a kernel holds the arrays that it names."""
Addressed = tuple[int, int]
"""Where an int32 array begins, and how long it is."""
NO_TREE: Row = (0, 0, 0, 0, -1, 0)
NOTHING_CAME: Row = (0, 0, 0)
NOT_GROWN: Row = (-1, 0, 0, 0)


class Growing(msgspec.Struct, frozen=True, eq=False, gc=False):
    """How a batch's trees are to be grown and cut."""

    chain: bool
    children_max: int = 1 << 16
    floor: float = 0.0
    deadline: float = math.inf
    """Of time.perf_counter: who was not come to by then has an empty tree. It is looked at before every few
    trees, and every few tokens that came."""
    sequences: int = 1
    """So many of the batch are drafted for."""
    nodes_max: int = 0
    """Of the whole batch; 0 = no bound."""
    cost: VerifyCost | None = None


class Learned:
    """What a namespace's models have produced, as `mix` reads it: three parts of its learned tier.

    Each of them may be replaced as it grows; then this is of the old ones.
    """

    def __init__(self, ring: TokenRing, recycling: Recycling, expected: Grams) -> None:
        self.parts = ring, recycling, expected
        stand = (expected.keys, expected.visits, expected.tokens, expected.shares)
        arrays = (recycling.successors, recycling.logprobs, *stand)
        assert all(array.flags.c_contiguous for array in arrays), "kernels take them by address"
        successors, logprobs, *grams = (array.ctypes.data for array in arrays)
        shape = recycling.successors.shape
        self._row: Int64Array = np.array(
            [*ring.addresses, 0, 0, successors, logprobs, *shape, *grams, len(expected.keys)],
            np.int64,
        )

    def is_of(self, ring: TokenRing, recycling: Recycling, expected: Grams) -> bool:
        """Whether these are the parts."""
        its_ring, its_recycling, its_expected = self.parts
        return its_ring is ring and its_recycling is recycling and its_expected is expected

    def row(self) -> Int64Array:
        """As kernels/stepping takes it, of this moment."""
        ring = self.parts[0]
        self._row[LOW] = ring.low
        self._row[STOP] = ring.stop
        return self._row


def row_of(
    context: TokenRing,
    root: Root,
    kind: int,
    judged: Row = NO_TREE,
    came: Row = NOTHING_CAME,
    grown: Row = NOT_GROWN,
) -> Row:
    """`kind` is the temperature class.

    Columns PLANE to VERIFIED are `judged`, FIRST to TEACHING_FROM `came`, NODES_MAX to ENDS_COUNT `grown`.
    """
    return (
        *context.addresses, *root.addresses, context.low, context.stop, kind, *judged, *came, *grown
    )  # fmt: skip


def judged_row(forest: Forest, i: int, verified: bool, accepted: int) -> Row:
    """Tree i of `forest`. If it was verified, `accepted` of its nodes were kept; -1 = all that agree."""
    return (*forest.address(i), accepted, verified)


def addressed(array: Int32Array) -> Addressed:
    return array.ctypes.data, len(array)


def joined(parts: list[Int32Array]) -> Int32Array:
    """One after another, for kernels that take a batch's in one array."""
    if len(parts) == 1:
        return parts[0]
    came = [part for part in parts if len(part)]
    return np.concatenate(came) if came else NO_TOKENS
