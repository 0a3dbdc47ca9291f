"""Counting what a tree brought, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import tally as kernels
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s


@settings(deadline=None, max_examples=300)
@given(strategies.trees(), st.integers(2, 6), st.data())
def test_a_tree_is_counted_per_source_bit_depth_and_match_length(
    tree: tuple[list[int], list[int]], depth_rows: int, data: st.DataObject
) -> None:
    _, parent = tree
    source = [data.draw(st.integers(0, 2**32 - 1)) for _ in parent]
    path: list[int] = []
    if parent:
        node = data.draw(st.integers(0, len(parent) - 1))
        while node >= 0:
            path.insert(0, node)
            node = parent[node]
    by_bit = np.zeros((kernels.BITS, kernels.COLUMNS), np.int64)
    by_depth = np.zeros((depth_rows, kernels.COLUMNS), np.int64)
    by_match = np.zeros((len(kernels.MATCH_LENGTHS), kernels.COLUMNS), np.int64)
    match_length = data.draw(st.integers(0, 64))
    masks = np.array(source, np.uint32)
    worth = np.array([0.5 ** (1 + i % 8) for i in range(len(parent))], np.float32)
    for times in (1, 2):
        expected = kernels.tally(
            int32s(parent), masks, worth, int32s(path), match_length, by_bit, by_depth, by_match
        )
        assert expected == sum(worth.tolist())
        bits, depths, matches = twins.tallied(parent, source, path, match_length, depth_rows)
        assert by_bit.tolist() == (np.array(bits) * times).tolist()
        assert by_depth.tolist() == (np.array(depths) * times).tolist()
        assert by_match.tolist() == (np.array(matches) * times).tolist()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(*[st.integers(0, 70)] * 3, st.integers(0, 2)), max_size=9), st.data())
def test_the_match_length_is_that_of_the_longest_uninterrupted_place(
    places: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(places)))
    table = int32s(places).reshape(-1, 4)
    assert kernels.longest(table, count) == twins.longest_exact(places[:count])
