"""SuffixDecoding's rules on examples counted by hand."""

import numpy as np

from retrieval_draft.drafting.sight import Limits
from retrieval_draft.drafting.suffix import Suffix
from retrieval_draft.tree import SOURCES, TIERS
from tests.drafting.sights import sight
from tests.engine.driving import listed

TREE = Limits(nodes_max=16, depth_max=2)
PATH = Limits(nodes_max=16, chain=True)


def mask(tier: str, source: str) -> int:
    return 1 << TIERS[tier] | 1 << SOURCES[source]


def test_probabilities_are_count_ratios_along_the_path() -> None:
    # After 1 came 2 twice (then 3 and 4) and 5 once (then 6).
    learned = [[1, 2, 3], [1, 2, 4], [1, 5, 6]]
    tree = Suffix().draft(sight([1], learned), TREE).tree
    found = {
        (token, parent): round(p, 4)
        for (token, parent), p in zip(listed(tree), tree.probability.tolist(), strict=True)
    }
    two, five = tree.token.tolist().index(2), tree.token.tolist().index(5)
    assert found == {
        (2, -1): 0.6667,
        (5, -1): 0.3333,
        (3, two): 0.3333,
        (4, two): 0.3333,
        (6, five): 0.3333,
    }
    assert tree.token[0] == 2, "best first"


def test_the_match_length_with_the_highest_score_is_chosen() -> None:
    # Matching [8, 1] gives one certain continuation of one token: score 1.
    # Matching [1] gives 2 with 3 of 4 and then 3 for sure: 3/4 + 3/4 + 1/4 = 1.75.
    learned = [[8, 1, 9], [7, 1, 2, 3], [6, 1, 2, 3], [5, 1, 2, 3]]
    tree = Suffix().draft(sight([8, 1], learned), TREE).tree
    assert listed(tree)[:2] == [(2, -1), (3, 0)]
    assert np.isclose(tree.probability.sum(), 1.75)


def test_at_equal_scores_the_longer_match_wins() -> None:
    # [8, 1] went on with 9, and [1] once with 9 and once with 5: both score 1 at depth 1.
    learned = [[8, 1, 9], [7, 1, 5]]
    limits = Limits(nodes_max=16, depth_max=1)
    assert listed(Suffix().draft(sight([8, 1], learned), limits).tree) == [(9, -1)]


def test_the_tier_with_the_highest_score_is_taken_alone() -> None:
    context = [1, 5, 1]  # context: 5, then 1
    learned = [[1, 2, 3, 4]]
    limits = Limits(nodes_max=16, depth_max=3)
    tree = Suffix().draft(sight(context, learned), limits).tree
    assert tree.token.tolist() == [2, 3, 4]
    assert set(tree.source.tolist()) == {mask("learned", "match")}
    tree = Suffix().draft(sight(context), limits).tree
    assert tree.token.tolist() == [5, 1]
    assert set(tree.source.tolist()) == {mask("context", "match")}


def test_at_equal_scores_the_nearer_tier_is_taken() -> None:
    tree = Suffix().draft(sight([1, 5, 1], [[1, 2, 3]]), TREE).tree
    assert tree.token.tolist() == [5, 1]


def test_a_warmed_corpus_is_a_third_place_to_look() -> None:
    tree = Suffix().draft(sight([1, 2], corpora=[[[1, 2, 3, 4]]]), TREE).tree
    assert tree.token.tolist() == [3, 4]
    assert set(tree.source.tolist()) == {mask("corpus", "corpus")}


def test_a_path_has_at_most_as_many_nodes_as_the_match_is_long() -> None:
    learned = [[3, 4, 1, 2, 5, 6, 7, 8, 9]]
    assert Suffix().draft(sight([2], learned), PATH).tree.token.tolist() == [5]
    assert Suffix().draft(sight([4, 1, 2], learned), PATH).tree.token.tolist() == [5, 6, 7]


def test_a_path_ends_where_it_becomes_improbable() -> None:
    # After [1, 2]: 3 always, then eleven different tokens, each below 1 in 10.
    learned = [[1, 2, 3, token] for token in range(11)]
    assert Suffix().draft(sight([1, 2], learned), PATH).tree.token.tolist() == [3]


def test_nothing_is_drafted_where_no_tier_knows_the_end_of_the_context() -> None:
    assert len(Suffix().draft(sight([1, 2, 3], [[5, 6]], [[[5, 6]]]), TREE).tree) == 0
