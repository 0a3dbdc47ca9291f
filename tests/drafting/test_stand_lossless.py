"""What proposals are for: verified by recursive rejection, drawn drafts do not change the target's law.

The rule (SpecInfer's, for children drawn without replacement): the next child x is kept with probability
min(1, p(x) / q(x)); else p becomes what of it q did not cover, and q loses x.
"""

import numpy as np
import pytest

from retrieval_draft.drafting.budget import cut
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.drafting.stand import StandMethod
from retrieval_draft.drafting.templates import Template
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree, int32s
from tests.drafting.sights import VOCAB, sight

TOKENS = (3, 4, 5)
# Far from the target, and 4 has nothing below it, so that the cuts below depend on what was drawn.
TABLE: dict[tuple[int, ...], dict[int, float]] = {
    (2,): {3: 0.2, 4: 0.7, 5: 0.1},
    (3,): {3: 0.5, 4: 0.3, 5: 0.2},
    (5,): {4: 0.9, 5: 0.1},
}
FIRST = {3: 0.5, 4: 0.2, 5: 0.3}
SECOND = {3: {3: 0.1, 4: 0.6, 5: 0.3}, 4: {3: 0.4, 4: 0.3, 5: 0.3}, 5: {3: 0.3, 4: 0.2, 5: 0.5}}
METHOD = StandMethod(Template((-1, -1, 0, 0, 1), (0, 1, 0, 1, 0)))
COST = VerifyCost(int32s([0, 2, 5]), np.array([1.0, 1.3, 1.6], np.float32))
QUANTILE_99_99 = 31.83
"""Of chi-squared with 8 degrees of freedom."""


def law(weights: dict[int, float]) -> np.ndarray:
    p = np.zeros(VOCAB)
    p[list(weights)] = list(weights.values())
    return p


def next_token(
    tree: DraftTree, node: int, target: np.ndarray, coin: np.random.Generator
) -> tuple[int, int | None]:
    """The token after this node, and which child was kept for it."""
    p, q = target.copy(), np.zeros(VOCAB)
    drawn = tree.proposals
    assert drawn is not None
    for row in np.flatnonzero(drawn.nodes == node):
        q[drawn.tokens[row][drawn.tokens[row] >= 0]] = drawn.probabilities[row][
            drawn.tokens[row] >= 0
        ]
    for child in np.flatnonzero(tree.parent == node).tolist():
        x = int(tree.token[child])
        if coin.random() * q[x] < p[x]:
            return x, child
        p = np.maximum(p - q, 0)
        p /= p.sum()
        q[x] = 0
        q /= max(q.sum(), 1e-30)
    return int(coin.choice(VOCAB, p=p)), None


@pytest.mark.parametrize("bound", ["none", "nodes", "price"])
def test_two_tokens_have_the_targets_law(bound: str) -> None:
    seen, coin = sight([2], expected=TABLE), np.random.default_rng(7)
    counts: dict[tuple[int, int], int] = {(a, b): 0 for a in TOKENS for b in TOKENS}
    trials = 3000
    accepted = 0
    for seed in range(trials):
        tree = METHOD.draft(seen, Limits(nodes_max=9, temperature=1.0, seed=1 + seed)).tree
        if bound != "none":
            (tree,) = cut([tree], 3, None) if bound == "nodes" else cut([tree], 0, COST)
        first, child = next_token(tree, -1, law(FIRST), coin)
        second = int(coin.choice(VOCAB, p=law(SECOND[first])))
        if child is not None:
            second, below = next_token(tree, child, law(SECOND[first]), coin)
            accepted += 1 + (below is not None)
        counts[first, second] += 1
    expected = {pair: trials * FIRST[pair[0]] * SECOND[pair[0]][pair[1]] for pair in counts}
    distance = sum((counts[pair] - e) ** 2 / e for pair, e in expected.items())
    assert distance < QUANTILE_99_99
    assert accepted > trials / 2, "and something is gained"
