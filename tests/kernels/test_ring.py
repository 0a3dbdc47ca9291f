"""The token ring's kernels against plain Python, through every wrap, boundary and roll-back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.store.kernels import ring as kernels
from retrieval_draft.store.ring import TokenRing
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

QUICK = settings(deadline=None, max_examples=300)
CAPACITY = twins.EXACT_TOKENS
DEPTH = 5
BUCKETS = 4
histories = st.lists(st.one_of(strategies.texts, st.integers(0, CAPACITY)), min_size=1, max_size=8)
"""Texts that are appended, and numbers of tokens that are rolled back."""


class Written:
    """A ring and, as a plain mapping, what it must hold."""

    def __init__(self, history: list[list[int] | int], capacity: int = CAPACITY) -> None:
        self.ring = TokenRing(capacity, BUCKETS)
        self.tokens: dict[int, int] = {}
        for change in history:
            if isinstance(change, int):
                self.truncate(max(self.ring.low, self.ring.stop - change))
            else:
                self.extend(change)

    def extend(self, text: list[int]) -> None:
        stop = self.ring.stop
        self.ring.extend(int32s(text))
        self.tokens.update(enumerate(text, start=stop))
        oldest = stop + len(text) - self.ring.capacity
        self.tokens = {p: token for p, token in self.tokens.items() if p >= oldest}

    def truncate(self, stop: int) -> None:
        self.ring.truncate(stop)
        self.tokens = {p: token for p, token in self.tokens.items() if p < stop}


@QUICK
@given(histories)
def test_a_ring_keeps_the_newest_tokens_at_their_positions(history: list[list[int] | int]) -> None:
    written = Written(history)
    ring = written.ring
    assert sorted(written.tokens) == list(range(ring.low, ring.stop))
    assert ring.read(ring.low, ring.stop).tolist() == [
        written.tokens[p] for p in range(ring.low, ring.stop)
    ]


@QUICK
@given(histories, strategies.queries, st.integers(1, 12), st.integers(1, 40))
def test_continuations_are_those_of_brute_force_over_the_kept_tokens(
    history: list[list[int] | int], query: list[int], length_max: int, count_max: int
) -> None:
    written = Written(history)
    windows = np.full((count_max, DEPTH), -9, np.int32)
    lengths = np.full(count_max, -9, np.int32)
    count = written.ring.continuations(int32s(query), length_max, windows, lengths)
    found = list(zip(lengths[:count].tolist(), windows[:count].tolist(), strict=True))
    assert found == twins.ring_continuations(written.tokens, query, length_max, DEPTH, count_max)
    assert (windows[count:] == -9).all()


@QUICK
@given(histories, strategies.queries, st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_occurrence_finds_the_first_or_newest_place_of_the_longest_known_end(
    history: list[list[int] | int], query: list[int], short: int, long: int, newest: bool
) -> None:
    written = Written(history)
    ring = written.ring
    found = ring.occurrence(int32s(query), short, long, newest).tolist()
    end = twins.occurrence(written.tokens, query, short, long, newest)
    following = twins.window(written.tokens, end + 1, CAPACITY) if end >= 0 else []
    assert found == [token for token in following if token >= 0]


@QUICK
@given(strategies.texts, strategies.queries, st.integers(0, 12), st.integers(0, 39))
def test_agreement_counts_equal_tokens_backwards(
    text: list[int], query: list[int], length_max: int, end: int
) -> None:
    kept = dict(enumerate(text))
    tokens = np.zeros(64, np.int32)
    tokens[: len(text)] = text
    if end < len(text):
        found = kernels.agreement(tokens, 0, end, int32s(query), length_max)
        assert found == twins.agreement(kept, end, query, length_max)


@QUICK
@given(strategies.texts.filter(lambda text: len(text) <= CAPACITY))
def test_insert_chains_the_end_positions_of_grams_with_equal_hash_newest_first(
    text: list[int],
) -> None:
    ring = TokenRing(CAPACITY, BUCKETS)
    ring.extend(int32s(text))
    expected = twins.chains(dict(enumerate(text)), CAPACITY)
    found: dict[tuple[int, int], list[int]] = {}
    for order in range(kernels.ORDER_COUNT):
        for bucket in range(CAPACITY):
            link = int(ring.head[order, bucket])
            while link:
                found.setdefault((order, bucket), []).append(link - 1)
                link = int(ring.prev[order, link - 1])
    assert found == expected
    assert all(b < a for chain in found.values() for a, b in pairwise(chain))


@QUICK
@given(strategies.texts, strategies.texts)
def test_remove_is_the_exact_undo_of_insert(before: list[int], added: list[int]) -> None:
    ring = TokenRing(128, BUCKETS)
    ring.extend(int32s(before))
    head, prev = ring.head.copy(), ring.prev.copy()
    ring.extend(int32s(added))
    ring.truncate(len(before))
    assert (ring.head == head).all()
    assert (ring.prev[:, : len(before)] == prev[:, : len(before)]).all()


def test_rolling_back_does_not_bring_back_what_was_overwritten() -> None:
    written = Written([list(range(CAPACITY)), [7, 8, 9, 10], 4])
    assert written.ring.low == 4
    assert written.ring.read(4, CAPACITY).tolist() == list(range(4, CAPACITY))


def test_many_places_with_one_hash_cost_a_bounded_number_of_steps_and_the_newest_are_found() -> (
    None
):
    ring = TokenRing(1024, BUCKETS)
    ring.extend(int32s([1] * 500))
    windows, lengths = np.empty((64, 1), np.int32), np.empty(64, np.int32)
    count = ring.continuations(int32s([0, 1]), 8, windows, lengths)
    assert count == kernels.CHAIN_STEPS_MAX - 1, "the newest place has no continuation"
    assert set(lengths[:count].tolist()) == {1}


def test_a_ring_can_be_searched_after_its_positions_were_counted_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("retrieval_draft.store.ring.REBASE_AT", 100)
    ring = TokenRing(CAPACITY, BUCKETS)
    text = [token % 5 for token in range(0, 400, 3)]
    for first in range(0, len(text), 7):
        ring.extend(int32s(text[first : first + 7]))
        assert ring.stop < 100 + 7
        kept = text[: first + 7][-CAPACITY:]
        assert ring.read(ring.low, ring.stop).tolist() == kept
        windows, lengths = np.empty((40, DEPTH), np.int32), np.empty(40, np.int32)
        count = ring.continuations(int32s(kept[-8:]), 8, windows, lengths)
        found = list(zip(lengths[:count].tolist(), windows[:count].tolist(), strict=True))
        assert found == twins.ring_continuations(dict(enumerate(kept)), kept[-8:], 8, DEPTH, 40)


def test_a_larger_ring_finds_what_the_smaller_one_found() -> None:
    small = TokenRing(16, BUCKETS)
    small.extend(int32s([1, 2, 3, 4, 1, 2, 3]))
    larger = small.grown(64, BUCKETS)
    assert larger.occurrence(int32s([1, 2, 3]), 1, 3, newest=False).tolist() == [4, 1, 2, 3]
    assert (larger.low, larger.stop) == (0, 7)


@QUICK
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**31 - 1))
def test_the_hash_is_a_multiply_xorshift_of_64_bits(state: int, token: int) -> None:
    assert int(kernels.mix(np.uint64(state), token)) == twins.mix(state, token)
