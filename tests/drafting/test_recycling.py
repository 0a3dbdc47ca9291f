"""Token Recycling's static tree, and how the matrix fills it."""

from collections import Counter

from retrieval_draft.drafting.recycling import LEVELS, RecyclingMethod, template
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.drafting.templates import Template
from retrieval_draft.tree import SOURCES, TIERS
from tests.drafting.sights import VOCAB, ends, sight
from tests.engine.driving import listed

METHOD = RecyclingMethod()
TREE, WORTH = template()
FULL = {key: [(key + step) % VOCAB for step in range(1, 9)] for key in range(VOCAB)}


def test_the_template_has_the_papers_80_nodes_in_6_levels() -> None:
    levels = Counter(TREE.depths)
    assert [levels[d] for d in range(1, 7)] == list(LEVELS) == [8, 21, 25, 15, 8, 3]
    assert len(TREE) == len(WORTH) == 80


def test_any_prefix_of_the_template_is_a_tree_and_the_most_probable_nodes_come_first() -> None:
    assert WORTH.tolist() == sorted(WORTH.tolist(), reverse=True)
    assert Template(TREE.parents[:33], TREE.ranks[:33]).depths == TREE.depths[:33]


def test_a_node_is_the_successor_of_its_rank_of_its_parents_token() -> None:
    tree = METHOD.draft(sight([0], follows=FULL), Limits(nodes_max=80)).tree
    assert len(tree) == 80
    for node, (parent, rank) in enumerate(zip(TREE.parents, TREE.ranks, strict=True)):
        key = 0 if parent < 0 else int(tree.token[parent])
        assert tree.parent[node] == parent
        assert tree.token[node] == FULL[key][rank]
    assert set(tree.source.tolist()) == {1 << TIERS["learned"] | 1 << SOURCES["recycling"]}


def test_a_smaller_budget_takes_a_prefix() -> None:
    whole = METHOD.draft(sight([0], follows=FULL), Limits(nodes_max=80)).tree
    for nodes_max in (1, 7, 32):
        part = METHOD.draft(sight([0], follows=FULL), Limits(nodes_max=nodes_max)).tree
        assert listed(part) == listed(whole)[:nodes_max]


def test_unknown_ranks_are_left_out_with_what_would_stand_below_them() -> None:
    tree = METHOD.draft(sight([0], follows={0: [3, 4], 4: [5]}), Limits(nodes_max=80)).tree
    assert listed(tree) == [(3, -1), (4, -1), (5, 1)]
    assert len(METHOD.draft(sight([1], follows={0: [3]}), Limits(nodes_max=80)).tree) == 0


def test_a_chain_follows_the_first_successors() -> None:
    tree = METHOD.draft(sight([0], follows=FULL), Limits(nodes_max=80, chain=True)).tree
    assert listed(tree) == [(1, -1), (2, 0), (3, 1), (4, 2), (5, 3), (6, 4)]


def test_nothing_follows_an_end_token() -> None:
    limits = Limits(nodes_max=80, end_tokens=ends(1))
    tree = METHOD.draft(sight([0], follows=FULL), limits).tree
    tokens = tree.token.tolist()
    assert 1 in tokens
    assert all(parent < 0 or tokens[parent] != 1 for parent in tree.parent.tolist())
