"""Trees and paths that grow from places, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import places as kernels
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s

QUICK = settings(deadline=None, max_examples=300)
ROOM = 16
ends = st.lists(st.integers(0, 2), max_size=2)


def out() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.full(ROOM, -9, np.int32),
        np.full(ROOM, -9, np.int32),
        np.full(ROOM, -9, np.float32),
        np.zeros(1, np.int32),
    )


@QUICK
@given(strategies.windows_of_three, st.data())
def test_rows_are_ordered_by_their_windows(windows: list[list[int]], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(windows)))
    count = data.draw(st.integers(0, len(windows) - first))
    order = np.empty(count, np.int32)
    kernels.sort_rows(int32s(windows, 3), first, count, order)
    assert order.tolist() == twins.sort_rows(windows, first, count)


@QUICK
@given(
    strategies.windows_of_three,
    st.integers(0, ROOM),
    st.integers(0, 4),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.1, 0.4]),
    ends,
)
def test_a_tree_takes_the_best_share_first(
    windows: list[list[int]],
    nodes_max: int,
    depth_max: int,
    children_max: int,
    probability_min: float,
    end_tokens: list[int],
) -> None:
    rows = twins.sort_rows(windows, 0, len(windows))
    token, parent, probability, size = out()
    score = kernels.grow_tree(
        int32s(windows, 3), int32s(rows), len(rows), nodes_max, depth_max, children_max,
        probability_min, int32s(end_tokens), token, parent, probability, size,
    )  # fmt: skip
    tree = twins.grow_tree(
        windows, rows, nodes_max, depth_max, children_max, probability_min, end_tokens
    )
    n = int(size[0])
    assert token[:n].tolist() == tree.token
    assert parent[:n].tolist() == tree.parent
    assert probability[:n].tolist() == np.array(tree.probability, np.float32).tolist()
    assert score == sum(tree.probability)
    assert (token[n:] == -9).all()


@QUICK
@given(strategies.windows_of_three.filter(bool), st.integers(1, ROOM))
def test_without_other_limits_the_nodes_are_the_most_probable_of_all(
    windows: list[list[int]], nodes_max: int
) -> None:
    rows = twins.sort_rows(windows, 0, len(windows))
    token, parent, probability, size = out()
    kernels.grow_tree(
        int32s(windows, 3), int32s(rows), len(rows), nodes_max, 9, 99, 0.0, int32s([]),
        token, parent, probability, size,
    )  # fmt: skip
    paths = {tuple(row[:d]) for row in windows for d in (1, 2, 3) if -1 not in row[:d]}
    shares = [sum(tuple(row[: len(p)]) == p for row in windows) / len(windows) for p in paths]
    best = sorted(shares, reverse=True)[:nodes_max]
    n = int(size[0])
    assert np.allclose(sorted(probability[:n].tolist(), reverse=True), best)


@QUICK
@given(
    strategies.windows_of_three,
    st.integers(0, ROOM),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.1, 0.4]),
    ends,
)
def test_a_path_follows_the_most_frequent_continuation(
    windows: list[list[int]],
    nodes_max: int,
    depth_max: int,
    probability_min: float,
    end_tokens: list[int],
) -> None:
    rows = twins.sort_rows(windows, 0, len(windows))
    token, parent, probability, size = out()
    score = kernels.grow_path(
        int32s(windows, 3), int32s(rows), len(rows), nodes_max, depth_max, probability_min,
        int32s(end_tokens), token, parent, probability, size,
    )  # fmt: skip
    tree = twins.grow_path(windows, rows, nodes_max, depth_max, probability_min, end_tokens)
    n = int(size[0])
    assert token[:n].tolist() == tree.token
    assert parent[:n].tolist() == list(range(-1, n - 1))
    assert probability[:n].tolist() == np.array(tree.probability, np.float32).tolist()
    assert score == sum(tree.probability)
