"""What the target predicted along one sequence, from its arrival to its journal record.

A prediction that follows a committed token waits for that token's successor and goes with it, so that
both take their context from one record. Those after rejected nodes and in the prompt carry their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrieval_draft.step import Rows
from retrieval_draft.store.records import ROW_CONTEXT_TOKENS, ROW_WIDTH, packed_logprobs
from retrieval_draft.tree import BoolArray, DraftTree, Int32Array, Int64Array

OWN_ROWS_MAX = 1024

UInt8Array = npt.NDArray[np.uint8]
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
        self._own: list[tuple[Int32Array, Rows]] = []  # contexts
        self._path: list[tuple[Int64Array, Rows]] = []  # positions
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
        if positions.min() >= max(low, learned_to - 1) and positions.max() < stop:
            self._path.append((positions, rows))
            self.path_count += len(rows)
            return
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
        self._own.append((contexts[own], _some(rows, own)))
        self._path.append((positions[on_path], _some(rows, on_path)))
        self.own_count += int(own.sum())
        self.path_count += int(on_path.sum())

    def cut(self, base: int) -> None:
        """The sequence changed from position `base` on: what followed those tokens is void."""
        self._keep_path([(at, rows, at < base) for at, rows in self._path])

    def take_path(self, start: int, stop: int) -> PathRows:
        """Remove and return the rows whose next token stands at start..stop-1, the last of each."""
        if not self._path:
            return PathRows(np.empty(0, np.int64), *_widened([]))
        tokens, packed = _widened([rows for _, rows in self._path])
        positions = np.concatenate([at for at, _ in self._path])
        self._keep_path([(at, rows, at >= stop - 1) for at, rows in self._path])
        within = np.flatnonzero((positions >= start - 1) & (positions < stop - 1))
        last = within[_last_of_each(positions[within])]
        return PathRows(positions[last], tokens[last], packed[last])

    def take_own(self) -> list[OwnRows]:
        """Remove and return the rows with contexts of their own: the last after every token.

        In pieces of at most OWN_ROWS_MAX, oldest first.
        """
        contexts = np.concatenate([context for context, _ in self._own])
        tokens, packed = _widened([rows for _, rows in self._own])
        self._own, self.own_count = [], 0
        last = np.sort(_last_of_each(contexts[:, -1]))
        return [
            OwnRows(contexts[some], tokens[some], packed[some])
            for first in range(0, len(last), OWN_ROWS_MAX)
            for some in (last[first : first + OWN_ROWS_MAX],)
        ]

    def _keep_path(self, parts: list[tuple[Int64Array, Rows, BoolArray]]) -> None:
        self._path = [(at[kept], _some(rows, kept)) for at, rows, kept in parts if kept.any()]
        self.path_count = sum(len(at) for at, _ in self._path)


def _some(rows: Rows, chosen: BoolArray) -> Rows:
    return Rows(rows.at[chosen], rows.tokens[chosen], rows.logprobs[chosen])


def _widened(parts: list[Rows]) -> tuple[Int32Array, UInt8Array]:
    """All rows behind one another, ROW_WIDTH wide, with packed log-probabilities."""
    count = sum(map(len, parts))
    tokens = np.full((count, ROW_WIDTH), -1, np.int32)
    logprobs = np.full((count, ROW_WIDTH), np.nan, np.float32)
    at = 0
    for rows in parts:
        stop, width = at + len(rows), min(ROW_WIDTH, rows.tokens.shape[1])
        tokens[at:stop, :width] = rows.tokens[:, :width]
        if rows.logprobs.size:
            logprobs[at:stop, :width] = rows.logprobs[:, :width]
        at = stop
    return tokens, packed_logprobs(logprobs)


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
