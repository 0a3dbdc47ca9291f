"""The union of all sources: whose candidates come first, and what teaching changes."""

from retrieval_draft.drafting.mix import Mix
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS, int32s
from tests.drafting.sights import sight
from tests.engine.driving import listed

LIMITS = Limits(nodes_max=16, depth_max=1)


def test_every_source_has_its_say() -> None:
    seen = sight([1, 2, 3, 1, 2], learned=[[1, 2, 4]], corpora=[[[1, 2, 5]]], follows={2: [6, 7]})
    tree = Mix().draft(seen, LIMITS).tree
    names = {
        3: (TIERS["context"], SOURCES["match"]),
        4: (TIERS["learned"], SOURCES["match"]),
        5: (TIERS["corpus"], SOURCES["corpus"]),
        6: (TIERS["learned"], SOURCES["recycling"]),
        7: (TIERS["learned"], SOURCES["recycling"]),
    }
    masks = dict(zip(tree.token.tolist(), tree.source.tolist(), strict=True))
    assert masks == {token: 1 << tier | 1 << kind for token, (tier, kind) in names.items()}


def test_where_sources_agree_there_is_one_node_that_names_them_all() -> None:
    seen = sight([1, 2, 3, 1, 2], learned=[[1, 2, 3]], corpora=[[[1, 2, 3]]], follows={2: [3]})
    tree = Mix().draft(seen, LIMITS).tree
    bits = [*TIERS.values(), SOURCES["match"], SOURCES["corpus"], SOURCES["recycling"]]
    assert listed(tree) == [(3, -1)]
    assert int(tree.source[0]) == sum(1 << bit for bit in bits)


def test_longer_agreement_comes_first() -> None:
    # 7 followed [4, 5, 6]; 8, at another place, followed only the 6.
    tree = Mix().draft(sight([4, 5, 6, 7, 6, 8, 4, 5, 6]), LIMITS).tree
    assert tree.token.tolist() == [7, 8]
    assert tree.probability[0] > tree.probability[1]


def test_what_more_places_agree_on_comes_first() -> None:
    learned = [[2, 7], [2, 8], [2, 8], [2, 8]]
    tree = Mix().draft(sight([2], learned), LIMITS).tree
    assert tree.token.tolist() == [8, 7]


def test_teaching_turns_the_order_of_what_proves_wrong() -> None:
    mix, seen = Mix(), sight([1, 2, 3, 1, 2], follows={2: [6]})
    before = mix.draft(seen, LIMITS)
    assert before.tree.token.tolist() == [3, 6]
    for _ in range(60):
        mix.teach(before, int32s([6]))
    after = mix.draft(seen, LIMITS)
    assert after.tree.token.tolist() == [6, 3]
    assert after.tree.probability[0] > before.tree.probability[1]


def test_teaching_does_not_need_the_verified_tree() -> None:
    mix, seen = Mix(), sight([1, 2, 3, 1, 2])
    draft = mix.draft(seen, LIMITS)
    for _ in range(60):
        mix.teach(draft, int32s([9]))
    assert mix.draft(seen, LIMITS).tree.probability[0] < 0.2


def test_probabilities_become_the_share_that_is_accepted() -> None:
    mix, seen = Mix(), sight([1, 2, 3, 1, 2])
    for step in range(400):
        mix.teach(mix.draft(seen, LIMITS), int32s([3 if step % 4 else 9]))
    assert abs(float(mix.draft(seen, LIMITS).tree.probability[0]) - 0.75) < 0.05


def test_one_namespaces_teaching_does_not_reach_another() -> None:
    one, other, seen = Mix(), Mix(), sight([1, 2, 3, 1, 2])
    draft = one.draft(seen, LIMITS)
    before = other.accept.copy()
    one.teach(draft, int32s([9]))
    assert (other.accept == before).all()


def test_a_chain_takes_the_best_candidate_at_every_step() -> None:
    seen = sight([4, 5, 6, 7, 8, 6, 9, 4, 5, 6])
    tree = Mix().draft(seen, Limits(nodes_max=3, chain=True)).tree
    assert listed(tree) == [(7, -1), (8, 0), (6, 1)]
