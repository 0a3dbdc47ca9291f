"""How many nodes each tree of a batch may have: a forward is as wide as the largest of them.

Whoever has fewer nodes is filled up, so nodes are not priced one by one: once one sequence verifies w,
all others may verify w for nothing.
"""

from collections.abc import Iterable

import numpy as np

from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree


def best_width(
    trees: Iterable[DraftTree], sequences: int, cost: VerifyCost, spent_ms: float = 0.0
) -> int:
    """The width of most tokens per millisecond: (sequences + expected) / (spent + cost of the width).

    `cost` is by the nodes of the largest tree. O(nodes log nodes).

    Drawn trees stay as they are: whether a node is verified must not depend on what was drawn.
    """
    drafted = [tree for tree in trees if len(tree)]
    widest = max(map(len, drafted), default=0)
    if any(tree.proposals is not None for tree in drafted):
        return widest
    kept = [np.sort(tree.probability)[::-1] for tree in drafted]
    added = np.zeros(widest, np.float64)
    for probability in kept:
        added[: len(probability)] += probability
    tokens = sequences + np.concatenate([[0.0], np.cumsum(added)])
    took = spent_ms + np.interp(np.arange(widest + 1), cost.nodes, cost.milliseconds)
    return int(np.argmax(tokens / np.maximum(took, 1e-9)))


def first_nodes(tree: DraftTree, width: int) -> DraftTree:
    """Its first nodes, which keep their numbers; a drafter lists what it holds likely first."""
    if len(tree) <= width:
        return tree
    return DraftTree(
        tree.token[:width], tree.parent[:width], tree.probability[:width], tree.source[:width]
    )
