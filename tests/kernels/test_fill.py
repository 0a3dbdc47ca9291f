"""Filling templates, against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import fill as kernels
from retrieval_draft.drafting.kernels import grams
from retrieval_draft.drafting.templates import Template
from retrieval_draft.store.kernels import stand
from retrieval_draft.store.stand import Grams
from tests.kernels import twins_fill as twins
from tests.kernels.strategies import VOCAB, int32s, tokens

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


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


expected_tokens = st.lists(
    st.tuples(st.integers(0, VOCAB), st.sampled_from([0, 1, 300, 20000, 40000, 65535])), max_size=10
).map(lambda row: sorted(row, key=lambda pair: -pair[1]))
tables = st.dictionaries(
    st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), expected_tokens, max_size=12
)


def table_of(table: dict[tuple[int, ...], list[tuple[int, int]]]) -> Grams:
    made = Grams.empty(256)
    for gram, row in table.items():
        slot = stand.claim(*made, stand.gram_key(int32s(gram), len(gram), len(gram)))
        for i, (token, share) in enumerate(row):
            made.tokens[slot, i], made.shares[slot, i] = token, share
    return made


@settings(deadline=None, max_examples=300)
@given(templates(), tables, st.lists(st.integers(0, 2), min_size=1, max_size=5), st.data())
def test_the_longest_known_n_gram_fills_each_place(
    template: tuple[list[int], list[int]],
    table: dict[tuple[int, ...], list[tuple[int, int]]],
    query: list[int],
    data: st.DataObject,
) -> None:
    parents, ranks = template
    tree = Template(tuple(parents), tuple(ranks))
    sharpness = data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    nodes_max = data.draw(st.integers(0, len(parents)))
    depth_max, ranks_max = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    ends = data.draw(st.lists(tokens, max_size=2))
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    noise = chance.standard_exponential((tree.inner, 10), np.float32)
    made = table_of(table)
    token, parent = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
    probability, index = np.empty(nodes_max, np.float32), np.empty(nodes_max, np.int32)
    p_node, p_token = np.empty(tree.inner, np.int32), np.empty((tree.inner, 10), np.int32)
    p_probability, size = np.empty((tree.inner, 10), np.float32), np.empty(2, np.int32)
    grams.fill_grams(
        tree.parent_array, tree.rank_array, tree.children_array, made.keys, made.tokens, made.shares,
        int32s(query), VOCAB, sharpness, noise, nodes_max, depth_max, ranks_max, int32s(ends),
        token, parent, probability, index, p_node, p_token, p_probability, size,
    )  # fmt: skip
    expected = twins.fill_grams(
        parents, ranks, table, query, VOCAB, sharpness, noise.tolist(), nodes_max, depth_max,
        ranks_max, ends,
    )  # fmt: skip
    n, rows = size.tolist()
    columns = (token[:n].tolist(), parent[:n].tolist(), index[:n].tolist())
    assert list(zip(*columns, strict=True)) == expected.nodes
    assert probability[:n].tolist() == pytest.approx(expected.probabilities, rel=1e-4)
    found = {
        int(p_node[r]): dict(zip(p_token[r].tolist(), p_probability[r].tolist(), strict=True))
        for r in range(rows)
    }
    assert found.keys() == expected.proposals.keys()
    for node, drawn_from in expected.proposals.items():
        assert {t: p for t, p in found[node].items() if t >= 0} == pytest.approx(
            dict(drawn_from), rel=1e-4
        )
