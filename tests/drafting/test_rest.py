"""REST on a datastore that fits on a line."""

import pytest

from retrieval_draft.drafting.rest import PREFIXES_MAX, Rest
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS
from tests.drafting.sights import ends, sight
from tests.engine.driving import listed

LIMITS = Limits(nodes_max=80)


def test_the_most_frequent_prefixes_behind_the_longest_suffix_are_drafted() -> None:
    # After [1, 2]: 3 three times (4 twice, then 5 and 6; 5 once) and 7 once.
    store = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 5], [1, 2, 7], [2, 9]]
    tree = Rest().draft(sight([8, 1, 2], corpora=[store]), LIMITS).tree
    assert listed(tree)[:2] == [(3, -1), (4, 0)]
    assert sorted(listed(tree)[2:]) == sorted([(5, 0), (7, -1), (5, 1), (6, 1)])
    assert tree.probability.tolist() == pytest.approx([0.75, 0.5, 0.25, 0.25, 0.25, 0.25])
    assert set(tree.source.tolist()) == {1 << TIERS["corpus"] | 1 << SOURCES["corpus"]}


def test_a_suffix_of_one_token_is_no_match_and_one_beyond_16_is_not_looked_for() -> None:
    assert len(Rest().draft(sight([1, 2], corpora=[[[2, 3]]]), LIMITS).tree) == 0
    long = [i % 7 for i in range(40)]
    other = [*long[:20], 9]  # agrees on 20 tokens and differs before
    tree = Rest().draft(sight(long[:20], corpora=[[[8, *other], long]]), LIMITS).tree
    assert (9, -1) in listed(tree)
    assert (long[20], -1) in listed(tree)


def test_continuations_have_10_tokens_and_trees_64_nodes() -> None:
    chain = list(range(12))
    assert len(Rest().draft(sight([0, 1], corpora=[[chain]]), LIMITS).tree) == 10
    many = [
        [1, 2, *path] for path in ((i, j, k) for i in range(5) for j in range(5) for k in range(5))
    ]
    assert len(Rest().draft(sight([1, 2], corpora=[many]), LIMITS).tree) == PREFIXES_MAX


def test_of_several_corpora_the_longest_match_is_taken_then_the_most_occurrences() -> None:
    short, long = [[1, 2, 3]] * 4, [[0, 1, 2, 4]]
    assert listed(Rest().draft(sight([0, 1, 2], corpora=[short, long]), LIMITS).tree) == [(4, -1)]
    assert listed(Rest().draft(sight([9, 1, 2], corpora=[long, short]), LIMITS).tree) == [(3, -1)]


def test_an_even_sample_of_5000_occurrences_is_counted() -> None:
    # 5999 continuations with 3 and 4001 with 4: every second one is looked at.
    text = [1, 2, 3] * 5999 + [1, 2, 4] * 4001
    tree = Rest().draft(sight([1, 2], corpora=[[text]]), Limits(nodes_max=2, depth_max=1)).tree
    assert listed(tree) == [(3, -1), (4, -1)]
    assert tree.probability.tolist() == pytest.approx([0.6, 0.4], abs=2e-4)


def test_a_chain_follows_the_most_frequent_and_nothing_follows_an_end_token() -> None:
    store = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 5], [1, 2, 6]]
    seen = sight([1, 2], corpora=[store])
    assert listed(Rest().draft(seen, Limits(nodes_max=9, chain=True)).tree) == [(3, -1), (5, 0)]
    ended = Rest().draft(seen, Limits(nodes_max=9, end_tokens=ends(3))).tree
    assert listed(ended) == [(3, -1), (6, -1)]
