"""How many of the batch's drafted nodes are worth verifying: one cut over all trees."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.kernels import cut as kernels
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree, Float32Array, Int32Array, Proposals

_NO_NODES: Int32Array = np.empty(0, np.int32)
_NO_PRICE: Float32Array = np.empty(0, np.float32)


def cut(trees: list[DraftTree], nodes_max: int, cost: VerifyCost | None) -> list[DraftTree]:
    """Of every tree the nodes that are worth verifying; the trees themselves where that is all of them.

    At most `nodes_max` over the batch (0 = no bound); with a cost table the best prefix, in descending
    path probability, of (B + sum of p) / cost(nodes): tokens expected per millisecond. A child is never
    more probable than its parent, so what is kept is a tree again.

    Drawn children (`Proposals`) descend in probability in the order drawn, whichever was drawn, so that
    what goes is the tail of their group. But whether a node stays must not depend on what was drawn for
    it, through the worth of what stands below it: with drawn trees the prefix ends where the gain first
    falls, which only what comes before can bring about.
    """
    lengths = [len(tree) for tree in trees]
    total = sum(lengths)
    if total == 0 or (cost is None and (nodes_max == 0 or total <= nodes_max)):
        return trees
    probability = np.concatenate([tree.probability for tree in trees], dtype=np.float32)
    keep = np.zeros(total, np.bool_)
    kept = kernels.cut(
        probability,
        len(trees),
        nodes_max,
        _NO_NODES if cost is None else cost.nodes,
        _NO_PRICE if cost is None else cost.milliseconds,
        int(any(tree.proposals is not None for tree in trees)),
        keep,
    )
    if kept == total:
        return trees
    found: list[DraftTree] = []
    first = 0
    for tree, length in zip(trees, lengths, strict=True):
        found.append(_part(tree, keep[first : first + length]) if length else tree)
        first += length
    return found


def probability_floor(cost: VerifyCost | None, sequences: int) -> float:
    """No node less probable than this pays for itself, whatever else is drafted.

    The best rate is at least that of drafting nothing, so a node has to bring the cheapest step of the
    table at that rate.
    """
    if cost is None or len(cost.nodes) < 2 or cost.plain_ms <= 0:
        return 0.0
    slope = kernels.gentlest(cost.nodes, cost.milliseconds)
    return max(0.0, FLOOR_SHARE * slope * sequences / cost.plain_ms)


FLOOR_SHARE = 0.5
"""Growth orders nodes before they are mapped: what it thinks half as probable may still be worth it."""


def milliseconds(cost: VerifyCost, count: int) -> npt.NDArray[np.float64]:
    """The price of 0..count-1 nodes; beyond the table its last slope goes on."""
    nodes, price = cost.nodes.astype(np.float64), cost.milliseconds.astype(np.float64)
    asked = np.arange(count, dtype=np.float64)
    within = np.interp(asked, nodes, price)
    slope = (price[-1] - price[-2]) / (nodes[-1] - nodes[-2]) if len(nodes) > 1 else 0.0
    beyond = np.maximum(asked - nodes[-1], 0.0) * max(slope, 0.0)
    price_of: npt.NDArray[np.float64] = np.maximum(within + beyond, kernels.PRICE_MIN)
    return price_of


def _part(tree: DraftTree, keep: npt.NDArray[np.bool_]) -> DraftTree:
    flags: list[bool] = keep.tolist()
    most = sum(flags)
    if most == len(flags):
        return tree
    if tree.proposals is None and not any(b > a for a, b in pairwise(flags)):
        # The first ones: their parents stand where they stood.
        return DraftTree(
            tree.token[:most], tree.parent[:most], tree.probability[:most], tree.source[:most]
        )
    return pruned(tree, np.flatnonzero(keep))


def pruned(tree: DraftTree, nodes: npt.NDArray[np.intp]) -> DraftTree:
    """The tree of these nodes, ascending, which must contain every node's parent."""
    place = np.full(len(tree) + 1, -1, np.int32)
    place[nodes + 1] = np.arange(len(nodes), dtype=np.int32)
    parent = place[tree.parent[nodes] + 1]
    proposals = tree.proposals
    if proposals is not None:
        rows = np.flatnonzero(np.isin(proposals.nodes, tree.parent[nodes]))
        proposals = Proposals(
            place[proposals.nodes[rows] + 1], proposals.tokens[rows], proposals.probabilities[rows]
        )
    return DraftTree(
        tree.token[nodes], parent, tree.probability[nodes], tree.source[nodes], proposals
    )
