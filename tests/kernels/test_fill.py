"""Filling templates, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import fill as kernels
from tests.kernels import twins_fill as twins
from tests.kernels.strategies import VOCAB, int32s, tokens


@st.composite
def templates(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Parents and ranks, topological, no rank twice under a parent."""
    places: dict[tuple[int, int], None] = {}
    for _ in range(draw(st.integers(1, 14))):
        place = (draw(st.integers(-1, len(places) - 1)), draw(st.integers(0, 4)))
        places.setdefault(place)
    return [parent for parent, _ in places], [rank for _, rank in places]


matrices = st.lists(
    st.lists(st.integers(-1, VOCAB), min_size=3, max_size=3), min_size=VOCAB, max_size=VOCAB
)


@settings(deadline=None, max_examples=300)
@given(templates(), matrices, tokens, st.data())
def test_the_matrix_fills_what_it_knows(
    template: tuple[list[int], list[int]],
    successors: list[list[int]],
    root: int,
    data: st.DataObject,
) -> None:
    parents, ranks = template
    nodes_max = data.draw(st.integers(0, len(parents)))
    depth_max, ranks_max = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    ends = data.draw(st.lists(tokens, max_size=2))
    worth = 0.5 ** np.arange(len(parents), dtype=np.float32)
    token, parent = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
    probability = np.empty(nodes_max, np.float32)
    size = kernels.fill_matrix(
        int32s(parents), int32s(ranks), worth, int32s(successors, 3), root, nodes_max, depth_max,
        ranks_max, int32s(ends), token, parent, probability,
    )  # fmt: skip
    expected = twins.fill_matrix(
        parents, ranks, successors, root, nodes_max, depth_max, ranks_max, ends
    )
    assert list(zip(token[:size].tolist(), parent[:size].tolist(), strict=True)) == [
        (child, above) for child, above, _ in expected
    ]
    assert probability[:size].tolist() == [0.5**place for _, _, place in expected]
