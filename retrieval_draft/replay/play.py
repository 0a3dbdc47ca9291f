"""The replay itself: draft, walk the recorded truth, commit what was accepted and one token more.

A node is accepted when the recorded output goes on with it: exact for sample-and-match verification,
greedy or not, because there the target's choice does not depend on the draft.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from retrieval_draft.replay.drafter import Drafter, rows_between
from retrieval_draft.replay.sequences import Recorded
from retrieval_draft.tree import DraftTree, Float32Array, Int32Array, UInt32Array

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(slots=True)
class Trace:
    """What happened, step by step and node by node; columns are filled as the replay goes."""

    gained: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answer_seconds: list[float] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    """Of every step: output tokens of the whole file before it."""
    trees: list[DraftTree] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    """Steps before every sequence, and all of them last."""

    @property
    def mat(self) -> float:
        """Tokens gained per step, the bonus token included; 0 without a step."""
        return sum(self.gained) / max(1, len(self.gained))

    def add(self, tree: DraftTree, path: list[int], gained: int, drafter: Drafter, at: int) -> None:
        """One step of this drafter."""
        self.gained.append(gained)
        self.kept.append(len(path))
        self.nodes.append(len(tree))
        self.expected.append(float(tree.probability.sum()))
        self.seconds.append(drafter.seconds)
        self.answer_seconds.append(drafter.answer_seconds)
        self.at.append(at)
        self.trees.append(tree)
        self.paths.append(path)


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Every node that was drafted, in order; depth 1 follows the last committed token."""

    probability: Float32Array
    source: UInt32Array
    depth: Int32Array
    kept: npt.NDArray[np.bool_]


def play(
    drafter: Drafter,
    sequences: Sequence[Recorded],
    advance: Callable[[], None] = lambda: None,
) -> Trace:
    """Replay the sequences one after the other; `advance` is called after each."""
    trace = Trace()
    before = 0
    for sequence in sequences:
        play_one(drafter, sequence, trace, before)
        before += len(sequence.output)
        trace.bounds.append(len(trace.gained))
        advance()
    return trace


def play_one(drafter: Drafter, sequence: Recorded, trace: Trace, before: int) -> None:
    """One sequence, of a file with `before` output tokens before it.

    Rows go with the tokens that verification commits them with: those after the last committed token
    and every accepted node. Those after rejected nodes are unknown to a replay.
    """
    prompt, output = sequence.prompt, sequence.output
    length = len(prompt)
    drafter.open(prompt, rows_between(sequence, 0, length), sequence.temperature)
    drafter.commit(output[:1], -1, None)  # the prefill yields the first token
    at = 1
    while at < len(output):
        tree = drafter.draft()
        path = tree.follow(output[at : at + len(tree)].tolist())
        new = output[at : at + len(path) + 1]
        trace.add(tree, path, len(new), drafter, before + at)
        rows = rows_between(sequence, length + at - 1, length + at + len(path))
        drafter.commit(new, len(path), rows)
        at += len(new)
    drafter.close()


def nodes_of(trace: Trace) -> Nodes:
    """The trace's trees as columns. O(nodes x depth), vectorised."""
    sizes = np.array(trace.nodes, np.int64)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    parent = _joined([tree.parent for tree in trace.trees], np.int64)
    above = np.where(parent < 0, -1, parent + first)
    depth = np.ones(len(parent), np.int32)
    open_ = np.flatnonzero(above >= 0)
    node = above.copy()
    while len(open_):
        depth[open_] += 1
        node[open_] = above[node[open_]]
        open_ = open_[node[open_] >= 0]
    kept = np.zeros(len(parent), np.bool_)
    lengths = np.array([len(path) for path in trace.paths], np.int64)
    starts = np.cumsum(sizes) - sizes
    kept[np.repeat(starts, lengths) + _joined([np.array(p) for p in trace.paths], np.int64)] = True
    return Nodes(
        _joined([tree.probability for tree in trace.trees], np.float32),
        _joined([tree.source for tree in trace.trees], np.uint32),
        depth,
        kept,
    )


def _joined(parts: Sequence[npt.NDArray[np.generic]], dtype: type[_Number]) -> npt.NDArray[_Number]:
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)
