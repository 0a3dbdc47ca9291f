"""`mix`: who proposes what, what comes first, and what following and teaching change."""

import numpy as np
import pytest

from retrieval_draft.drafting.mix import Mix, as_prior, fresh
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, int32s
from tests.drafting.sights import broken_limit, ends, follow, sight
from tests.engine.driving import listed, same

VOCAB = 12
FLAT = Limits(nodes_max=16, depth_max=1)


def bits(tree: DraftTree) -> dict[int, set[str]]:
    """By token of the first level: the names of its tiers and kinds of source."""
    names = {bit: name for name, bit in SOURCES.items()}
    names.update({bit: f"{name} tier" for name, bit in TIERS.items()})
    return {
        token: {name for bit, name in names.items() if mask >> bit & 1}
        for token, mask, above in zip(
            tree.token.tolist(), tree.source.tolist(), tree.parent.tolist(), strict=True
        )
        if above < 0
    }


def test_every_source_is_named() -> None:
    # 3, 4 and 5 followed [9, 1, 2] here, elsewhere and in a corpus; the matrix knows 6 and 7 after 2,
    # and the target expected 8 after [1, 2].
    seen = sight(
        [9, 1, 2, 3, 9, 1, 2],
        learned=[[9, 1, 2, 4]],
        corpora=[[[9, 1, 2, 5]]],
        follows={2: [6, 7]},
        expected={(1, 2): {8: 0.5}},
    )
    seen.stand.rows_observed = 1
    found = bits(Mix(fresh()).draft(seen, FLAT).tree)
    orders = {"order1", "order2", "order3"}
    assert found == {
        3: {"context tier", "match", *orders},
        4: {"learned tier", "match", *orders},
        5: {"corpus tier", "corpus"},
        6: {"learned tier", "recycling"},
        7: {"learned tier", "recycling"},
        8: {"learned tier", "stand"},
    }


def test_where_sources_agree_there_is_one_node_that_names_them_all() -> None:
    seen = sight([9, 1, 2, 3, 9, 1, 2], [[9, 1, 2, 3]], corpora=[[[9, 1, 2, 3]]], follows={2: [3]})
    tree = Mix(fresh()).draft(seen, FLAT).tree
    assert listed(tree) == [(3, -1)]
    assert bits(tree)[3] == {
        "context tier", "learned tier", "corpus tier", "match", "corpus", "recycling",
        "order1", "order2", "order3",
    }  # fmt: skip


def test_tokens_that_nobody_listed_are_proposed_where_nothing_is_known() -> None:
    mix, seen = Mix(fresh()), sight([1])
    assert len(mix.draft(seen, FLAT).tree) == 0
    seen = follow(mix, seen, [7, 8, 7, 9, 10])
    assert bits(mix.draft(seen, FLAT).tree)[7] == {"learned tier", "order0"}


@pytest.fixture(scope="module")
def experienced() -> Mix:
    """A mixer that followed texts in which two tokens decide, three times out of four, over the next."""
    mix, dice = Mix(fresh()), np.random.default_rng(7)
    for _ in range(20):
        favourite = dice.integers(0, VOCAB, (VOCAB, VOCAB))
        text = [0, 1]
        while len(text) < 240:
            usual = dice.random() < 0.75
            text.append(int(favourite[text[-2], text[-1]] if usual else dice.integers(VOCAB)))
        follow(mix, sight(text[:2]), text[2:])
    return mix


def test_longer_agreement_comes_first(experienced: Mix) -> None:
    # 7 followed [4, 5, 6]; 8, at another and newer place, followed only the 6.
    seen = sight([4, 5, 6, 7, 6, 8, 4, 5, 6])
    assert experienced.draft(seen, FLAT).tree.token.tolist()[:2] == [7, 8]


def test_what_more_places_agree_on_comes_first(experienced: Mix) -> None:
    learned = [[1, 2, 8], [1, 2, 8], [1, 2, 8], [1, 2, 7]]
    tree = experienced.draft(sight([1, 2], learned), FLAT).tree
    assert tree.token.tolist()[:2] == [8, 7]
    tree = experienced.draft(sight([1, 2, 8, 1, 2, 7, 1, 2, 7, 1, 2]), FLAT).tree
    assert tree.token.tolist()[:2] == [7, 8]


def test_following_turns_the_order_of_what_proves_wrong() -> None:
    # The matrix and the context disagree about what follows 2, and one of them is always right.
    def first_choice(truth: str) -> int:
        mix = Mix(fresh())
        for turn in range(40):
            known, fed = 3 + turn % 2, 6 + turn % 2
            seen = sight([1, 2, known, 1, 2], follows={2: [fed]})
            follow(mix, seen, [fed if truth == "matrix" else known])
        tree = mix.draft(sight([1, 2, 5, 1, 2], follows={2: [8]}), FLAT).tree
        assert sorted(tree.token.tolist()) == [5, 8]
        return int(tree.token[0])

    assert first_choice("matrix") == 8
    assert first_choice("context") == 5


def test_a_prompt_teaches_nothing() -> None:
    mix, seen = Mix(fresh()), sight([1, 2, 3])
    before = mix.state()
    follow(mix, seen, [1, 2, 3, 1, 2, 3, 4], teaching_from=7)
    assert all((array == before[name]).all() for name, array in mix.state().items())
    follow(mix, seen, [1, 2, 3], teaching_from=2)
    assert (mix.state()["worth"] != before["worth"]).any()


def test_probabilities_become_the_share_that_is_accepted() -> None:
    # The tree is taught by what is committed, whether or not any of it was verified.
    mix, seen = Mix(fresh()), sight([1, 2, 3, 1, 2])
    for step in range(1200):
        mix.teach(mix.draft(seen, FLAT), int32s([3 if step % 4 else 9]))
    tree = mix.draft(seen, FLAT).tree
    assert listed(tree) == [(3, -1)]
    assert float(tree.probability[0]) == pytest.approx(0.75, abs=0.05)
    for _ in range(600):
        mix.teach(mix.draft(seen, FLAT), int32s([9]))
    assert float(mix.draft(seen, FLAT).tree.probability[0]) < 0.4


def test_a_path_beyond_what_was_committed_counts_for_nothing() -> None:
    mix, seen = Mix(fresh()), sight([1, 2, 3, 4, 1, 2])
    draft = mix.draft(seen, Limits(nodes_max=9, depth_max=2, chain=True))
    assert listed(draft.tree) == [(3, -1), (4, 0)]
    before = mix.state()["path_worth"]
    mix.teach(draft, int32s([3]))
    assert (mix.state()["path_worth"] - before)[0, 1].sum(axis=1).tolist() == [1, 1]
    mix.teach(draft, int32s([9]))
    assert (mix.state()["path_worth"] - before)[0, 1].sum(axis=1).tolist() == [1, 3]


def test_one_namespaces_teaching_does_not_reach_another() -> None:
    one, other = Mix(fresh()), Mix(fresh())
    before = other.state()
    seen = follow(one, sight([1, 2, 3, 1, 2]), [9, 8])
    one.teach(one.draft(seen, FLAT), int32s([9]))
    assert all((array == before[name]).all() for name, array in other.state().items())


def test_temperatures_learn_for_themselves() -> None:
    mix = Mix(fresh())
    before = mix.state()
    seen = follow(mix, sight([1, 2, 3, 1, 2]), [9, 8], temperature=0.4)
    mix.teach(mix.draft(seen, Limits(8, temperature=0.4)), int32s([1]))
    changed = {
        name: [kind for kind in range(3) if (array[kind] != before[name][kind]).any()]
        for name, array in mix.state().items()
    }
    assert changed == {name: [1] for name in before}


def test_a_chain_takes_the_best_candidate_at_every_step(experienced: Mix) -> None:
    # After [4, 5, 6] came 7, 8, 6, 9; it is read off the longest agreement, not off the 6's.
    seen = sight([4, 5, 6, 7, 8, 6, 9, 4, 5, 6])
    tree = experienced.draft(seen, Limits(nodes_max=4, chain=True)).tree
    assert listed(tree) == [(7, -1), (8, 0), (6, 1), (9, 2)]


def test_nothing_follows_an_end_token() -> None:
    seen = sight([4, 5, 6, 7, 8, 9, 4, 5, 6])
    for chain in (False, True):
        asked = Limits(nodes_max=9, chain=chain, end_tokens=ends(8))
        tree = Mix(fresh()).draft(seen, asked).tree
        assert (7, -1) in listed(tree)
        assert (8, 0) in listed(tree)
        assert 9 not in tree.token[tree.parent == listed(tree).index((8, 0))]
        assert not broken_limit(tree, asked, VOCAB)


@pytest.mark.parametrize(
    ("depth_max", "children_max", "nodes_max", "size"),
    [(2, 9, 40, 40), (9, 1, 5, 5), (9, 1, 99, 9), (3, 2, 99, 2 + 4 + 8)],
)
def test_depth_children_and_nodes_are_bounded_and_used_up(
    depth_max: int, children_max: int, nodes_max: int, size: int
) -> None:
    # Every token was followed by all twelve.
    text = [token for step in range(VOCAB) for token in np.arange(VOCAB) * step % VOCAB]
    seen = sight([int(t) for t in text], follows={t: range(8) for t in range(VOCAB)})
    asked = Limits(nodes_max, depth_max, children_max)
    tree = Mix(fresh()).draft(seen, asked).tree
    assert not broken_limit(tree, asked, VOCAB)
    assert len(tree) == size


def test_nothing_below_the_floor_is_drafted() -> None:
    seen = sight([1, 2, 3, 1, 2, 4, 1, 2, 5, 1, 2])
    low = Mix(fresh()).draft(seen, Limits(32)).tree
    high = Mix(fresh()).draft(seen, Limits(32, floor=0.2)).tree
    assert 0 < len(high) < len(low)
    n = len(high)
    first = DraftTree(low.token[:n], low.parent[:n], low.probability[:n], low.source[:n])
    assert same(high, first)


def test_the_same_calls_learn_the_same_bytes() -> None:
    def learned() -> tuple[DraftTree, dict[str, bytes]]:
        mix, seen = Mix(fresh()), sight([1, 2, 3], [[1, 2, 4, 3, 2]], follows={2: [5, 1]})
        for step in range(60):
            draft = mix.draft(seen, Limits(8, chain=bool(step % 2)))
            committed = [(step * step + 1) % 7, step % 3]
            mix.teach(draft, int32s(committed))
            seen = follow(mix, seen, committed)
        tree = mix.draft(seen, Limits(32)).tree
        return tree, {name: array.tobytes() for name, array in mix.state().items()}

    (one, state), (other, again) = learned(), learned()
    assert same(one, other)
    assert len(one) > 8
    assert state == again


def test_a_prior_is_believed_less_than_what_it_was_learned_from() -> None:
    mix, seen = Mix(fresh()), sight([1, 2, 3, 1, 2])
    for step in range(200):
        seen = follow(mix, seen, [step % 3])
        mix.teach(mix.draft(seen, FLAT), int32s([1]))
    prior = as_prior(mix.state())
    assert float(prior["worth"][..., 1].max()) <= 30
    assert float(prior["path_worth"][..., 1, :].max()) <= 60 + 1e-3
    assert (prior["worth"][..., 0] == mix.state()["worth"][..., 0]).all()
    assert np.allclose(
        prior["path_worth"][..., 0, :] / prior["path_worth"][..., 1, :],
        mix.state()["path_worth"][..., 0, :] / mix.state()["path_worth"][..., 1, :],
    )
    with pytest.raises(ValueError, match="weights"):
        as_prior({**mix.state(), "weights": np.zeros(3, np.float32)})
