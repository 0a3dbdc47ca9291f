"""Counting what a tree brought, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import tally as kernels
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s


@settings(deadline=None, max_examples=300)
@given(strategies.trees(), st.integers(2, 6), st.data())
def test_a_tree_is_counted_per_source_bit_and_per_depth(
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
    masks = np.array(source, np.uint32)
    worth = np.array([0.5 ** (1 + i % 8) for i in range(len(parent))], np.float32)
    for times in (1, 2):
        expected = kernels.tally(int32s(parent), masks, worth, int32s(path), by_bit, by_depth)
        assert expected == sum(worth.tolist())
        bits, depths = twins.tallied(parent, source, path, depth_rows)
        assert by_bit.tolist() == (np.array(bits) * times).tolist()
        assert by_depth.tolist() == (np.array(depths) * times).tolist()
