"""Kernels over n-gram tables: which tokens followed the last 1, 2, 3, 4 and 6 tokens, and how often.

A table has wide slots for the two lowest orders, whose contexts have many followers, and NARROW_SHARE times
as many narrow ones, in windows of PROBES (`windows`). A slot is a check of the context's hash (0 = empty), a
state word, F followers (-1 = none) and their counts; it is found within the window that the hash names. The
state word holds the total of all sightings, which follower came last, and a reference count for eviction. A
sighting counts SIGHTING; in a full slot a newcomer wears all followers down by 1 and takes the place of the
weakest once that is weak enough. A full window does the same with contexts (CLOCK). All of it is a function
of the order of insertion alone: replicas that insert alike are equal.
"""

import numpy as np
from numba import int64, types, uint64

from retrieval_draft.store.kernels.ahead import LINE_WORDS, ahead
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.store.kernels.windows import (
    NARROW_FOLLOWERS,
    NARROW_WINDOW,
    NARROW_WORDS,
    PROBES,
    WIDE_FOLLOWERS,
    WIDE_ORDERS,
    WIDE_WINDOW,
    WIDE_WORDS,
    take_window,
    window_of,
)
from retrieval_draft.tree import Int32Array

ORDERS = (1, 2, 3, 4, 6)
ORDER_COUNT = len(ORDERS)
LENGTHS = np.array(ORDERS, np.int32)
"""The orders again: indexing a tuple would copy it, in a kernel."""
SIGHTING = 2
WEAK = 4
"""A follower with a count up to this gives way to a new one."""
COUNT_MAX = 60_000
TOTAL_BITS = 20
TOTAL_MASK = (1 << TOTAL_BITS) - 1
NEWEST_MASK = 0xF
REFERENCE_SHIFT = TOTAL_BITS + 4
REFERENCE_MAX = 15
AHEAD = 1
"""Tokens between fetching windows and counting in them."""

row_t = types.Array(types.int32, 1, "C")


@leaf(int64(uint64, int64))
def check_of(state: np.uint64, order: int) -> int:
    """The int32 check of a hashed context, never 0."""
    h = (np.uint64(state) ^ np.uint64(order)) * np.uint64(0xD6E8FEB86659FD93)
    return int((h >> np.uint64(33)) | np.uint64(1))


@leaf(int64(row_t, int64, uint64, int64))
def find_in(table: Int32Array, window: int, state: np.uint64, order: int) -> int:
    """The address of a hashed context's slot in its window, or -1. O(PROBES)."""
    at = window
    if at == 0:
        return -1
    check = check_of(state, order)
    words = WIDE_WORDS if order < WIDE_ORDERS else NARROW_WORDS
    for _ in range(PROBES):
        if table[at] == check:
            return at
        at += words
    return -1


@leaf(int64(row_t, uint64, int64))
def find(table: Int32Array, state: np.uint64, order: int) -> int:
    """The address of a hashed context's slot, or -1. O(PROBES)."""
    return find_in(table, window_of(table, state, order), state, order)


@leaf(types.void(row_t, uint64, int64, int64))
def see(table: Int32Array, state: np.uint64, order: int, token: int) -> None:
    """Count that `token` followed the hashed context."""
    followers = WIDE_FOLLOWERS if order < WIDE_ORDERS else NARROW_FOLLOWERS
    words = 2 + 2 * followers
    check = check_of(state, order)
    first = take_window(table, state, order)
    last = first + PROBES * words
    at = -1
    for slot in range(first, last, words):
        if table[slot] == check:
            at = slot
            break
        if table[slot] == 0 and at < 0:
            at = slot
    if at < 0:
        # The least referenced context goes; all in the window come closer to going.
        at = first
        for slot in range(first, last, words):
            if table[slot + 1] >> REFERENCE_SHIFT < table[at + 1] >> REFERENCE_SHIFT:
                at = slot
        for slot in range(first, last, words):
            if table[slot + 1] >> REFERENCE_SHIFT > 0:
                table[slot + 1] -= 1 << REFERENCE_SHIFT
    if table[at] != check:
        table[at] = check
        table[at + 1] = 0
        for k in range(followers):
            table[at + 2 + k] = -1
            table[at + 2 + followers + k] = 0
    word = table[at + 1]
    total = word & TOTAL_MASK
    reference = min(REFERENCE_MAX, (word >> REFERENCE_SHIFT) + 1)
    tokens = at + 2
    counts = tokens + followers
    place = -1
    weakest = 0
    for k in range(followers):
        if table[tokens + k] == token or table[tokens + k] < 0:
            table[tokens + k] = token
            place = k
            break
        if table[counts + k] < table[counts + weakest]:
            weakest = k
    if place < 0:
        for k in range(followers):
            if table[counts + k] > 0:
                table[counts + k] -= 1
        if table[counts + weakest] <= WEAK:
            place = weakest
            table[tokens + place] = token
            table[counts + place] = 0
    total += SIGHTING
    if place >= 0:
        table[counts + place] += SIGHTING
    else:
        place = (word >> TOTAL_BITS) & NEWEST_MASK
    if total >= COUNT_MAX:
        total //= 2
        for k in range(followers):
            table[counts + k] //= 2
    table[at + 1] = total | (place << TOTAL_BITS) | (reference << REFERENCE_SHIFT)


@leaf(types.void(row_t, uint64, int64, int64))
def unsee(table: Int32Array, state: np.uint64, order: int, token: int) -> None:
    """Take one sighting back, as far as it is still there."""
    at = find(table, state, order)
    if at < 0:
        return
    followers = WIDE_FOLLOWERS if order < WIDE_ORDERS else NARROW_FOLLOWERS
    for k in range(at + 2, at + 2 + followers):
        if table[k] == token and table[k + followers] >= SIGHTING:
            table[k + followers] -= SIGHTING
            if table[at + 1] & TOTAL_MASK >= SIGHTING:
                table[at + 1] -= SIGHTING


@leaf(types.void(row_t, row_t, int64, int64))
def look_ahead(tokens: Int32Array, table: Int32Array, low: int, at: int) -> None:
    """Fetch the windows of the contexts before ring position `at`."""
    mask = len(tokens) - 1
    state = np.uint64(0)
    order = 0
    for k in range(1, ORDERS[ORDER_COUNT - 1] + 1):
        if at - k < low:
            break
        before = tokens[(at - k) & mask]
        if before < 0:
            break
        state = mix(state, before)
        if k == LENGTHS[order]:
            first = window_of(table, state, order)
            words = WIDE_WINDOW if order < WIDE_ORDERS else NARROW_WINDOW
            if first > 0:
                for line in range(first, first + words, LINE_WORDS):
                    ahead(table, line)
            order += 1


@leaf(types.void(row_t, row_t, int64, int64, int64, int64))
def count(
    tokens: Int32Array,
    table: Int32Array,
    low: int,
    start: int,
    stop: int,
    back: int,
) -> None:
    """Count the tokens at ring positions start..stop-1 after their contexts; with `back` take them back.

    Contexts never cross a boundary (-1) or `low`.
    """
    mask = len(tokens) - 1
    for at in range(start - AHEAD, stop):
        if at + AHEAD < stop:
            look_ahead(tokens, table, low, at + AHEAD)
        if at < start:
            continue
        token = tokens[at & mask]
        if token < 0:
            continue
        state = np.uint64(0)
        order = 0
        for k in range(1, ORDERS[ORDER_COUNT - 1] + 1):
            if at - k < low:
                break
            before = tokens[(at - k) & mask]
            if before < 0:
                break
            state = mix(state, before)
            if k == LENGTHS[order]:
                if back:
                    unsee(table, state, order, token)
                else:
                    see(table, state, order, token)
                order += 1
