"""The one cut over a batch, against trying every one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.budget import cut, milliseconds
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree, int32s
from tests.engine.driving import listed
from tests.kernels import strategies

QUICK = settings(deadline=None, max_examples=80)


@st.composite
def drafts(draw: st.DrawFn) -> DraftTree:
    """A tree whose children are at most as probable as their parents."""
    token, parent = draw(strategies.trees())
    probability: list[float] = []
    for above in parent:
        share = draw(st.sampled_from([0.25, 0.5, 1.0]))
        probability.append(share * (probability[above] if above >= 0 else 1.0))
    source = np.arange(len(token), dtype=np.uint32) + 1
    return DraftTree(int32s(token), int32s(parent), np.array(probability, np.float32), source)


@st.composite
def costs(draw: st.DrawFn) -> VerifyCost:
    nodes = sorted(draw(st.sets(st.integers(1, 40), max_size=4)) | {0})
    price = [draw(st.floats(0.5, 20, width=32)) for _ in nodes]
    return VerifyCost(int32s(nodes), np.array(price, np.float32))


batches = st.lists(drafts(), min_size=1, max_size=4)


@QUICK
@given(batches, st.integers(0, 20))
def test_a_bound_on_the_batch_keeps_the_most_probable_nodes(
    trees: list[DraftTree], nodes_max: int
) -> None:
    found = cut(trees, nodes_max, None)
    if nodes_max == 0 or sum(map(len, trees)) <= nodes_max:
        assert found is trees
        return
    assert by_worth(found) == by_worth(trees)[:nodes_max]


@QUICK
@given(batches, costs(), st.integers(0, 20))
def test_with_prices_no_other_prefix_brings_more_tokens_per_millisecond(
    trees: list[DraftTree], cost: VerifyCost, nodes_max: int
) -> None:
    kept, probability = by_worth(cut(trees, nodes_max, cost)), by_worth(trees)
    total = len(probability)
    most = min(nodes_max, total) if nodes_max else total
    price = milliseconds(cost, total + 1)
    goodput = [(len(trees) + sum(probability[:n])) / price[n] for n in range(most + 1)]
    assert len(kept) <= most
    assert np.isclose((len(trees) + sum(kept)) / price[len(kept)], max(goodput), rtol=1e-5)


@QUICK
@given(batches, st.integers(1, 20))
def test_what_is_kept_of_a_tree_is_a_tree(trees: list[DraftTree], nodes_max: int) -> None:
    for tree, part in zip(trees, cut(trees, nodes_max, None), strict=True):
        assert part.problem(strategies.VOCAB, len(tree)) is None
        # A source names its node here.
        for node, old in enumerate((part.source - 1).tolist()):
            assert part.probability[node] == tree.probability[old]
            assert path(part, node) == path(tree, old)


def by_worth(trees: list[DraftTree]) -> list[float]:
    return sorted((float(p) for tree in trees for p in tree.probability), reverse=True)


def path(tree: DraftTree, node: int) -> list[int]:
    return [] if node < 0 else [*path(tree, int(tree.parent[node])), int(tree.token[node])]


@QUICK
@given(costs(), st.integers(1, 80))
def test_prices_are_read_from_the_table_and_go_on_with_its_last_slope(
    cost: VerifyCost, count: int
) -> None:
    price = milliseconds(cost, count)
    nodes, table = cost.nodes.tolist(), cost.milliseconds.tolist()
    for asked in range(count):
        above = next((i for i, n in enumerate(nodes) if n >= asked), None)
        if above is None:
            slope = 0.0
            if len(nodes) > 1:
                slope = max(0.0, (table[-1] - table[-2]) / (nodes[-1] - nodes[-2]))
            expected = table[-1] + slope * (asked - nodes[-1])
        elif nodes[above] == asked:
            expected = table[above]
        else:
            share = (asked - nodes[above - 1]) / (nodes[above] - nodes[above - 1])
            expected = table[above - 1] * (1 - share) + table[above] * share
        assert np.isclose(price[asked], expected)


def test_where_verifying_is_free_everything_is_kept_and_where_it_is_dear_nothing() -> None:
    chain = DraftTree(int32s([1, 2]), int32s([-1, 0]), np.array([0.5, 0.25], np.float32))
    free = VerifyCost(int32s([0, 9]), np.array([1, 1], np.float32))
    dear = VerifyCost(int32s([0, 9]), np.array([1, 90], np.float32))
    some = VerifyCost(int32s([0, 1, 9]), np.array([1, 1, 90], np.float32))
    assert cut([chain], 0, free) == [chain]
    assert [len(tree) for tree in cut([chain], 0, dear)] == [0]
    assert [listed(tree) for tree in cut([chain], 0, some)] == [[(1, -1)]]
