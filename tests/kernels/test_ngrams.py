"""The n-gram tables' kernels against plain Python, in tables so small that everything is evicted."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.store.kernels import ngrams as kernels
from retrieval_draft.store.kernels import windows
from retrieval_draft.store.ngrams import (
    BUCKETS_MIN,
    bytes_used,
    empty_table,
    put_slots,
    slots_in,
    table_bytes,
)
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import Int32Array
from tests.kernels import strategies
from tests.kernels import twins_ngrams as twins
from tests.kernels.strategies import int32s, quick

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

long_texts = st.lists(st.integers(-1, 11), max_size=120) | strategies.texts
states = st.integers(0, 2**64 - 1) | st.integers(0, 15)


def slots_of(words: Int32Array, followers: int) -> list[twins.Slot | None]:
    found: list[twins.Slot | None] = []
    for row in words.reshape(-1, 2 + 2 * followers).tolist():
        pairs = zip(row[2 : 2 + followers], row[2 + followers :], strict=True)
        known = [[token, seen] for token, seen in pairs if token >= 0]
        word = row[1]
        newest, reference = word >> kernels.TOTAL_BITS & 15, word >> kernels.REFERENCE_SHIFT
        slot = twins.Slot(row[0], word & kernels.TOTAL_MASK, newest, reference, known)
        found.append(slot if row[0] else None)
    return found


def read(table: Int32Array) -> twins.Table:
    """What stands in a table."""
    slots = slots_in(table)
    buckets = len(slots) // windows.UNIT
    cut = buckets * windows.WIDE_WORDS
    wide = slots_of(slots[:cut], windows.WIDE_FOLLOWERS)
    return twins.Table(buckets, wide, slots_of(slots[cut:], windows.NARROW_FOLLOWERS))


@quick(300)
@given(st.sampled_from([4, 16]), st.lists(st.tuples(long_texts, st.integers(0, 20)), max_size=4))
def test_texts_are_counted_and_taken_back_as_in_lists_of_slots(
    buckets: int, history: list[tuple[list[int], int]]
) -> None:
    table, expected = empty_table(buckets), twins.Table(buckets)
    ring = np.full(1024, -1, np.int32)
    kept: dict[int, int] = {}
    stop = 0
    for text, back in history:
        ring[stop : stop + len(text)] = text
        kept.update(enumerate(text, start=stop))
        kernels.count(ring, table, 0, stop, stop + len(text), 0)
        twins.count(kept, expected, stop, stop + len(text))
        stop += len(text)
        first = max(0, stop - back)
        kernels.count(ring, table, 0, first, stop, 1)
        twins.count(kept, expected, first, stop, back=True)
        stop = first
    assert read(table) == expected


@quick(200)
@given(
    st.lists(st.tuples(states, st.integers(0, 4), st.integers(0, 12), st.booleans()), max_size=150)
)
def test_single_sightings_evict_the_least_referenced_context_and_the_weakest_follower(
    sightings: list[tuple[int, int, int, bool]],
) -> None:
    table, expected = empty_table(4), twins.Table(4)
    for state, order, token, back in sightings:
        (kernels.unsee if back else kernels.see)(table, np.uint64(state), order, token)
        (twins.unsee if back else twins.see)(expected, state, order, token)
        at = kernels.find(table, np.uint64(state), order)
        slot = twins.find(expected, state, order)
        assert (at >= 0) == (slot is not None)
        if slot:
            assert table[at] == slot.check == kernels.check_of(np.uint64(state), order)
            words = windows.WIDE_WORDS if order < windows.WIDE_ORDERS else windows.NARROW_WORDS
            first = windows.window_of(table, np.uint64(state), order)
            assert first <= at < first + windows.PROBES * words
    assert read(table) == expected


@quick(100)
@given(
    st.sampled_from([BUCKETS_MIN, 16, 64]),
    st.lists(st.tuples(states, st.integers(0, 4), st.integers(0, 12)), max_size=80),
    st.lists(st.tuples(states, st.integers(0, 4), st.integers(0, 12)), max_size=20),
)
def test_windows_take_room_as_they_are_written_and_slots_put_back_go_on_alike(
    buckets: int, before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]
) -> None:
    table, other = empty_table(buckets), empty_table(buckets)
    written: set[tuple[bool, int]] = set()
    for state, order, token in before:
        kernels.see(table, np.uint64(state), order, token)
        is_wide = order < windows.WIDE_ORDERS
        slots = buckets if is_wide else buckets * windows.NARROW_SHARE
        written.add((is_wide, state % slots // windows.PROBES))
    used = 4 * windows.first_wide(buckets)
    used += 4 * sum(windows.WIDE_WINDOW if w else windows.NARROW_WINDOW for w, _ in written)
    assert bytes_used(table) == used <= table_bytes(buckets) == table.nbytes
    assert not table[table_bytes(buckets) // 4 :].any()
    for state, order, token in after:
        # What stood there is gone with what is put.
        kernels.see(other, np.uint64(state), order, token)
    put_slots(other, slots_in(table))
    assert read(other) == read(table)
    assert bytes_used(other) == used
    for one in (table, other):
        for state, order, token in after:
            kernels.see(one, np.uint64(state), order, token)
    assert (slots_in(other) == slots_in(table)).all()


@quick(200)
@given(st.lists(st.integers(-1, 2), max_size=40))
def test_while_nothing_overflows_a_table_is_a_dictionary_of_counts(text: list[int]) -> None:
    ring = TokenRing(64, 1024)
    ring.extend(int32s(text))
    kept = dict(enumerate(text))
    counts: Counter[tuple[tuple[int, ...], int]] = Counter()
    for at, token in kept.items():
        if token >= 0:
            counts.update((tuple(context), token) for _, context in twins.contexts_before(kept, at))
    contexts = {context for context, _ in counts}
    for context in contexts:
        order = twins.ORDERS.index(len(context))
        at = kernels.find(ring.table, np.uint64(twins.hash_of(context)), order)
        room = windows.WIDE_FOLLOWERS if order < windows.WIDE_ORDERS else windows.NARROW_FOLLOWERS
        row = ring.table[at : at + 2 + 2 * room].tolist()
        found = {row[2 + k]: row[2 + room + k] for k in range(room) if row[2 + k] >= 0}
        assert found == {token: 2 * n for (some, token), n in counts.items() if some == context}
        assert row[1] & kernels.TOTAL_MASK == sum(found.values())
    assert sum(slot is not None for slot in read(ring.table).wide) == sum(
        len(context) <= 2 for context in contexts
    )


def test_a_newcomer_wears_the_others_down_and_takes_the_place_of_the_weakest_once_it_is_weak() -> (
    None
):
    table = empty_table(4)
    for token in (1, 1, 1, 2, 2, 2, 3, 3, 3, 3):
        kernels.see(table, np.uint64(5), 2, token)
    steps = []
    for _ in range(3):
        kernels.see(table, np.uint64(5), 2, 9)
        (slot,) = (one for one in read(table).narrow if one)
        steps.append(slot.followers)
    assert steps == [
        [[1, 5], [2, 5], [3, 7]],
        [[9, 2], [2, 4], [3, 6]],
        [[9, 4], [2, 4], [3, 6]],
    ]


def test_counts_are_halved_before_they_overflow() -> None:
    table, expected = empty_table(4), twins.Table(4)
    for token in (1, 2):
        for _ in range(19_000):
            kernels.see(table, np.uint64(5), 0, token)
            twins.see(expected, 5, 0, token)
    assert read(table) == expected
    slot = twins.find(expected, 5, 0)
    assert slot
    assert slot.total == 46_000
    assert slot.followers == [[1, 19_000], [2, 27_000]]


@quick(100)
@given(strategies.texts, st.lists(st.integers(-1, 2), max_size=10))
def test_what_is_taken_back_and_comes_again_counts_once(
    before: list[int], again: list[int]
) -> None:
    once, twice = TokenRing(64, 1024), TokenRing(64, 1024)
    for ring in (once, twice):
        ring.extend(int32s(before))
        ring.extend(int32s(again))
    twice.truncate(len(before))
    twice.extend(int32s(again))
    tables = [read(ring.table) for ring in (once, twice)]
    for table in tables:
        for slot in [*table.wide, *table.narrow]:
            if slot:
                slot.reference = 0
    assert tables[0] == tables[1]


def test_known_tokens_are_context_and_are_not_counted_again() -> None:
    whole, parts = TokenRing(64, 64), TokenRing(64, 64)
    whole.extend(int32s([1, 2, 3, 4, 5]))
    parts.extend(int32s([1, 2, 3]))
    parts.extend(int32s([-1, 2, 3, 4, 5]), known=3)
    at = kernels.find(parts.table, np.uint64(twins.hash_of([3])), 0)
    assert parts.table[at + 2] == 4
    at = kernels.find(parts.table, np.uint64(twins.hash_of([2])), 0)
    assert parts.table[at + 1] & kernels.TOTAL_MASK == kernels.SIGHTING
    assert kernels.find(whole.table, np.uint64(twins.hash_of([3, 2, 1])), 2) >= 0
