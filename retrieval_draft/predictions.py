"""What the target predicted along one sequence, from its arrival to its journal record.

A prediction that follows a committed token waits for that token's successor and goes with it, so that
both take their context from one record. Those after rejected nodes and in the prompt carry their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrieval_draft.step import Rows
from retrieval_draft.store.records import (
    LOGPROB_NONE,
    ROW_CONTEXT_TOKENS,
    ROW_WIDTH,
    packed_logprobs,
)
from retrieval_draft.tree import DraftTree, Int32Array

OWN_ROWS_MAX = 1024

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
ReadTokens = Callable[[int, int], Int32Array]
"""The sequence's tokens at positions start..stop-1, which it must keep."""


class OwnRows(NamedTuple):
    """contexts int32[r, ROW_CONTEXT_TOKENS], tokens int32[r, ROW_WIDTH], packed uint8[r, ROW_WIDTH]."""

    contexts: Int32Array
    tokens: Int32Array
    packed: UInt8Array


class PathRows(NamedTuple):
    """positions int64[r], each after its row's last context token; tokens and packed as in OwnRows."""

    positions: Int64Array
    tokens: Int32Array
    packed: UInt8Array


class Predictions:
    """Rows of one sequence that are not journalled yet.

    What is learned of the sequence begins at `learn_from`: a row before it gives one token of context
    away and no more.
    """

    def __init__(self, learn_from: int) -> None:
        self._learn_from = learn_from
        self._own: list[OwnRows] = []
        self._path: list[PathRows] = []
        self.own_count = 0
        self.path_count = 0

    def add(
        self,
        rows: Rows,
        verified: DraftTree | None,
        base: int,
        learned_to: int,
        low: int,
        stop: int,
        read: ReadTokens,
    ) -> None:
        """Take rows of a step that committed positions base..stop-1 of low..stop-1, from `verified`.

        Rows after a node of an unknown tree, and after positions that are not kept, are dropped.
        """
        positions = rows.at.astype(np.int64)
        nodes = -1 - positions
        contexts = np.full((len(rows), ROW_CONTEXT_TOKENS), -1, np.int32)
        if verified is not None and (nodes >= 0).any():
            path = verified.follow(read(base, stop).tolist())
            for i in np.flatnonzero((nodes >= 0) & (nodes < len(verified))).tolist():
                if int(nodes[i]) in path:
                    positions[i] = base + path.index(int(nodes[i]))
                else:
                    _end_with(contexts[i], _node_context(verified, int(nodes[i]), base, low, read))
        committed = (positions >= low) & (positions < stop)
        on_path = committed & (positions >= learned_to - 1)
        for i in np.flatnonzero(committed & ~on_path).tolist():
            at = int(positions[i])
            most = ROW_CONTEXT_TOKENS if at >= self._learn_from else 1
            _end_with(contexts[i], read(max(low, at + 1 - most), at + 1).tolist())
        own = contexts[:, -1] >= 0
        tokens, packed = _widened(rows)
        self._own.append(OwnRows(contexts[own], tokens[own], packed[own]))
        self._path.append(PathRows(positions[on_path], tokens[on_path], packed[on_path]))
        self.own_count += int(own.sum())
        self.path_count += int(on_path.sum())

    def cut(self, base: int) -> None:
        """The sequence changed from position `base` on: what followed those tokens is void."""
        if self.path_count:
            rows = self._joined_path()
            self._keep(rows, rows.positions < base)

    def take_path(self, start: int, stop: int) -> PathRows:
        """Remove and return the rows whose next token stands at start..stop-1, the last of each."""
        if not self.path_count:
            return _no_path()
        rows = self._joined_path()
        self._keep(rows, rows.positions >= stop - 1)
        within = np.flatnonzero((rows.positions >= start - 1) & (rows.positions < stop - 1))
        last = within[_last_of_each(rows.positions[within])]
        last = last[np.argsort(rows.positions[last], kind="stable")]
        return PathRows(rows.positions[last], rows.tokens[last], rows.packed[last])

    def take_own(self) -> list[OwnRows]:
        """Remove and return the rows with contexts of their own: the last after every token.

        In pieces of at most OWN_ROWS_MAX, oldest first.
        """
        rows = OwnRows(*map(np.concatenate, zip(*self._own, strict=True)))
        self._own, self.own_count = [], 0
        last = np.sort(_last_of_each(rows.contexts[:, -1]))
        return [
            OwnRows(rows.contexts[some], rows.tokens[some], rows.packed[some])
            for first in range(0, len(last), OWN_ROWS_MAX)
            for some in (last[first : first + OWN_ROWS_MAX],)
        ]

    def _joined_path(self) -> PathRows:
        return PathRows(*map(np.concatenate, zip(*self._path, strict=True)))

    def _keep(self, rows: PathRows, kept: npt.NDArray[np.bool_]) -> None:
        self._path = [PathRows(rows.positions[kept], rows.tokens[kept], rows.packed[kept])]
        self.path_count = int(kept.sum())


def _widened(rows: Rows) -> tuple[Int32Array, UInt8Array]:
    width = min(ROW_WIDTH, rows.tokens.shape[1])
    tokens = np.full((len(rows), ROW_WIDTH), -1, np.int32)
    tokens[:, :width] = rows.tokens[:, :width]
    packed = np.full((len(rows), ROW_WIDTH), LOGPROB_NONE, np.uint8)
    if rows.logprobs.size:
        packed[:, :width] = packed_logprobs(rows.logprobs[:, :width])
    return tokens, packed


def _node_context(tree: DraftTree, node: int, base: int, low: int, read: ReadTokens) -> list[int]:
    """The last tokens down to this node of a tree that stands at position `base`."""
    tokens: list[int] = []
    while node >= 0 and len(tokens) < ROW_CONTEXT_TOKENS:
        tokens.insert(0, int(tree.token[node]))
        node = int(tree.parent[node])
    missing = ROW_CONTEXT_TOKENS - len(tokens)
    return [*read(max(low, base - missing), base).tolist(), *tokens]


def _end_with(context: Int32Array, tokens: list[int]) -> None:
    if tokens:
        context[-len(tokens) :] = tokens


def _last_of_each(keys: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Where every value stands last."""
    at: npt.NDArray[np.intp] = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
    return at


def _no_path() -> PathRows:
    return PathRows(
        np.empty(0, np.int64),
        np.empty((0, ROW_WIDTH), np.int32),
        np.empty((0, ROW_WIDTH), np.uint8),
    )
