"""How many of the batch's drafted nodes are worth verifying: one cut over all trees."""

from itertools import accumulate, pairwise

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
    # Lists and plain loops from here on: for the nodes of a batch numpy's calls cost several times as much.
    probability = np.concatenate([tree.probability for tree in trees])
    order: list[int] = np.argsort(-probability, kind="stable").tolist()
    if nodes_max:
        del order[nodes_max:]
    if cost is not None:
        gain = [float(len(trees)), *probability[order].tolist()]
        drawn = any(tree.proposals is not None for tree in trees)
        rate = [a / b for a, b in zip(accumulate(gain), milliseconds(cost, len(gain)), strict=True)]
        del order[_first_fall(rate) if drawn else rate.index(max(rate)) :]
    if len(order) == total:
        return None
    owner: list[tuple[list[int], int]] = []
    nodes: list[list[int]] = []
    for tree in trees:
        nodes.append([])
        owner += [(nodes[-1], len(owner))] * len(tree)
    for node in sorted(order):
        of_tree, first = owner[node]
        of_tree.append(node - first)
    return [np.array(some, np.intp) for some in nodes]


def _first_fall(rate: list[float]) -> int:
    return next((i for i, (a, b) in enumerate(pairwise(rate)) if b < a), len(rate) - 1)


FLOOR_SHARE = 0.5
"""Growth orders nodes before they are mapped: what it thinks half as probable may still be worth it."""


def probability_floor(cost: VerifyCost | None, sequences: int) -> float:
    """No node less probable than this pays for itself, whatever else is drafted.

    The best rate is at least that of drafting nothing, so a node has to bring the cheapest step of the
    table at that rate.
    """
    if cost is None or len(cost.nodes) < 2 or cost.milliseconds[0] <= 0:
        return 0.0
    nodes: list[int] = cost.nodes.tolist()
    price: list[float] = cost.milliseconds.tolist()
    steps = zip(pairwise(nodes), pairwise(price), strict=True)
    slope = min((above - below) / (high - low) for (low, high), (below, above) in steps)
    return max(0.0, FLOOR_SHARE * slope * sequences / price[0])


def milliseconds(cost: VerifyCost, count: int) -> list[float]:
    """The price of 0..count-1 nodes; beyond the table its last slope goes on."""
    nodes: list[int] = cost.nodes.tolist()
    price: list[float] = cost.milliseconds.tolist()
    found: list[float] = []
    slope = 0.0
    for (low, high), (below, above) in zip(pairwise(nodes), pairwise(price), strict=True):
        slope = (above - below) / (high - low)
        found += [below + slope * i for i in range(min(high, count) - low)]
    last, slope = price[-1], max(slope, 0.0)
    found += [last + slope * i for i in range(count - nodes[-1])]
    return [max(one, 1e-9) for one in found]


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
