"""The trees that `mix` grew for a batch, in one block, until the tokens that decide over them come."""

import numpy as np

from retrieval_draft.drafting.budget import pruned
from retrieval_draft.drafting.kernels import cut as kernels
from retrieval_draft.drafting.kernels.growth import (
    KEEP,
    PARENT,
    PLANES,
    PROBABILITY,
    SOURCE,
    TOKEN,
)
from retrieval_draft.drafting.kernels.judging import WORD_BYTES
from retrieval_draft.step import VerifyCost
from retrieval_draft.store.kernels.address import address_of
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
NO_NODES: Int32Array = np.empty(0, np.int32)
NO_PRICE: Float32Array = np.empty(0, np.float32)


class Forest:
    """block int32[PLANES, trees, nodes], of which tree i has sizes[i]; see kernels/growth."""

    def __init__(self, kinds: list[int], shape: int, nodes_max: int) -> None:
        """For a tree of each temperature class; `shape` is 1 for chains."""
        count = len(kinds)
        self.block: Int32Array = np.empty((PLANES, count, nodes_max), INT32)
        self.sizes: Int64Array = np.zeros(count, INT64)
        self._kinds, self._shape = kinds, shape
        self._stride = count * nodes_max
        self._address = address_of(self.block)
        self._counts: list[int] = []
        self._probability: Float32Array = self.block[PROBABILITY].view(FLOAT32)
        self._source: UInt32Array = self.block[SOURCE].view(UINT32)

    def __len__(self) -> int:
        return len(self._kinds)

    @property
    def counts(self) -> list[int]:
        """The nodes of every tree, once they have grown."""
        if not self._counts:
            self._counts = self.sizes.tolist()
        return self._counts

    def tree(self, i: int, nodes_max: int | None = None) -> DraftTree:
        """Tree i as it grew, its first nodes at most: in the order of growth every prefix is a tree."""
        size = self.counts[i]
        return self._first(i, size if nodes_max is None else min(size, nodes_max))

    def source(self, i: int) -> UInt32Array:
        """Of tree i's nodes; writable."""
        return self._source[i, : self.sizes[i]]

    def cut(self, most: list[int], nodes_max: int, cost: VerifyCost | None) -> list[DraftTree]:
        """What is worth verifying of the first most[i] nodes of every tree i, as `budget.cut` has it."""
        kept = np.empty(len(most), INT64)
        kernels.cut_block(
            self.block,
            self.sizes,
            np.array(most, INT64),
            nodes_max,
            NO_NODES if cost is None else cost.nodes,
            NO_PRICE if cost is None else cost.milliseconds,
            kept,
        )
        counts: list[int] = kept.tolist()
        return [
            self._first(i, count) if count >= 0 else self._some(i) for i, count in enumerate(counts)
        ]

    def address(self, i: int) -> tuple[int, int, int, int, int]:
        """Columns PLANE to SHAPE of tree i's row for kernels/judging."""
        first = self._address + i * self.block.shape[2] * WORD_BYTES
        return first, self._stride, self.counts[i], self._kinds[i], self._shape

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
        size = self.counts[i]
        nodes = np.flatnonzero(self.block[KEEP, i, :size])
        return pruned(self._first(i, size), nodes)
