"""Kernels that search a suffix array of one text; boundaries between documents are -1."""

from numba import int64, njit, types

from retrieval_draft.tree import Int32Array

row_t = types.Array(types.int32, 1, "C")
read_t = types.Array(types.int32, 1, "C", readonly=True)
table_t = types.Array(types.int32, 2, "C")


@njit(int64(read_t, int64, row_t, int64), nogil=True, cache=True)
def compare(tokens: Int32Array, at: int, query: Int32Array, first: int) -> int:
    """-1, 0 or 1: the text from `at`, cut to its length, against query[first:]."""
    for k in range(len(query) - first):
        if at + k >= len(tokens):
            return -1
        difference = int(tokens[at + k]) - int(query[first + k])
        if difference != 0:
            return -1 if difference < 0 else 1
    return 0


@njit(int64(read_t, read_t, row_t, int64, int64), nogil=True, cache=True)
def bound(tokens: Int32Array, order: Int32Array, query: Int32Array, first: int, above: int) -> int:
    """First rank whose suffix is not below query[first:], or with `above` the first beyond it."""
    lo, hi = 0, len(order)
    while lo < hi:
        middle = (lo + hi) // 2
        if compare(tokens, order[middle], query, first) < above:
            lo = middle + 1
        else:
            hi = middle
    return lo


@njit(int64(read_t, read_t, row_t, int64), nogil=True, cache=True)
def occurs(tokens: Int32Array, order: Int32Array, query: Int32Array, length: int) -> int:
    """Whether the query's last `length` tokens stand anywhere in the text."""
    first = len(query) - length
    rank = bound(tokens, order, query, first, 0)
    return rank < len(order) and compare(tokens, order[rank], query, first) == 0


@njit(int64(read_t, read_t, row_t, int64), nogil=True, cache=True)
def longest(tokens: Int32Array, order: Int32Array, query: Int32Array, length_max: int) -> int:
    """The longest end of the query, at most `length_max`, that stands in the text; O(log L log N)."""
    most = min(len(query), length_max)
    good, bad = 0, 1
    while bad <= most and occurs(tokens, order, query, bad):
        good = bad
        bad = min(2 * bad, most) if bad < most else most + 1
    if bad > most:
        return good
    while bad - good > 1:
        middle = (good + bad) // 2
        if occurs(tokens, order, query, middle):
            good = middle
        else:
            bad = middle
    return good


@njit(
    int64(read_t, read_t, row_t, int64, int64, table_t, row_t, int64),
    nogil=True,
    cache=True,
)
def continuations(
    tokens: Int32Array,
    order: Int32Array,
    query: Int32Array,
    length_min: int,
    length_max: int,
    windows: Int32Array,
    lengths: Int32Array,
    count: int,
) -> int:
    """What follows the places that agree with the end of `query`, appended from row `count` on.

    The longest agreement first, then ever shorter halves down to `length_min`; of many places an even
    sample. Returns the new count of rows.
    """
    n = len(query)
    most = min(n, length_max)
    above = length_max + 1
    length = longest(tokens, order, query, length_max)
    while length >= length_min and length > 0 and count < len(lengths):
        first = n - length
        lo = bound(tokens, order, query, first, 0)
        hi = bound(tokens, order, query, first, 1)
        room = len(lengths) - count
        step = max(1, (hi - lo + room - 1) // room)
        rank = lo
        while rank < hi and count < len(lengths):
            start = int(order[rank])
            agreed = length
            while (
                agreed < above
                and agreed < most
                and start - 1 - (agreed - length) >= 0
                and tokens[start - 1 - (agreed - length)] == query[n - 1 - agreed]
            ):
                agreed += 1
            at = start + length
            if agreed < above and at < len(tokens) and tokens[at] >= 0:
                lengths[count] = agreed
                over = False
                for d in range(windows.shape[1]):
                    if over or at + d >= len(tokens) or tokens[at + d] < 0:
                        over = True
                        windows[count, d] = -1
                    else:
                        windows[count, d] = tokens[at + d]
                count += 1
            rank += step
        above = length
        length //= 2
    return count
