"""How many of the batch's drafted nodes are worth verifying: one cut over all trees."""

import numpy as np
import numpy.typing as npt

from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree, Proposals


def kept(
    trees: list[DraftTree], nodes_max: int, cost: VerifyCost | None
) -> list[npt.NDArray[np.intp]] | None:
    """Per tree the nodes to keep, ascending, or None for all.

    At most `nodes_max` over the batch (0 = no bound); with a cost table the best prefix, in descending
    path probability, of (B + sum of p) / cost(nodes): tokens expected per millisecond. A child is never
    more probable than its parent, so what is kept is a tree again.

    Drawn children (`Proposals`) descend in probability in the order drawn, whichever was drawn, so that
    what goes is the tail of their group. But whether a node stays must not depend on what was drawn for
    it, through the worth of what stands below it: with drawn trees the prefix ends where the gain first
    falls, which only what comes before can bring about.
    """
    total = sum(map(len, trees))
    if total == 0 or (cost is None and (nodes_max == 0 or total <= nodes_max)):
        return None
    probability = np.concatenate([tree.probability for tree in trees]).astype(np.float64)
    order = np.argsort(-probability, kind="stable")
    if nodes_max:
        order = order[:nodes_max]
    if cost is not None:
        gain = len(trees) + np.concatenate([[0.0], np.cumsum(probability[order])])
        rate = gain / milliseconds(cost, len(gain))
        drawn = any(tree.proposals is not None for tree in trees)
        order = order[: _first_fall(rate) if drawn else int(np.argmax(rate))]
    if len(order) == total:
        return None
    owner = np.repeat(np.arange(len(trees)), [len(tree) for tree in trees])
    first = np.cumsum([0, *map(len, trees)])
    return [np.sort(order[owner[order] == i]) - first[i] for i in range(len(trees))]


def _first_fall(rate: npt.NDArray[np.float64]) -> int:
    falls = np.flatnonzero(rate[1:] < rate[:-1])
    return int(falls[0]) if len(falls) else len(rate) - 1


FLOOR_SHARE = 0.5
"""Growth orders nodes before they are mapped: what it thinks half as probable may still be worth it."""


def probability_floor(cost: VerifyCost | None, sequences: int) -> float:
    """No node less probable than this pays for itself, whatever else is drafted.

    The best rate is at least that of drafting nothing, so a node has to bring the cheapest step of the
    table at that rate.
    """
    if cost is None or len(cost.nodes) < 2 or cost.milliseconds[0] <= 0:
        return 0.0
    slope = float(np.min(np.diff(cost.milliseconds) / np.diff(cost.nodes)))
    return max(0.0, FLOOR_SHARE * slope * sequences / float(cost.milliseconds[0]))


def milliseconds(cost: VerifyCost, count: int) -> npt.NDArray[np.float64]:
    """The price of 0..count-1 nodes; beyond the table its last slope goes on."""
    nodes, price = cost.nodes.astype(np.float64), cost.milliseconds.astype(np.float64)
    asked = np.arange(count, dtype=np.float64)
    within = np.interp(asked, nodes, price)
    slope = (price[-1] - price[-2]) / (nodes[-1] - nodes[-2]) if len(nodes) > 1 else 0.0
    beyond = np.maximum(asked - nodes[-1], 0.0) * max(slope, 0.0)
    price_of: npt.NDArray[np.float64] = np.maximum(within + beyond, 1e-9)
    return price_of


def pruned(tree: DraftTree, nodes: npt.NDArray[np.intp]) -> DraftTree:
    """The tree of these nodes, which must contain every node's parent."""
    most = len(nodes)
    if tree.proposals is None and (most == 0 or int(nodes[-1]) == most - 1):
        # The first ones: their parents stand where they stood.
        if most == len(tree):
            return tree
        return DraftTree(
            tree.token[:most], tree.parent[:most], tree.probability[:most], tree.source[:most]
        )
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
