"""Where the windows of an n-gram table stand: in the order in which they were first written.

A table for `buckets` (a power of two) is one int32 array of four parts:

    header   how many wide and how many narrow windows are taken, and `buckets`
    index    for every window of the table the address where it stands, 0 = nobody has written it
    wide     windows of PROBES slots for the two lowest orders, whose contexts have many followers
    narrow   NARROW_SHARE times as many windows for the others

A hash spreads contexts over all of a table, so that a few hundred tokens would touch every page of it; the
windows they need fill a few. A window that was never written costs its reader one word of the index, and the
last parts of a table that nobody needs no memory at all. Which windows a context may stand in, and what
stands there, does not depend on where they stand: `spread` writes a table out as if it had no index.
"""

import numpy as np
from numba import int64, types, uint64

from retrieval_draft.store.kernels.ahead import LINE_WORDS
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Int32Array

WIDE_ORDERS = 2
WIDE_FOLLOWERS, WIDE_WORDS = 7, 16
NARROW_FOLLOWERS, NARROW_WORDS = 3, 8
NARROW_SHARE = 4
PROBES = 4
WIDE_WINDOW, NARROW_WINDOW = PROBES * WIDE_WORDS, PROBES * NARROW_WORDS
UNIT = WIDE_WORDS + NARROW_SHARE * NARROW_WORDS
"""Words of slots per bucket."""
WIDE_TAKEN, NARROW_TAKEN, BUCKETS, HEADER = 0, 1, 2, 3

row_t = types.Array(types.int32, 1, "C")


@leaf(int64(int64))
def first_wide(buckets: int) -> int:
    """The address of the first wide window of a table: behind the index, on a cache line's boundary."""
    index = buckets // PROBES * (1 + NARROW_SHARE)
    return (HEADER + index + LINE_WORDS - 1) // LINE_WORDS * LINE_WORDS


@leaf(int64(row_t, uint64, int64))
def entry_of(table: Int32Array, state: np.uint64, order: int) -> int:
    """The address of the index's word for a hashed context's window."""
    buckets = np.uint64(table[BUCKETS])
    if order < WIDE_ORDERS:
        return HEADER + int(state & (buckets - np.uint64(1))) // PROBES
    slot = int(state & (buckets * np.uint64(NARROW_SHARE) - np.uint64(1)))
    return HEADER + int(buckets) // PROBES + slot // PROBES


@leaf(int64(row_t, uint64, int64))
def window_of(table: Int32Array, state: np.uint64, order: int) -> int:
    """The address of the first slot where a hashed context may stand; 0: its window is not there yet."""
    return int(table[entry_of(table, state, order)])


@leaf(int64(row_t, uint64, int64))
def take_window(table: Int32Array, state: np.uint64, order: int) -> int:
    """As `window_of`, and the window is there then."""
    entry = entry_of(table, state, order)
    at = int(table[entry])
    if at == 0:
        buckets = int(table[BUCKETS])
        at = first_wide(buckets)
        if order < WIDE_ORDERS:
            at += int(table[WIDE_TAKEN]) * WIDE_WINDOW
            words = WIDE_WINDOW
            table[WIDE_TAKEN] += 1
        else:
            at += buckets * WIDE_WORDS + int(table[NARROW_TAKEN]) * NARROW_WINDOW
            words = NARROW_WINDOW
            table[NARROW_TAKEN] += 1
        for k in range(at, at + words):
            table[k] = 0
        # A reader that comes between finds no window, or an empty one.
        table[entry] = at
    return at


@leaf(types.void(row_t, row_t))
def spread(table: Int32Array, slots: Int32Array) -> None:
    """Write all slots into zeroed `slots` int32[UNIT * buckets] where their hash says, wide ones first."""
    buckets = int(table[BUCKETS])
    wide = buckets // PROBES
    for window in range(wide * (1 + NARROW_SHARE)):
        at = table[HEADER + window]
        if at == 0:
            continue
        if window < wide:
            to, words = window * WIDE_WINDOW, WIDE_WINDOW
        else:
            to, words = buckets * WIDE_WORDS + (window - wide) * NARROW_WINDOW, NARROW_WINDOW
        for k in range(words):
            slots[to + k] = table[at + k]


@leaf(types.void(row_t, row_t))
def fold(table: Int32Array, slots: Int32Array) -> None:
    """Make `table` hold exactly these slots, as `spread` writes them. Others may read it meanwhile."""
    buckets = int(table[BUCKETS])
    wide = buckets // PROBES
    for window in range(wide * (1 + NARROW_SHARE)):
        table[HEADER + window] = 0
    table[WIDE_TAKEN] = 0
    table[NARROW_TAKEN] = 0
    for window in range(wide * (1 + NARROW_SHARE)):
        if window < wide:
            first, words, order = window * WIDE_WINDOW, WIDE_WINDOW, 0
            state = window * PROBES
        else:
            first, words = buckets * WIDE_WORDS + (window - wide) * NARROW_WINDOW, NARROW_WINDOW
            order, state = WIDE_ORDERS, (window - wide) * PROBES
        used = False
        for k in range(first, first + words):
            used = used or slots[k] != 0
        if used:
            at = take_window(table, np.uint64(state), order)
            for k in range(words):
                table[at + k] = slots[first + k]
