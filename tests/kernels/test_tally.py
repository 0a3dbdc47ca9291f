"""Counting what a tree brought, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import tally as kernels
from retrieval_draft.metrics import TALLY_ROWS
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s

committed = st.lists(strategies.tokens, max_size=8)


@settings(deadline=None, max_examples=300)
@given(strategies.trees(), committed, st.data())
def test_a_tree_is_counted_by_bit_depth_match_length_size_probability_and_method(
    tree: tuple[list[int], list[int]], tokens: list[int], data: st.DataObject
) -> None:
    token, parent = tree
    path = twins.followed(token, parent, tokens)
    accepted = data.draw(st.integers(-1, len(path)))
    kept = path if accepted < 0 else path[:accepted]
    source = [data.draw(st.integers(0, 2**32 - 1)) for _ in parent]
    worth = [0.5 ** (i % 8) for i in range(len(parent))]
    match_length, method = data.draw(st.integers(0, 64)), data.draw(st.integers(0, 9))
    counts = np.zeros((TALLY_ROWS, kernels.COLUMNS), np.int64)
    for times in (1, 2):
        found = tally(tree, source, worth, tokens, accepted, match_length, method, counts)
        assert found == len(kept)
        wanted = twins.tallied(parent, source, worth, kept, match_length, method)
        assert counts.tolist() == (np.array(wanted) * times).tolist()


@settings(deadline=None, max_examples=100)
@given(strategies.trees(), committed)
def test_a_tree_that_kept_more_than_agrees_is_another_one(
    tree: tuple[list[int], list[int]], tokens: list[int]
) -> None:
    counts = np.zeros((TALLY_ROWS, kernels.COLUMNS), np.int64)
    none = [0.0] * len(tree[0])
    more = len(twins.followed(*tree, tokens)) + 1
    assert tally(tree, [0] * len(none), none, tokens, more, 0, 0, counts) == -1
    assert not counts.any()


def test_a_tree_deeper_than_the_table_counts_in_its_last_row() -> None:
    n = kernels.DEPTHS + 5
    parent, worth = list(range(-1, n - 1)), [0.25] * n
    counts = np.zeros((TALLY_ROWS, kernels.COLUMNS), np.int64)
    tokens = [1] * n
    assert tally((tokens, parent), [0] * n, worth, tokens, -1, 9, 0, counts) == n
    assert counts.tolist() == twins.tallied(parent, [0] * n, worth, list(range(n)), 9, 0)
    last = counts[kernels.BY_DEPTH + kernels.DEPTHS - 1]
    assert last[[kernels.DRAFTED, kernels.ACCEPTED]].tolist() == [7, 7]


def tally(
    tree: tuple[list[int], list[int]],
    source: list[int],
    worth: list[float],
    tokens: list[int],
    accepted: int,
    match_length: int,
    method: int,
    counts: kernels.Table,
) -> int:
    """Of a root with one place, of so long an agreement."""
    places = int32s([[0, match_length, 0, 0]])
    token, parent, committed = int32s(tree[0]), int32s(tree[1]), int32s(tokens)
    masks, probability = np.array(source, np.uint32), np.array(worth, np.float32)
    return kernels.tally(
        token, parent, masks, probability, committed, accepted, places, 1, method, counts
    )


@settings(deadline=None, max_examples=100)
@given(strategies.trees(), committed, st.data())
def test_a_path_is_followed_as_far_as_it_agrees_among_the_nodes_that_are_kept(
    tree: tuple[list[int], list[int]], tokens: list[int], data: st.DataObject
) -> None:
    path = int32s([-1] * len(tree[0]))
    keep = [int(data.draw(st.booleans())) for _ in tree[0]]
    arrays = int32s(tree[0]), int32s(tree[1]), int32s(keep), int32s(tokens)
    count = kernels.follow_path(*arrays, path)
    whole = twins.followed(*tree, tokens)
    gone = next((i for i, node in enumerate(whole) if not keep[node]), len(whole))
    assert path[:count].tolist() == whole[:gone]


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
    counts = np.zeros((TALLY_ROWS, kernels.COLUMNS), np.int64)
    kernels.count_bits(counts, mask, column, more, expected)
    empty = [[0] * kernels.COLUMNS for _ in range(TALLY_ROWS)]
    assert counts.tolist() == twins.bits_counted(empty, mask, column, more, expected)
