"""Goodput: tokens per unit of verification cost, where a step with n drafted nodes costs 1 + g * n.

Decoding without drafts has goodput 1. The price rule keeps of every tree the best prefix of
(1 + sum of p) / cost(nodes), so it needs probabilities that are right; it is held against the best of the
fixed budgets, which are chosen with hindsight.
"""

from dataclasses import dataclass

import numpy as np

from retrieval_draft.replay.figures import Figures
from retrieval_draft.step import VerifyCost

PRICES = (0.002, 0.01, 0.03, 0.1)
"""g: 0.002 is an idle accelerator, 0.1 a saturated one."""
FIXED_NODES = (8, 16, 64)
"""Budgets that the rule is held against, beside drafting nothing."""
NODES_MAX = max(FIXED_NODES)


@dataclass(frozen=True, slots=True)
class Goodput:
    """The price rule of one method at one price, and the fixed budgets there (0 = plain decoding)."""

    file: str
    method: str
    price: float
    goodput: float
    nodes: float
    fixed: dict[int, float]
    best_fixed: int
    """The budget that would have been best."""
    ratio: float
    """The rule's goodput over the best fixed budget's."""


def verify_cost(price: float) -> VerifyCost:
    """1 + g * n milliseconds."""
    nodes = np.array([0, NODES_MAX], np.int32)
    return VerifyCost(nodes, (1 + price * nodes).astype(np.float32))


def goodput_of(figures: Figures, price: float) -> float:
    """Tokens per unit of cost of a replay."""
    return figures.mat / (1 + price * figures.nodes)


def goodput(
    file: str, method: str, price: float, priced: Figures, fixed: dict[int, Figures]
) -> Goodput:
    """The rule's run `priced` against the runs of the fixed budgets."""
    by_nodes = {0: 1.0, **{n: goodput_of(one, price) for n, one in fixed.items()}}
    best = max(by_nodes, key=lambda nodes: by_nodes[nodes])
    reached = goodput_of(priced, price)
    ratio = reached / by_nodes[best]
    return Goodput(file, method, price, reached, priced.nodes, by_nodes, best, ratio)
