"""STAND's table against plain Python, slot by slot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.store.kernels import stand as kernels
from retrieval_draft.store.stand import Grams
from tests.kernels import twins_stand as twins
from tests.kernels.strategies import int32s

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

tokens = st.integers(0, 5)
# Far more tokens than a row keeps, and shares that round, vanish and tie.
pairs = st.tuples(st.integers(-1, 25), st.sampled_from([0, 1, 2, 999, 1000, 32768, 65535]))
row = st.lists(pairs, max_size=10)


def as_arrays(rows: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    full = [[*one, *[(-1, 0)] * (10 - len(one))] for one in rows]
    return (
        np.array([[t for t, _ in one] for one in full], np.int32).reshape(-1, 10),
        np.array([[s for _, s in one] for one in full], np.uint16).reshape(-1, 10),
    )


def contents(grams: Grams) -> list[tuple[int, int, int, list[tuple[int, int]]] | None]:
    found: list[tuple[int, int, int, list[tuple[int, int]]] | None] = []
    for key, visits, credit, ids, shares in zip(*(a.tolist() for a in grams), strict=True):
        known = [pair for pair in zip(ids, shares, strict=True) if pair[0] >= 0]
        found.append((key, visits, credit, known) if key else None)
    return found


def expected(table: twins.Table) -> list[tuple[int, int, int, list[tuple[int, int]]] | None]:
    return [(g.key, g.visits, g.credit, g.row) if g else None for g in table]


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[int], int, list[int], list[list[tuple[int, int]]]]:
    """A text, where what is new of it begins, the row that follows each token, and the rows."""
    text = draw(st.lists(tokens, max_size=12))
    rows = draw(st.lists(row, max_size=3))
    row_of = [draw(st.integers(-1, len(rows) - 1)) for _ in text]
    return text, draw(st.integers(0, len(text))), row_of, rows


own_rows = st.lists(
    st.tuples(
        st.lists(tokens, min_size=1, max_size=4).map(lambda some: [-1] * (4 - len(some)) + some),
        row,
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=200)
@given(st.lists(texts() | own_rows, max_size=8), st.sampled_from([8, 16, 64]))
def test_a_table_holds_what_was_observed_and_forgets_as_it_should(
    observed: list[object], slots: int
) -> None:
    grams, table = Grams.empty(slots), twins.Table([None] * slots)
    for one in observed:
        if isinstance(one, tuple):
            text, first, row_of, rows = one
            kernels.observe_text(*grams, int32s(text), first, int32s(row_of), *as_arrays(rows))
            twins.observe_text(table, text, first, row_of, rows)
        elif isinstance(one, list):
            contexts, rows = [c for c, _ in one], [r for _, r in one]
            kernels.observe_rows(*grams, int32s(contexts, 4), *as_arrays(rows))
            twins.observe_rows(table, contexts, rows)
    assert contents(grams) == expected(table)
    larger, twin = Grams.empty(2 * slots), twins.Table([None] * (2 * slots))
    kernels.move(*grams, *larger)
    twins.move(table, twin)
    assert contents(larger) == expected(twin)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(0, 40))
def test_what_was_claimed_is_found_until_its_window_is_full(seen: list[int], asked: int) -> None:
    grams, table = Grams.empty(8), twins.Table([None] * 8)
    for token in seen:
        key = np.uint64(twins.gram_key([token], 1, 1))
        assert int(kernels.gram_key(int32s([token]), 1, 1)) == int(key)
        assert kernels.claim(*grams, key) == twins.claim(table, int(key))
    wanted = twins.gram_key([asked], 1, 1)
    assert kernels.find(grams.keys, np.uint64(wanted)) == twins.find(table, wanted)


@settings(deadline=None, max_examples=100)
@given(st.lists(row, min_size=1, max_size=80))
def test_an_n_grams_probabilities_are_running_means(rows: list[list[tuple[int, int]]]) -> None:
    grams, table = Grams.empty(8), twins.Table([None] * 8)
    scratch = (np.empty(20, np.int32), np.empty(20, np.uint16))
    for one in rows:
        seen, shares = as_arrays([one])
        kernels.visit(*grams, np.uint64(5), seen[0], shares[0], *scratch)
        twins.visit(table, 5, one)
    assert contents(grams) == expected(table)
