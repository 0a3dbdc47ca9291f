"""Counting what a tree brought, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import tally as kernels
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s


@settings(deadline=None, max_examples=300)
@given(strategies.trees(), st.data())
def test_a_tree_is_counted_per_source_bit_depth_match_length_size_and_probability(
    tree: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    _, parent = tree
    source = [data.draw(st.integers(0, 2**32 - 1)) for _ in parent]
    path: list[int] = []
    if parent:
        node = data.draw(st.integers(0, len(parent) - 1))
        while node >= 0:
            path.insert(0, node)
            node = parent[node]
    counts = np.zeros((kernels.ROWS, kernels.COLUMNS), np.int64)
    match_length = data.draw(st.integers(0, 64))
    masks = np.array(source, np.uint32)
    worth = np.array([0.5 ** (i % 8) for i in range(len(parent))], np.float32)
    for times in (1, 2):
        expected = kernels.tally(int32s(parent), masks, worth, int32s(path), match_length, counts)
        assert expected == sum(worth.tolist())
        wanted = twins.tallied(parent, source, worth.tolist(), path, match_length)
        assert counts.tolist() == (np.array(wanted) * times).tolist()


def test_a_tree_deeper_than_the_table_counts_in_its_last_row() -> None:
    n = kernels.DEPTHS + 5
    parent, worth = list(range(-1, n - 1)), [0.25] * n
    counts = np.zeros((kernels.ROWS, kernels.COLUMNS), np.int64)
    masks, path = np.zeros(n, np.uint32), list(range(n))
    kernels.tally(int32s(parent), masks, np.array(worth, np.float32), int32s(path), 9, counts)
    assert counts.tolist() == twins.tallied(parent, [0] * n, worth, path, 9)
    last = counts[kernels.BY_DEPTH + kernels.DEPTHS - 1]
    assert last[[kernels.DRAFTED, kernels.ACCEPTED]].tolist() == [7, 7]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(*[st.integers(0, 70)] * 3, st.integers(0, 2)), max_size=9), st.data())
def test_the_match_length_is_that_of_the_longest_uninterrupted_place(
    places: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(places)))
    table = int32s(places).reshape(-1, 4)
    assert kernels.longest(table, count) == twins.longest_exact(places[:count])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 600))
def test_a_value_counts_in_the_last_row_that_it_reaches(value: int) -> None:
    for bounds in (kernels.MATCH_LENGTHS, kernels.SIZES):
        assert kernels.row_of(bounds, value) == twins.row_of(bounds.tolist(), value)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 9), st.integers(0, 99))
def test_every_bit_of_a_mask_is_counted(mask: int, column: int, more: int, expected: int) -> None:
    counts = np.zeros((kernels.ROWS, kernels.COLUMNS), np.int64)
    kernels.count_bits(counts, mask, column, more, expected)
    empty = [[0] * kernels.COLUMNS for _ in range(kernels.ROWS)]
    assert counts.tolist() == twins.bits_counted(empty, mask, column, more, expected)
