"""STAND's drafts on tables that fit on a line, and that what is drawn is drawn from what it says."""

from collections import Counter

import numpy as np
import pytest

from retrieval_draft.drafting.budget import cut
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.drafting.stand import StandMethod, noise_at
from retrieval_draft.drafting.templates import Template
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, Proposals, int32s
from tests.drafting.sights import ends, sight
from tests.engine.driving import listed

# The root's best two, the best one's best two, and the second one's best.
SMALL = StandMethod(Template((-1, -1, 0, 0, 1), (0, 1, 0, 1, 0)))
TABLE = {
    (1, 2): {3: 0.5, 4: 0.25, 5: 0.125},
    (2,): {9: 1.0},
    (2, 3): {6: 0.5, 7: 0.25},
    (4,): {8: 0.5},
}
GREEDY = Limits(nodes_max=80)


def test_each_place_takes_the_rank_of_the_longest_known_n_gram() -> None:
    tree, index = SMALL.fill(sight([0, 1, 2], expected=TABLE), GREEDY)
    # [1, 2] is known, so [2] is not asked; below 4 only the last token is known.
    assert listed(tree) == [(3, -1), (4, -1), (6, 0), (7, 0), (8, 1)]
    assert tree.probability.tolist() == pytest.approx([0.5, 0.25, 0.25, 0.125, 0.125], abs=1e-4)
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert tree.proposals is None
    assert set(tree.source.tolist()) == {1 << TIERS["learned"] | 1 << SOURCES["stand"]}


def test_places_that_nothing_fills_are_left_out_with_all_below_them() -> None:
    few: dict[tuple[int, ...], dict[int, float]] = {(2,): {9: 1.0, 4: 0.0}, (9,): {9: 0.5, 3: 0.25}}
    tree, index = SMALL.fill(sight([2], expected=few), GREEDY)
    assert listed(tree) == [(9, -1), (9, 0), (3, 0)]
    assert index.tolist() == [0, 2, 3]


def test_nothing_follows_an_end_token_and_a_chain_has_one_child_each() -> None:
    seen = sight([1, 2], expected=TABLE)
    tree = SMALL.fill(seen, Limits(nodes_max=80, end_tokens=ends(3)))[0]
    assert listed(tree) == [(3, -1), (4, -1), (8, 1)]
    chain = SMALL.fill(seen, Limits(nodes_max=80, chain=True))[0]
    assert listed(chain) == [(3, -1), (6, 0)]


def test_the_first_of_80_nodes_are_drawn_the_same_when_asked_again() -> None:
    seen = sight([1, 2], expected=TABLE)
    warm = Limits(nodes_max=80, temperature=1.0, seed=2**64 - 1, draws=2**64 - 1)
    one, other = (StandMethod().draft(seen, warm).tree for _ in range(2))
    assert listed(one) == listed(other)
    assert noise_at(1, 2, 31, 4).tolist() == noise_at(1, 2, 31, 4).tolist()
    apart = [
        noise_at(*place, 4).tolist() for place in ((1, 2, 31), (1, 2, 32), (1, 3, 31), (2, 2, 31))
    ]
    assert len({str(noise) for noise in apart}) == 4


def test_children_are_drawn_without_replacement_with_the_probabilities_they_carry() -> None:
    seen = sight([1, 2], expected={(2,): {3: 0.4, 4: 0.2, 5: 0.2}})
    pair = StandMethod(Template((-1, -1), (0, 1)))
    drawn: Counter[tuple[int, ...]] = Counter()
    trials = 6000
    row: list[float] = []
    for seed in range(1, 1 + trials):
        tree = pair.fill(seen, Limits(nodes_max=2, temperature=1.0, seed=seed))[0]
        drawn[tuple(tree.token.tolist())] += 1
        assert tree.proposals is not None
        assert tree.proposals.nodes.tolist() == [-1]
        assert tree.probability.tolist() == pytest.approx([0.5, 0.25], abs=1e-3), "by rank"
        row = tree.proposals.probabilities[0].tolist()
    assert row == pytest.approx([0.5, 0.25, 0.25, *[0.0] * 7], abs=1e-4)
    # First from q, then from q without the first.
    q = {3: 0.5, 4: 0.25, 5: 0.25}
    for first in q:
        for second in q.keys() - {first}:
            exact = q[first] * q[second] / (1 - q[first])
            sigma = (exact * (1 - exact) / trials) ** 0.5
            assert abs(drawn[first, second] / trials - exact) < 4.5 * sigma


def test_a_temperature_sharpens_or_flattens_what_is_drawn_from() -> None:
    seen = sight([1, 2], expected={(2,): {3: 0.4, 4: 0.2}})
    for temperature, ratio in ((0.5, 4.0), (1.0, 2.0), (2.0, 2**0.5)):
        tree = SMALL.fill(seen, Limits(nodes_max=9, temperature=temperature, seed=1))[0]
        assert tree.proposals is not None
        first, second = tree.proposals.probabilities[0][:2].tolist()
        assert first / second == pytest.approx(ratio, rel=1e-3)


def test_a_cut_takes_tails_of_groups_and_keeps_the_proposals_of_what_is_left() -> None:
    seen = sight([1, 2], expected=TABLE)
    tree = SMALL.fill(seen, Limits(nodes_max=9, temperature=1.0, seed=4))[0]
    assert tree.proposals is not None
    (part,) = cut([tree], 2, None)
    most = np.sort(np.argsort(-tree.probability, kind="stable")[:2])
    assert part.proposals is not None
    assert len(part) == 2
    assert set(part.proposals.nodes.tolist()) == set(part.parent.tolist())
    for node in set(part.parent.tolist()):
        left = part.token[part.parent == node].tolist()
        origin = -1 if node < 0 else int(most[node])
        assert tree.token[tree.parent == origin].tolist()[: len(left)] == left


def test_with_drawn_trees_the_price_cuts_where_the_gain_first_falls() -> None:
    # Steps of 4 nodes: two more nodes cost nothing only if what stands behind them is worth it.
    token, parent = int32s([1, 2, 3, 4]), int32s([-1, -1, 1, 2])
    p = np.array([0.9, 0.3, 0.3, 0.3], np.float32)
    cost = VerifyCost(int32s([0, 1, 2, 4]), np.array([1.0, 1.1, 1.5, 1.5], np.float32))
    drawn = Proposals(int32s([-1]), int32s([[1, 2]]), np.array([[0.5, 0.5]], np.float32))
    whole = DraftTree(token, parent, p)
    assert cut([whole], 0, cost) == [whole]
    (careful,) = cut([DraftTree(token, parent, p, proposals=drawn)], 0, cost)
    assert careful.token.tolist() == [1]
