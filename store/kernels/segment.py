"""Kernels that search a segment: the suffix array of a text of codes, with a coarse index above it.

A code is a token's number in the segment, by falling frequency; 0 ends a document. `firsts` says at which
rank the suffixes of each code begin, and `keys` holds of every SAMPLE-th suffix its codes 2 to 4: so a
search reads one small array, and of the large ones only the last few ranks. What is read is memory-mapped
and may be damaged: every rank, position and code is checked before it is used as an index.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, types, uint64

from retrieval_draft.store.kernels.leaf import leaf, tuple_type
from retrieval_draft.tree import Int32Array, Int64Array, UInt64Array

SAMPLE = 32
KEY_TOKENS = 3
KEY_BITS = 21
"""Of one code in a key: vocabularies are at most 2^20."""
LEVELS_MAX = 24
"""Rows that `find_levels` needs: those it returns, and the powers of two that it met."""
TRAIL_LENGTH = 5
POSITION, MATCHED, LOW, HIGH, CAPPED = range(TRAIL_LENGTH)


class Index(NamedTuple):
    """A segment's arrays: codes and order [n], firsts[codes + 1], keys, vocabulary, slots."""

    codes: Int32Array
    order: Int32Array
    firsts: Int64Array
    keys: UInt64Array
    vocabulary: Int32Array
    slots: Int32Array


read_t = types.Array(types.int32, 1, "C", readonly=True)
row_t = types.Array(types.int32, 1, "C")
longs_t = types.Array(types.int64, 1, "C")
levels_t = types.Array(types.int64, 2, "C")
table_t = types.Array(types.int32, 2, "C")
pair_t: types.Type = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]
INDEXES = [
    tuple_type(
        [
            types.Array(codes, 1, "C", readonly=True),
            read_t,
            types.Array(types.int64, 1, "C", readonly=True),
            types.Array(types.uint64, 1, "C", readonly=True),
            read_t,
            read_t,
        ],
        Index,
    )
    for codes in (types.uint16, types.int32)
]


@leaf(int64(int64))
def slot_of(token: int) -> int:
    """Where a search of a token's slot begins, before it is cut to the table."""
    return ((int(token) * 2654435769) & 0xFFFFFFFF) >> 7


@leaf(*[int64(index, int64) for index in INDEXES])
def code_of(index: Index, token: int) -> int:
    """The code of a token; 0 if the segment has none. O(1)."""
    mask = len(index.slots) - 1
    at = slot_of(token)
    for probe in range(len(index.slots)):
        code = index.slots[(at + probe) & mask]
        if code <= 0 or code > len(index.vocabulary):
            return 0
        if index.vocabulary[code - 1] == token:
            return int(code)
    return 0


@leaf(*[int64(index, int64) for index in INDEXES])
def code_at(index: Index, at: int) -> int:
    """The code at a position of the text; 0 outside, and where it is none of the segment's."""
    if at < 0 or at >= len(index.codes):
        return 0
    code = int64(index.codes[at])
    return code if 0 < code <= len(index.vocabulary) else 0


@leaf(*[int64(index, row_t, row_t, int64) for index in INDEXES])
def spell_query(index: Index, query: Int32Array, codes: Int32Array, most: int) -> int:
    """codes[-k:] become those of the query's last k <= `most` tokens, all that are known; before them a 0."""
    known = 0
    while known < most:
        code = code_of(index, query[len(query) - 1 - known])
        if code == 0:
            break
        known += 1
        codes[len(codes) - known] = code
    if known < len(codes):
        codes[len(codes) - 1 - known] = 0
    return known


@leaf(*[int64(index, int64, row_t, int64, int64) for index in INDEXES])
def compare(index: Index, rank: int, codes: Int32Array, first: int, skip: int) -> int:
    """-1, 0 or 1: the suffix of this rank, cut to length, against codes[first:]; `skip` are known equal."""
    at = int64(index.order[rank])
    if at < 0 or at >= len(index.codes):
        return -1
    for k in range(skip, len(codes) - first):
        if at + k >= len(index.codes):
            return -1
        difference = int64(index.codes[at + k]) - int64(codes[first + k])
        if difference != 0:
            return -1 if difference < 0 else 1
    return 0


BOUND = [int64(index, row_t, int64, int64, int64, int64, int64) for index in INDEXES]


@leaf(*BOUND)
def bound(
    index: Index, codes: Int32Array, first: int, skip: int, low: int, high: int, above: int
) -> int:
    """First rank of low..high whose suffix is not below codes[first:], or with `above` beyond it.

    Looks near `low` first: O(log of the way there).
    """
    reach = 1
    while low + reach <= high and compare(index, low + reach - 1, codes, first, skip) < above:
        low += reach
        reach *= 2
    high = min(high, low + reach - 1)
    while low < high:
        middle = (low + high) // 2
        if compare(index, middle, codes, first, skip) < above:
            low = middle + 1
        else:
            high = middle
    return low


@leaf(*[int64(index, int64, int64, uint64) for index in INDEXES])
def sample_bound(index: Index, low: int, high: int, key: "np.uint64 | int") -> int:
    """First sample of low..high whose key is not below this one."""
    while low < high:
        middle = (low + high) // 2
        if index.keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@leaf(*[pair_t(index, row_t, int64) for index in INDEXES])
def interval(index: Index, codes: Int32Array, first: int) -> tuple[int, int]:
    """The ranks low..high-1 of the suffixes that begin with codes[first:]; O(log n)."""
    length = len(codes) - first
    size, samples = len(index.order), len(index.keys)
    low = min(max(int(index.firsts[codes[first]]), 0), size)
    high = min(max(int(index.firsts[codes[first] + 1]), low), size)
    if length == 1 or low == high:
        return low, high
    key = uint64(0)
    spread = uint64(1)
    for d in range(1, KEY_TOKENS + 1):
        key <<= uint64(KEY_BITS)
        if d < length:
            key |= uint64(codes[first + d])
        else:
            spread <<= uint64(KEY_BITS)
    begin = min((low + SAMPLE - 1) // SAMPLE, samples)
    end = min((high + SAMPLE - 1) // SAMPLE, samples)
    left = sample_bound(index, begin, end, key)
    right = sample_bound(index, left, end, key + spread)
    # The samples left..right-1 have the query's first codes: all of them, if it is short.
    is_short = length <= KEY_TOKENS + 1
    if left > begin:
        low = (left - 1) * SAMPLE + 1
    if right < end:
        high = min(high, right * SAMPLE)
    middle = min(high, left * SAMPLE) if is_short and left < right else high
    low = bound(index, codes, first, 1, low, middle, 0)
    from_rank = max(low, (right - 1) * SAMPLE + 1) if is_short and left < right else low
    return low, bound(index, codes, first, 1, from_rank, high, 1)


LEVELS = [
    int64(index, row_t, int64, int64, int64, int64, row_t, longs_t, levels_t) for index in INDEXES
]


@leaf(*LEVELS)
def find_levels(
    index: Index,
    query: Int32Array,
    position: int,
    length_min: int,
    length_max: int,
    places_max: int,
    codes: Int32Array,
    trail: Int64Array,
    levels: Int64Array,
) -> int:
    """Where the longest known end of the query stands, and then ever shorter ends.

    Rows (length, low, high) of `levels`, longest first: the longest end of `length_min` to `length_max`
    tokens that stands in the segment, then the powers of two below, until `places_max` places are found.
    Returns the count of rows. `position` is that of the query's end in its sequence, whose earlier tokens
    have not changed since `trail` was last written (position -1: never): where the text goes on as the
    segment does, its interval of the last time is narrowed. The answer does not depend on it. `codes` and
    the rows after those returned are scratch. O(log n) reads of the segment at each length tried.
    """
    most = spell_query(index, query, codes, min(len(query), length_max, len(codes)))
    size = len(codes)
    limit = most
    longest, low, high = 0, 0, 0
    fresh = position - trail[POSITION]
    if trail[POSITION] >= 0 and fresh >= 0 and trail[CAPPED] == 0:
        # No end can be longer than the last time's with the new tokens behind it.
        reached = trail[MATCHED] + fresh
        if reached <= limit:
            limit = reached
            if trail[MATCHED] > 0:
                low = bound(
                    index, codes, size - reached, trail[MATCHED], trail[LOW], trail[HIGH], 0
                )
                high = bound(index, codes, size - reached, trail[MATCHED], low, trail[HIGH], 1)
                if low < high:
                    longest = reached
                else:
                    limit = reached - 1
    elif most > 0 and trail[POSITION] >= 0 and trail[CAPPED] == 1:
        low, high = interval(index, codes, size - most)
        if low < high:
            longest = most
        else:
            limit = most - 1
    met = 0  # powers of two whose interval is known; kept at the end of the rows
    if longest == 0:
        length, over = 1, limit + 1
        while length <= limit:
            begin, end = interval(index, codes, size - length)
            if begin == end:
                over = length
                break
            longest, low, high = length, begin, end
            row = len(levels) - 1 - met
            levels[row, 0], levels[row, 1], levels[row, 2] = length, begin, end
            met += 1
            length *= 2
        while over - longest > 1:
            length = (over + longest) // 2
            begin, end = interval(index, codes, size - length)
            if begin == end:
                over = length
            else:
                longest, low, high = length, begin, end
    trail[POSITION], trail[MATCHED], trail[LOW], trail[HIGH] = position, longest, low, high
    trail[CAPPED] = 1 if longest == most and most == min(length_max, size) else 0
    least = max(1, length_min)
    if longest < least:
        return 0
    levels[0, 0], levels[0, 1], levels[0, 2] = longest, low, high
    rows = 1
    doubled, power = 0, 1
    while power * 2 < longest:
        doubled, power = doubled + 1, power * 2
    while power >= least and power < longest and high - low < places_max:
        if doubled < met:
            row = len(levels) - 1 - doubled
            low, high = levels[row, 1], levels[row, 2]
        else:
            low, high = interval(index, codes, size - power)
        levels[rows, 0], levels[rows, 1], levels[rows, 2] = power, low, high
        rows += 1
        doubled, power = doubled - 1, power // 2
    return rows


COPIES = [
    int64(index, row_t, int64, int64, int64, int64, int64, int64, table_t, row_t, int64)
    for index in INDEXES
]


@leaf(*COPIES)
def copy_places(
    index: Index,
    codes: Int32Array,
    length: int,
    above: int,
    low: int,
    high: int,
    step: int,
    depth: int,
    windows: Int32Array,
    lengths: Int32Array,
    count: int,
) -> int:
    """Append what follows every `step`-th of the ranks low..high-1, if there is room, from row `count` on.

    They agree in `length` codes; those that agree in `above` or more are left out. windows[i, d] is the
    d-th token behind, for d < `depth`, -1 from the document's end on; where the rows are longer than
    `depth`, a -1 follows. Returns the new count.
    """
    size = len(codes)
    # Three passes, each of reads that do not depend on one another: their cache misses overlap.
    stop = count
    rank = low
    while rank < high and stop < len(lengths):
        windows[stop, 0] = index.order[rank]
        stop += 1
        rank += step
    kept = count
    for i in range(count, stop):
        start = int64(windows[i, 0])
        if code_at(index, start + length) == 0:
            continue
        agreed = length
        while (
            agreed < min(above, size)
            and codes[size - 1 - agreed] != 0
            and code_at(index, start - 1 - (agreed - length)) == codes[size - 1 - agreed]
        ):
            agreed += 1
        if agreed < above:
            windows[kept, 0] = start
            lengths[kept] = agreed
            kept += 1
    for i in range(count, kept):
        at = int64(windows[i, 0]) + length
        d = 0
        while d < depth:
            code = code_at(index, at + d)
            if code == 0:
                break
            windows[i, d] = index.vocabulary[code - 1]
            d += 1
        last = min(depth + 1, windows.shape[1])
        while d < last:
            windows[i, d] = -1
            d += 1
    return kept


LOOKS = [
    int64(index, row_t, int64, int64, int64, int64, row_t, longs_t, levels_t, table_t, row_t)
    for index in INDEXES
]


@leaf(*LOOKS)
def look(
    index: Index,
    query: Int32Array,
    position: int,
    length_min: int,
    length_max: int,
    depth: int,
    codes: Int32Array,
    trail: Int64Array,
    levels: Int64Array,
    windows: Int32Array,
    lengths: Int32Array,
) -> int:
    """`find_levels` for as many places as there are rows, and `copy_places` of each level; their count."""
    room = len(lengths)
    rows = find_levels(index, query, position, length_min, length_max, room, codes, trail, levels)
    count = 0
    above = length_max + 1
    for row in range(rows):
        if count == room:
            break
        length, low, high = levels[row, 0], levels[row, 1], levels[row, 2]
        step = max(1, (high - low + room - count - 1) // (room - count))
        count = copy_places(
            index, codes, length, above, low, high, step, depth, windows, lengths, count
        )
        above = length
    return count
