"""The cut over a batch, against plain Python."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import cut as kernels
from retrieval_draft.drafting.kernels.contexts import COLUMNS, NODES_MAX
from retrieval_draft.drafting.kernels.growth import KEEP, PLANES, PROBABILITY
from tests.kernels import twins_cut as twins
from tests.kernels.strategies import int32s, quick

Table = tuple[list[int], list[float]]

probabilities = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]), max_size=24)


@st.composite
def tables(draw: st.DrawFn, entries_min: int = 1) -> Table:
    """Entries that ascend from 0 nodes, of prices that float32 holds."""
    more = draw(st.sets(st.integers(1, 30), min_size=entries_min - 1, max_size=5))
    nodes = sorted(more | {0})
    return nodes, [draw(st.integers(1, 400)) / 16 for _ in nodes]


def prices(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


@quick(400)
@given(
    probabilities,
    st.integers(1, 8),
    st.integers(0, 30),
    st.one_of(tables(), st.just((list[int](), list[float]()))),
    st.booleans(),
)
def test_the_prefix_of_the_best_gain_is_kept_or_where_it_first_falls(
    probability: list[float], sequences: int, nodes_max: int, table: Table, drawn: bool
) -> None:
    keep = np.zeros(len(probability), np.bool_)
    nodes, milliseconds = int32s(table[0]), prices(table[1])
    count = kernels.cut(
        prices(probability), sequences, nodes_max, nodes, milliseconds, int(drawn), keep
    )
    assert count == keep.sum()
    kept = sorted((p for p, stays in zip(probability, keep, strict=True) if stays), reverse=True)
    assert kept == sorted(probability, reverse=True)[:count], "the most probable ones"
    gain = twins.gains(probability, sequences, nodes_max, *table)
    if drawn and table[0]:
        assert all(b >= a * (1 - 1e-9) for a, b in pairwise(gain[: count + 1]))
        if count + 1 < len(gain):
            assert gain[count + 1] <= gain[count] * (1 + 1e-9)
    else:
        assert gain[count] >= max(gain) * (1 - 1e-9)


@quick(100)
@given(probabilities, st.integers(1, 24))
def test_of_equal_nodes_those_in_front_are_kept(probability: list[float], nodes_max: int) -> None:
    keep = np.zeros(len(probability), np.bool_)
    none = int32s([]), prices([])
    kernels.cut(prices(probability), 1, nodes_max, *none, 0, keep)
    order = sorted(range(len(probability)), key=lambda i: (-probability[i], i))
    assert sorted(order[:nodes_max]) == np.flatnonzero(keep).tolist()


@quick(200)
@given(tables(), st.integers(0, 60))
def test_a_price_is_read_between_two_entries_or_behind_the_last(table: Table, count: int) -> None:
    nodes, milliseconds = table
    above = next((i for i, entry in enumerate(nodes) if entry >= count), len(nodes))
    found = kernels.price_within(int32s(nodes), prices(milliseconds), above, count)
    assert np.isclose(found, twins.price_of(nodes, milliseconds, count))


@quick(100)
@given(tables(entries_min=2))
def test_the_gentlest_slope_is_the_smallest_price_of_a_node(table: Table) -> None:
    found = kernels.gentlest(int32s(table[0]), prices(table[1]))
    assert np.isclose(found, twins.gentlest(*table))


@quick(200)
@given(
    st.lists(probabilities, min_size=1, max_size=4),
    st.lists(st.integers(-1, 24), min_size=4, max_size=4),
    st.integers(0, 30),
    st.one_of(tables(), st.just((list[int](), list[float]()))),
)
def test_a_block_of_trees_is_cut_as_its_nodes_in_one_row(
    trees: list[list[float]], most: list[int], nodes_max: int, table: Table
) -> None:
    count, room = len(trees), max(1, *map(len, trees))
    block = np.full((PLANES, count, room), -9, np.int32)
    for i, tree in enumerate(trees):
        block[PROBABILITY, i, : len(tree)] = prices(tree).view(np.int32)
    sizes, rows = np.array([*map(len, trees)]), np.zeros((count, COLUMNS), np.int64)
    rows[:, NODES_MAX] = most[:count]
    kept, cost = np.full(count, -9), (int32s(table[0]), prices(table[1]))
    kernels.cut_block(rows, block, sizes, count, nodes_max, *cost, kept)
    most = [max(0, some) for some in most]
    row = prices([p for tree, some in zip(trees, most, strict=False) for p in tree[:some]])
    keep = np.zeros(len(row), np.bool_)
    if nodes_max or table[0]:
        kernels.cut(row, count, nodes_max, *cost, 0, keep)
    else:
        keep[:] = True
    at = 0
    for i, tree in enumerate(trees):
        drafted = min(len(tree), most[i])
        its = keep[at : at + drafted].tolist()
        at += drafted
        marks = block[KEEP, i, : len(tree)].tolist()
        assert marks == [*map(int, its), *[0] * (len(tree) - drafted)]
        is_prefix = its == sorted(its, reverse=True)
        assert kept[i] == (sum(its) if is_prefix else -1 - sum(its))
