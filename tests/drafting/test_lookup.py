"""Prompt lookup on contexts that fit on a line."""

from retrieval_draft.drafting.lookup import Lookup
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS
from tests.drafting.sights import ends, sight

LIMITS = Limits(nodes_max=4)


def test_the_longest_n_gram_that_occurred_before_decides() -> None:
    #          3-gram here                the last two tokens also stand here
    context = [1, 2, 3, 7, 8, 9, 2, 3, 4, 1, 2, 3]
    assert Lookup().draft(sight(context), LIMITS).tree.token.tolist() == [7, 8, 9, 2]


def test_a_shorter_n_gram_is_tried_where_longer_ones_are_new() -> None:
    assert Lookup().draft(sight([2, 3, 4, 1, 2, 3]), LIMITS).tree.token.tolist() == [4, 1, 2, 3]
    assert Lookup().draft(sight([3, 4, 1, 2, 3]), LIMITS).tree.token.tolist() == [4, 1, 2, 3]


def test_the_first_occurrence_is_continued_or_the_newest_one() -> None:
    context = [1, 5, 1, 6, 1, 7, 1]
    assert Lookup().draft(sight(context), LIMITS).tree.token.tolist() == [5, 1, 6, 1]
    newest = Lookup(newest=True).draft(sight(context), LIMITS)
    assert newest.tree.token.tolist() == [7, 1]


def test_nothing_is_drafted_where_nothing_repeats() -> None:
    assert len(Lookup().draft(sight([1, 2, 3]), LIMITS).tree) == 0


def test_the_draft_is_a_chain_of_halving_probability_from_the_context() -> None:
    tree = Lookup().draft(sight([1, 2, 3, 4, 1]), LIMITS).tree
    assert tree.parent.tolist() == [-1, 0, 1, 2]
    assert tree.probability.tolist() == [0.5, 0.25, 0.125, 0.0625]
    assert set(tree.source.tolist()) == {1 << TIERS["context"] | 1 << SOURCES["match"]}


def test_the_draft_stops_at_the_first_end_token() -> None:
    limits = Limits(nodes_max=9, end_tokens=ends(3))
    assert Lookup().draft(sight([1, 2, 3, 4, 1]), limits).tree.token.tolist() == [2, 3]
