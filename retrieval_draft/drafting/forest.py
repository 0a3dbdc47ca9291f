"""The trees that `mix` grew for a batch, in one block, until the tokens that decide over them come."""

import numpy as np

from retrieval_draft.drafting.budget import pruned
from retrieval_draft.drafting.kernels.growth import (
    KEEP,
    PARENT,
    PLANES,
    PROBABILITY,
    SOURCE,
    TOKEN,
)
from retrieval_draft.drafting.kernels.stepping import ADDRESS, GROWN, LEFT, NUMBERS
from retrieval_draft.tree import (
    DraftTree,
    Float32Array,
    Int32Array,
    Int64Array,
    UInt32Array,
)

INT32, UINT32, FLOAT32 = np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.float32)
"""Made once: an array of a dtype is allocated in half the time of one of a class."""
INT64 = np.dtype(np.int64)


class Forest:
    """block int32[PLANES, trees, nodes], of which tree i has numbers[GROWN, i]; see kernels/stepping."""

    def __init__(self, rows: Int64Array, shape: int, nodes_max: int) -> None:
        """For a tree of each of `rows` (kernels/contexts); `shape` is 1 for chains."""
        self.rows = rows
        count = len(rows)
        self.block: Int32Array = np.empty((PLANES, count, nodes_max), INT32)
        self.numbers: Int64Array = np.zeros((NUMBERS, count), INT64)
        self._shape = shape
        self._stride = count * nodes_max
        self._counts: list[list[int]] = []
        self._probability: Float32Array = self.block[PROBABILITY].view(FLOAT32)
        self._source: UInt32Array = self.block[SOURCE].view(UINT32)

    @property
    def counts(self) -> list[list[int]]:
        """Rows of `numbers`, once a step is over."""
        if not self._counts:
            self._counts = self.numbers.tolist()
        return self._counts

    def tree(self, i: int, nodes_max: int | None = None) -> DraftTree:
        """Tree i as it grew, its first nodes at most: in the order of growth every prefix is a tree."""
        size = self.counts[GROWN][i]
        return self._first(i, size if nodes_max is None else min(size, nodes_max))

    def left(self, i: int) -> DraftTree:
        """What is worth verifying of tree i, where the batch was cut (`budget.cut`)."""
        count = self.counts[LEFT][i]
        return self._first(i, count) if count >= 0 else self._some(i)

    def source(self, i: int) -> UInt32Array:
        """Of tree i's nodes; writable."""
        return self._source[i, : self.counts[GROWN][i]]

    def address(self, i: int) -> tuple[int, int, int, int]:
        """Columns PLANE to SHAPE of a row that has tree i judged (kernels/contexts)."""
        counts = self.counts
        return counts[ADDRESS][i], self._stride, counts[GROWN][i], self._shape

    def _first(self, i: int, count: int) -> DraftTree:
        block = self.block
        return DraftTree(
            block[TOKEN, i, :count],
            block[PARENT, i, :count],
            self._probability[i, :count],
            self._source[i, :count],
        )

    def _some(self, i: int) -> DraftTree:
        """Those that were kept."""
        size = self.counts[GROWN][i]
        nodes = np.flatnonzero(self.block[KEEP, i, :size])
        return pruned(self._first(i, size), nodes)
