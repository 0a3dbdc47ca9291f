"""Hierarchy Drafting's cascade on tiers that fit on a line."""

from retrieval_draft.drafting.hierarchy import Hierarchy
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS
from tests.drafting.sights import sight
from tests.engine.driving import listed

LIMITS = Limits(nodes_max=80)
MATCH, CORPUS = 1 << SOURCES["match"], 1 << SOURCES["corpus"]


def test_sequences_of_4_tokens_after_the_last_one_nearest_tier_first_and_merged() -> None:
    context = [1, 2, 3, 4, 5, 6, 1, 2, 3, 7, 8, 1]
    learned = [[1, 9, 9, 9, 9], [1, 2, 3, 7, 8]]
    tree = Hierarchy().draft(sight(context, learned), LIMITS).tree
    # Context: [2, 3, 7, 8] is newer than [2, 3, 4, 5]; learned: [2, 3, 7, 8] again, and [9, 9, 9, 9].
    assert listed(tree) == [
        (2, -1), (3, 0), (7, 1), (8, 2),
        (4, 1), (5, 4),
        (9, -1), (9, 6), (9, 7), (9, 8),
    ]  # fmt: skip
    context_bit, learned_bit = 1 << TIERS["context"], 1 << TIERS["learned"]
    assert tree.source[3] == MATCH | context_bit | learned_bit
    assert tree.source[5] == MATCH | context_bit
    assert tree.source[9] == MATCH | learned_bit


def test_what_the_model_says_most_often_comes_before_what_it_said_last() -> None:
    learned = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 6, 7, 8, 9]]
    tree = Hierarchy().draft(sight([1], learned), LIMITS).tree
    assert listed(tree)[:5] == [(2, -1), (3, 0), (4, 1), (5, 2), (6, -1)]


def test_seven_sequences_are_enough_and_farther_tiers_are_not_asked() -> None:
    context = [token for other in range(2, 9) for token in (1, other, other, other, other)]
    learned, corpus = [[1, 9, 9, 9, 9]], [[1, 10, 10, 10, 10]]
    seen = sight([*context, 1], learned, [corpus])
    tree = Hierarchy().draft(seen, LIMITS).tree
    assert [token for token, parent in listed(tree) if parent < 0] == [8, 7, 6, 5, 4, 3, 2]
    assert len(tree) == 28
    fewer = sight([*context[5:], 1], learned, [corpus])
    first = [token for token, parent in listed(Hierarchy().draft(fewer, LIMITS).tree) if parent < 0]
    assert first == [8, 7, 6, 5, 4, 3, 9], "the learned tier gave the seventh"


def test_the_corpus_is_asked_for_the_last_two_tokens_or_else_the_last_one() -> None:
    corpus = [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 4], [5, 1, 6, 7, 8, 9]]
    tree = Hierarchy().draft(sight([0, 1], corpora=[corpus]), LIMITS).tree
    assert listed(tree) == [(2, -1), (4, 0), (3, 0)]
    assert set(tree.source.tolist()) == {CORPUS | 1 << TIERS["corpus"]}
    tree = Hierarchy().draft(sight([9, 1], corpora=[corpus]), LIMITS).tree
    assert (6, -1) in listed(tree)


def test_a_chain_is_the_nearest_sequence() -> None:
    context = [1, 2, 3, 4, 5, 6, 1, 2, 3, 7, 8, 1]
    tree = Hierarchy().draft(sight(context), Limits(nodes_max=9, chain=True)).tree
    assert listed(tree) == [(2, -1), (3, 0), (7, 1), (8, 2)]
