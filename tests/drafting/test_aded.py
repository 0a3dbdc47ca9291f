"""ADED's search on a table computed by hand."""

import pytest

from retrieval_draft.drafting.aded import EXPLORATION, VISITS_SCALE, Aded
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS
from tests.drafting.sights import sight
from tests.engine.driving import listed


def test_what_is_likely_is_exploited_and_the_rest_explored() -> None:
    table: dict[tuple[int, ...], dict[int, float]] = {
        (1, 2): {3: 0.6, 4: 0.3},
        (2, 3): {5: 0.5},
        (2, 4): {6: 0.9},
        (3, 5): {7: 0.5},
    }
    tree = Aded().draft(sight([1, 2], expected=table), Limits(nodes_max=4)).tree
    # 1. The likeliest of the root: 3 (Q = 0.6).
    # 2. 3: 0.6 + E * 0.6 * 1 / 2 = 0.975; 4: E * 0.3 * 1 / 1 = 0.375. Down to 5 (Q of 3 = 0.45).
    # 3. 3: 0.45 + E * 0.6 * sqrt(2) / 3 = 0.804; 4: E * 0.3 * sqrt(2) = 0.530. Down to 7 (0.35).
    # 4. 3: 0.35 + E * 0.6 * sqrt(3) / 4 = 0.675; 4: E * 0.3 * sqrt(3) = 0.650. Nothing is left below
    #    7, 5 and 3: they close, and 4 follows.
    assert pytest.approx(1.25, abs=1e-3) == EXPLORATION + 1 / VISITS_SCALE
    assert listed(tree) == [(3, -1), (5, 0), (7, 1), (4, -1)]
    assert tree.probability.tolist() == pytest.approx([0.6, 0.3, 0.15, 0.3], abs=1e-4)
    assert set(tree.source.tolist()) == {1 << TIERS["learned"] | 1 << SOURCES["order2"]}


def test_an_unlikely_branch_is_tried_before_the_likely_one_is_exhausted() -> None:
    table: dict[tuple[int, ...], dict[int, float]] = {
        (1, 2): {3: 0.5, 4: 0.4},
        (2, 3): {5: 0.1, 6: 0.1},
    }
    tree = Aded().draft(sight([1, 2], expected=table), Limits(nodes_max=3)).tree
    # 2. 3: 0.5 + E * 0.5 / 2 = 0.8125; 4: E * 0.4 = 0.5. Below 3 is 5, Q of 3 = (0.5 + 0.05) / 2.
    # 3. 3: 0.275 + E * 0.5 * sqrt(2) / 3 = 0.570; 4: E * 0.4 * sqrt(2) = 0.707: 4, though 6 is left.
    assert listed(tree) == [(3, -1), (5, 0), (4, -1)]


def test_only_pairs_are_asked() -> None:
    assert len(Aded().draft(sight([2], expected={(2,): {3: 1.0}}), Limits(nodes_max=4)).tree) == 0
    assert (
        len(Aded().draft(sight([9, 2], expected={(2,): {3: 1.0}}), Limits(nodes_max=4)).tree) == 0
    )
