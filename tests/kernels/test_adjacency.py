"""The recycling matrix's kernels against rows as Python lists."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.store.kernels import adjacency as kernels
from tests.kernels import twins
from tests.kernels.strategies import VOCAB, int32s

WIDTH = 3
row_ids = st.lists(st.integers(-2, VOCAB + 1), min_size=4, max_size=4)
updates = st.lists(
    st.one_of(
        st.tuples(st.integers(0, VOCAB - 1), st.integers(0, VOCAB - 1)),
        st.lists(st.tuples(st.integers(-1, VOCAB), row_ids, st.booleans()), max_size=3),
    ),
    max_size=12,
)
"""Pairs that followed one another, and lists of rows that were predicted."""


@settings(deadline=None, max_examples=300)
@given(updates, st.integers(1, 4))
def test_rows_are_replaced_in_order_and_followers_move_to_the_front(
    changes: list[tuple[int, int] | list[tuple[int, list[int], bool]]], width: int
) -> None:
    successors = np.full((VOCAB, WIDTH), -1, np.int32)
    logprobs = np.full((VOCAB, WIDTH), kernels.UNKNOWN_LOGPROB, np.uint8)
    matrix: twins.Matrix = [[twins.UNKNOWN] * WIDTH for _ in range(VOCAB)]
    for change in changes:
        if isinstance(change, tuple):
            kernels.push_front(successors, logprobs, *change)
            twins.push_front(matrix, *change)
            continue
        keys = [key for key, _, _ in change]
        rows = [row[:width] for _, row, _ in change]
        packed = [[7 if known else 255] * width for _, _, known in change]
        table = np.array(packed, np.uint8).reshape(-1, width)
        kernels.replace_rows(successors, logprobs, int32s(keys), int32s(rows, width), table)
        twins.replace_rows(matrix, keys, rows, packed)
    assert successors.tolist() == [[token for token, _ in row] for row in matrix]
    assert logprobs.tolist() == [[logprob for _, logprob in row] for row in matrix]


def test_a_follower_does_not_displace_a_prediction() -> None:
    successors = int32s([[4, 5, -1]])
    logprobs = np.array([[3, 9, 255]], np.uint8)
    kernels.push_front(successors, logprobs, 0, 2)
    assert successors.tolist() == [[4, 5, -1]]
