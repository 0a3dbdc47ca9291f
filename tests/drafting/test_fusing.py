"""`mix` with the worker's own draft: what either tree is worth is learned."""

import numpy as np
import pytest
from msgspec.structs import replace

from retrieval_draft.drafting.mix import Mix
from retrieval_draft.drafting.sight import Limits, Sight
from retrieval_draft.tree import SOURCES, DraftTree, int32s
from tests.drafting.sights import sight
from tests.engine.driving import listed

MODEL_BIT = 1 << SOURCES["model"]
TEXT = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
"""Retrieval goes on with 3, 4, 1."""
MODEL = DraftTree(int32s([5, 3, 6]), int32s([-1, -1, 0]), np.array([0.6, 0.3, 0.5], np.float32))


def seen(model: DraftTree = MODEL) -> Sight:
    return replace(sight(TEXT), model_tree=model)


def test_both_trees_are_one_by_longest_prefixes_within_one_budget() -> None:
    alone = Mix().draft(sight(TEXT), Limits(nodes_max=6)).tree
    tree = Mix().draft(seen(), Limits(nodes_max=6)).tree
    assert len(tree) == 6
    assert tree.problem(12, 6) is None
    nodes = listed(tree)
    assert {(5, -1), (3, -1)} <= set(nodes)
    both = nodes.index((3, -1))
    assert tree.source[both] == MODEL_BIT | alone.source[listed(alone).index((3, -1))]
    assert tree.source[nodes.index((5, -1))] == MODEL_BIT
    below = tree.source[nodes.index((4, both))]
    assert below
    assert not below & MODEL_BIT, "what retrieval goes on with hangs below the shared prefix"
    assert (np.diff(tree.probability) <= 0).all(), "most probable first"


@pytest.mark.parametrize("came", [5, 3])
def test_whichever_tree_is_right_is_believed(came: int) -> None:
    mix, limits = Mix(), Limits(nodes_max=6)
    for _ in range(60):
        draft = mix.draft(seen(), limits)
        mix.teach(draft, int32s([came, 9]))
    tree = mix.draft(seen(), limits).tree
    chances = dict(zip(listed(tree), tree.probability.tolist(), strict=True))
    other = 8 - came
    assert listed(tree)[0] == (came, -1)
    assert chances[came, -1] > 0.8
    assert chances.get((other, -1), 0.0) < 0.2


def test_limits_hold_for_what_is_fused() -> None:
    chain = Mix().draft(seen(), Limits(nodes_max=5, chain=True)).tree
    assert chain.parent.tolist() == list(range(-1, len(chain) - 1))
    shallow = Mix().draft(seen(), Limits(nodes_max=9, depth_max=1)).tree
    assert set(shallow.parent.tolist()) == {-1}
    ended = Mix().draft(seen(), Limits(nodes_max=9, end_tokens=int32s([3, 5]))).tree
    assert set(ended.parent.tolist()) == {-1}
    assert len(Mix().draft(seen(), Limits(nodes_max=0)).tree) == 0
