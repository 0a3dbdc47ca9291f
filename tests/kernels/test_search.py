"""ADED's search against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels.grams import grow_search
from tests.kernels import twins_search as twins
from tests.kernels.strategies import VOCAB, int32s
from tests.kernels.test_fill import table_of

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

token = st.integers(0, VOCAB - 1)
# Shares that differ, so that no two scores are equal but for rounding.
rows = st.lists(
    st.tuples(token, st.integers(500, 9000)), max_size=5, unique_by=lambda pair: pair[1]
)
tables = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    rows.map(lambda row: sorted(row, key=lambda pair: -pair[1])),
    max_size=10,
)


@settings(deadline=None, max_examples=300)
@given(tables, st.integers(-1, 3), st.integers(0, 3), st.data())
def test_simulations_add_the_same_nodes(
    table: dict[tuple[int, ...], list[tuple[int, int]]],
    before_last: int,
    last: int,
    data: st.DataObject,
) -> None:
    nodes_max, depth_max = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 4))
    children_max, ends = data.draw(st.integers(1, 4)), data.draw(st.lists(token, max_size=1))
    weight, scale = data.draw(st.sampled_from([(1.25, 19652.0), (0.1, 3.0)]))
    made = table_of(table)
    tokens, parents = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
    probability = np.empty(nodes_max, np.float32)
    n = grow_search(
        made.keys, made.tokens, made.shares, before_last, last, VOCAB, weight, scale, nodes_max,
        depth_max, children_max, int32s(ends), tokens, parents, probability,
    )  # fmt: skip
    expected = twins.grow_search(
        table, (before_last, last), VOCAB, weight, scale, nodes_max, depth_max, children_max, ends
    )
    found = list(zip(tokens[:n].tolist(), parents[:n].tolist(), strict=True))
    assert found == [(child, above) for child, above, _ in expected]
    assert probability[:n].tolist() == pytest.approx([p for _, _, p in expected], rel=1e-5)
