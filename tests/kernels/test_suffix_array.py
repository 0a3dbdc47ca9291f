"""The suffix array's searches against sorting and looking at every suffix."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.store.corpus import CorpusTier, suffix_array
from retrieval_draft.store.kernels import suffix_array as kernels
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s

QUICK = settings(deadline=None, max_examples=300)
DEPTH = 5
NONEMPTY = strategies.queries.filter(bool)


@QUICK
@given(st.lists(st.integers(-1, 2**20), max_size=60))
def test_suffixes_are_sorted_with_the_boundary_first(text: list[int]) -> None:
    assert suffix_array(int32s(text)).tolist() == twins.suffixes(text)


@QUICK
@given(strategies.texts, NONEMPTY, st.data())
def test_bound_counts_the_suffixes_below_and_up_to_the_query(
    text: list[int], query: list[int], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(query) - 1))
    tokens, order = int32s(text), suffix_array(int32s(text))
    for above in (0, 1):
        found = kernels.bound(tokens, order, int32s(query), first, above)
        assert found == twins.bound(text, query, first, above)
    for at in range(len(text)):
        found = kernels.compare(tokens, at, int32s(query), first)
        assert found == twins.compare(text, at, query, first)


@QUICK
@given(strategies.texts, NONEMPTY, st.integers(0, 12))
def test_the_longest_known_end_of_the_query_is_found(
    text: list[int], query: list[int], length_max: int
) -> None:
    tokens, order = int32s(text), suffix_array(int32s(text))
    found = kernels.longest(tokens, order, int32s(query), length_max)
    assert found == twins.longest(text, query, length_max)
    for length in range(1, len(query) + 1):
        occurs = kernels.occurs(tokens, order, int32s(query), length)
        assert bool(occurs) == twins.occurs(text, query, length)


@QUICK
@given(strategies.texts, NONEMPTY, st.integers(1, 4), st.integers(1, 12), st.integers(0, 20))
def test_continuations_are_those_of_looking_at_every_place(
    text: list[int], query: list[int], length_min: int, length_max: int, room: int
) -> None:
    tokens, order = int32s(text), suffix_array(int32s(text))
    windows = np.full((room, DEPTH), -9, np.int32)
    lengths = np.full(room, -9, np.int32)
    count = kernels.continuations(
        tokens, order, int32s(query), length_min, length_max, windows, lengths, 0
    )
    found = list(zip(lengths[:count].tolist(), windows[:count].tolist(), strict=True))
    expected = twins.text_continuations(text, query, length_min, length_max, DEPTH, room)
    assert found == expected


def test_places_of_a_second_corpus_are_appended_to_those_of_the_first() -> None:
    first, second = CorpusTier([int32s([1, 2, 3])]), CorpusTier([int32s([1, 2, 4])])
    windows, lengths = np.empty((8, 2), np.int32), np.empty(8, np.int32)
    count = first.continuations(int32s([1, 2]), 2, 8, windows, lengths, 0)
    count = second.continuations(int32s([1, 2]), 2, 8, windows, lengths, count)
    assert windows[:count].tolist() == [[3, -1], [4, -1]]
    assert lengths[:count].tolist() == [2, 2]


def test_no_continuation_crosses_from_one_document_into_the_next() -> None:
    corpus = CorpusTier([int32s([1, 2]), int32s([1, 2, 3]), int32s([])])
    windows, lengths = np.empty((8, 4), np.int32), np.empty(8, np.int32)
    count = corpus.continuations(int32s([1, 2]), 1, 8, windows, lengths, 0)
    assert windows[:count].tolist() == [[3, -1, -1, -1]]
    assert (corpus.documents, corpus.token_count) == (3, 5)
