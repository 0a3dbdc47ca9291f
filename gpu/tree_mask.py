"""Attention masks and positions of draft trees: who may look at whom.

Node 0 of a row is the root, the last committed token, at position P = the tokens cached before it.
Node i + 1 is draft node i. Entry k < P of a slot is the token at position k; node j lies at entry
P + j. A node sees every committed token, itself and its ancestors; in layers with a sliding window
of W only those less than W positions back. Masks are additive floats: 0 where allowed, else the
dtype's lowest (bool masks are silently wrong with eager attention).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.tree import BoolArray, DraftTree, Int32Array, Int64Array, int32s


@dataclass(frozen=True, slots=True)
class Masks:
    """float[B, 1, n, K] of full and of sliding attention; one tensor where nothing differs."""

    full: Tensor
    sliding: Tensor


def lineages(tree: DraftTree) -> tuple[list[int], list[int]]:
    """Of the root and every node: bits of the rows that it sees, itself (row i: bit i) and its ancestors;
    and its depth, the root's 0.
    """
    bits, depth = [1], [0]
    for i, parent in enumerate(tree.parent.tolist()):
        bits.append(bits[parent + 1] | 2 << i)
        depth.append(depth[parent + 1] + 1)
    return bits, depth


def binary(nodes: int) -> Int32Array:
    """Parents of a tree that branches in two everywhere: what measurements verify."""
    return int32s([-1 if i < 2 else i // 2 - 1 for i in range(nodes)])


def rooted(tree: DraftTree) -> tuple[BoolArray, Int64Array]:
    """bool[n+1, n+1]: column j is row i or its ancestor, root first; int64[n+1]: depth, root 0."""
    bits, depth = lineages(tree)
    n = len(bits)
    width = (n + 7) // 8
    packed = b"".join(row.to_bytes(width, "little") for row in bits)
    sees = np.unpackbits(
        np.frombuffer(packed, np.uint8).reshape(n, width), axis=1, count=n, bitorder="little"
    )
    return sees.view(np.bool_), np.array(depth, np.int64)


class MaskMaker:
    """Builds masks on `device`; keeps one buffer of nodes_max x (length + nodes_max) elements.

    The masks of `one` are views of that buffer: valid until the next call.
    """

    def __init__(
        self,
        length: int,
        nodes_max: int,
        window: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.length, self.window, self.dtype, self.device = length, window, dtype, device
        self._lowest = torch.finfo(dtype).min
        # Committed tokens end where the nodes begin, at column `length`: to the left all is zero,
        # so the mask of any P is a view, and only the n x n block of the nodes is written.
        rows = nodes_max + 1
        self._buffer = torch.zeros((rows, length + rows), dtype=dtype, device=device)
        self._columns = torch.arange(length + rows, device=device)

    def one(self, cached: int, sees: BoolArray | None, depth: Int64Array | None) -> Masks:
        """Masks [1, 1, n, cached + n] of one tree; None stands for a lone root."""
        n = 1 if sees is None else len(sees)
        if sees is not None:  # a lone root sees itself in whatever block was written last
            self._buffer[:n, self.length : self.length + n] = self._block(sees)
        full = self._buffer[None, None, :n, self.length - cached : self.length + n]
        if not self._is_windowed(cached, n):
            return Masks(full, full)
        depths = np.zeros(1, np.int64) if depth is None else depth
        position = torch.from_numpy(depths + cached).to(self.device)
        return Masks(full, self._windowed(full, position[None], torch.tensor([cached])))

    def many(
        self, cached: Tensor, cached_max: int, sees: BoolArray | None, depth: Tensor | None
    ) -> Masks:
        """Masks [B, 1, n, cached_max + n] of a ragged batch.

        `cached` int64[B]; `sees` bool[B, n, n]; `depth` int64[B, n]. A filler node must see itself,
        and what the nodes after it would have seen does not matter. None: lone roots.
        """
        n = 1 if sees is None else sees.shape[1]
        batch = len(cached)
        columns = self._columns[: cached_max + n]
        committed = columns < cached[:, None]
        full = torch.zeros(committed.shape, dtype=self.dtype, device=self.device)
        full = full.masked_fill_(~committed, self._lowest)[:, None].repeat(1, n, 1)
        block = (
            torch.zeros((batch, 1, 1), dtype=self.dtype, device=self.device)
            if sees is None
            else self._block(sees)
        )
        entries = cached[:, None, None] + columns[:n]
        full.scatter_(2, entries.expand(batch, n, n), block)
        full = full[:, None]
        if not self._is_windowed(cached_max, n):
            return Masks(full, full)
        position = cached[:, None] if depth is None else cached[:, None] + depth
        return Masks(full, self._windowed(full, position, cached))

    def chain(self, cached: int, n: int) -> Masks:
        """Masks [1, 1, n, cached + n] of n tokens in a row, for prefill."""
        shape = (n, cached + n)
        full = torch.full(shape, self._lowest, dtype=self.dtype, device=self.device)
        full.triu_(cached + 1)
        sliding = full
        if self.window is not None and self._is_windowed(cached, n):
            past = torch.full(shape, self._lowest, dtype=self.dtype, device=self.device)
            sliding = full + past.tril_(cached - self.window)
        return Masks(full[None, None], sliding[None, None])

    def _is_windowed(self, cached: int, n: int) -> bool:
        return self.window is not None and cached + n > self.window

    def _block(self, sees: BoolArray) -> Tensor:
        block = np.where(sees, np.float32(0), np.float32(self._lowest))
        return torch.from_numpy(block).to(self.device, self.dtype)

    def _windowed(self, full: Tensor, position: Tensor, cached: Tensor) -> Tensor:
        """`full` [B, 1, n, K] without what is `window` or more before a row's `position` [B, n]."""
        assert self.window is not None
        _, _, n, used = full.shape
        columns = self._columns[:used].expand(len(position), used)
        # The key at entry P + j is node j and stands at that node's position, not at its entry.
        node = (columns - cached.to(self.device)[:, None]).clamp_(0, n - 1)
        is_node = columns >= cached.to(self.device)[:, None]
        key_position = torch.where(is_node, position.gather(1, node), columns)
        near = position[:, :, None] - key_position[:, None, :] < self.window
        return full.masked_fill(~near[:, None], self._lowest)


def batched(trees: Sequence[tuple[BoolArray, Int64Array]]) -> tuple[BoolArray, Int64Array]:
    """The rooted trees of a batch filled up to the widest: bool[B, n, n] and int64[B, n].

    Filler nodes see themselves (a row that sees nothing would be NaN) and have depth 0.
    """
    n = max(len(depth) for _, depth in trees)
    sees = np.tile(np.eye(n, dtype=np.bool_), (len(trees), 1, 1))
    depth = np.zeros((len(trees), n), np.int64)
    for b, (tree_sees, tree_depth) in enumerate(trees):
        m = len(tree_depth)
        sees[b, :m, :m] = tree_sees
        depth[b, :m] = tree_depth
    return sees, depth
