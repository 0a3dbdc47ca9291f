"""RASD: the retrieval tree, its pruning by the model's first position, and the fusion."""

import numpy as np
import pytest
from msgspec.structs import replace

from retrieval_draft.drafting.rasd import Rasd
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, int32s
from tests.drafting.sights import sight
from tests.engine.driving import listed

LIMITS = Limits(nodes_max=80)
STORE = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 7], [1, 2, 8]]
# The model: 3 with 0.6 (then 9 with 0.3), 6 with 0.3, 8 with 0.005.
MODEL = DraftTree(
    int32s([3, 6, 8, 9]), int32s([-1, -1, -1, 0]), np.array([0.6, 0.3, 0.005, 0.3], np.float32)
)
MODEL_BIT, CORPUS = 1 << SOURCES["model"], 1 << TIERS["corpus"] | 1 << SOURCES["corpus"]
CONTEXT = 1 << TIERS["context"] | 1 << SOURCES["match"]


def test_without_a_model_the_trie_and_prompt_lookup_are_one_tree_with_probabilities() -> None:
    tree = Rasd().draft(sight([1, 2, 9, 4, 1, 2], corpora=[STORE]), LIMITS).tree
    nodes = dict(zip(listed(tree), tree.probability.tolist(), strict=True))
    assert nodes[3, -1] == 0.5
    assert nodes[6, -1] == nodes[8, -1] == 0.25
    assert nodes[9, -1] == 0.5, "prompt lookup's"
    at = listed(tree).index((9, -1))
    assert tree.source[at] == CONTEXT
    assert nodes[4, at] == 0.25


def test_paths_that_the_model_begins_improbably_are_pruned_and_the_others_fused() -> None:
    seen = replace(sight([1, 2, 9, 4, 1, 2], corpora=[STORE]), model_tree=MODEL)
    tree = Rasd().draft(seen, LIMITS).tree
    # The model's four; below 3 the trie's 4 and 5, below 6 its 7. 9 is no first token of the model,
    # and 8 is one that it holds improbable (nothing stands below it, and it stays the model's).
    assert listed(tree) == [(3, -1), (6, -1), (8, -1), (9, 0), (4, 0), (5, 0), (7, 1)]
    # 3 is worth the model's 0.6 (against 0.5), and 4 half of it.
    assert tree.probability.tolist() == pytest.approx([0.6, 0.3, 0.005, 0.3, 0.3, 0.3, 0.3])
    assert tree.source.tolist() == [
        MODEL_BIT | CORPUS, MODEL_BIT | CORPUS, MODEL_BIT, MODEL_BIT, CORPUS, CORPUS, CORPUS,
    ]  # fmt: skip


def test_one_budget_keeps_the_most_probable_nodes_of_both() -> None:
    seen = replace(sight([1, 2], corpora=[STORE]), model_tree=MODEL)
    tree = Rasd().draft(seen, Limits(nodes_max=3)).tree
    assert listed(tree) == [(3, -1), (6, -1), (9, 0)]


def test_a_chain_goes_on_where_the_models_ends() -> None:
    model = DraftTree(int32s([3]), int32s([-1]), np.array([0.6], np.float32))
    seen = replace(sight([1, 2], corpora=[STORE]), model_tree=model)
    tree = Rasd().draft(seen, Limits(nodes_max=9, chain=True)).tree
    assert listed(tree) == [(3, -1), (4, 0)]
