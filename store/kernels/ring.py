"""Kernels over a token ring with hash chains of its n-grams.

A ring holds token positions low..stop-1; position p lies at tokens[p & (capacity - 1)], a boundary
between texts is -1. For each order of ORDERS, head[o, bucket] and prev[o, p & mask] chain the end
positions of grams with equal hash, newest first, stored + 1 so that 0 ends a chain. No keys are kept:
a bucket shared by two grams only costs steps, for every position is compared with the query itself.
Readers may run beside the one writer: what they read may be torn, but never leads outside the arrays.
"""

import numpy as np
from numba import int64, njit, types, uint64

from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Int32Array

ORDERS = (1, 2, 3, 7)
ORDER_COUNT = len(ORDERS)
LENGTHS = np.array(ORDERS, np.int32)
"""The orders again: indexing a tuple would copy it, in a kernel."""
CHAIN_STEPS_MAX = 32
"""Positions looked at per order; the newest are the best evidence, and the cost stays bounded."""

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")


@leaf(uint64(uint64, int64))
def mix(state: np.uint64, token: int) -> np.uint64:
    """One round of a multiply-xorshift hash."""
    h = (np.uint64(state) ^ (np.uint64(token) + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@leaf(types.void(row_t, table_t, table_t, int64, int64, int64))
def insert(
    tokens: Int32Array, head: Int32Array, prev: Int32Array, low: int, start: int, stop: int
) -> None:
    """Chain the grams that end at start..stop-1; grams never cross a boundary or `low`."""
    mask = len(tokens) - 1
    buckets = head.shape[1] - 1
    for end in range(start, stop):
        state = np.uint64(0)
        order = 0
        for back in range(ORDERS[ORDER_COUNT - 1]):
            p = end - back
            if p < low:
                break
            token = tokens[p & mask]
            if token < 0:
                break
            state = mix(state, token)
            if back + 1 == LENGTHS[order]:
                bucket = int(state & np.uint64(buckets))
                prev[order, end & mask] = head[order, bucket]
                head[order, bucket] = end + 1
                order += 1
        for rest in range(order, ORDER_COUNT):
            prev[rest, end & mask] = 0


@leaf(types.void(row_t, table_t, table_t, int64, int64, int64))
def remove(
    tokens: Int32Array, head: Int32Array, prev: Int32Array, low: int, start: int, stop: int
) -> None:
    """Undo `insert` of start..stop-1, which must be the newest positions."""
    mask = len(tokens) - 1
    buckets = head.shape[1] - 1
    for end in range(stop - 1, start - 1, -1):
        state = np.uint64(0)
        order = 0
        for back in range(ORDERS[ORDER_COUNT - 1]):
            p = end - back
            if p < low:
                break
            token = tokens[p & mask]
            if token < 0:
                break
            state = mix(state, token)
            if back + 1 == LENGTHS[order]:
                bucket = int(state & np.uint64(buckets))
                if head[order, bucket] == end + 1:
                    head[order, bucket] = prev[order, end & mask]
                order += 1


@leaf(int64(row_t, int64, int64, row_t, int64))
def agreement(tokens: Int32Array, low: int, end: int, query: Int32Array, length_max: int) -> int:
    """How many tokens up to position `end` equal the end of the query, at most `length_max`."""
    mask = len(tokens) - 1
    n = len(query)
    most = min(n, length_max, end - low + 1)
    for k in range(most):
        if tokens[(end - k) & mask] != query[n - 1 - k]:
            return k
    return most


@njit(
    int64(row_t, table_t, table_t, int64, int64, row_t, int64, table_t, row_t),
    nogil=True,
    cache=True,
)
def continuations(
    tokens: Int32Array,
    head: Int32Array,
    prev: Int32Array,
    low: int,
    stop: int,
    query: Int32Array,
    length_max: int,
    windows: Int32Array,
    lengths: Int32Array,
) -> int:
    """What followed the places that agree with the end of `query`.

    Fills windows[i] with the tokens after place i (-1 from a boundary or the end on) and lengths[i]
    with its agreement, longer orders first, newest first within an order. Returns how many places.
    Costs O(orders x CHAIN_STEPS_MAX), whatever the ring holds.
    """
    mask = len(tokens) - 1
    buckets = head.shape[1] - 1
    count = 0
    n = len(query)
    states = np.empty(ORDER_COUNT, np.uint64)
    state = np.uint64(0)
    known = 0
    for back in range(min(n, ORDERS[ORDER_COUNT - 1])):
        state = mix(state, query[n - 1 - back])
        if back + 1 == LENGTHS[known]:
            states[known] = state
            known += 1
    length_above = length_max + 1
    for order in range(known - 1, -1, -1):
        link = head[order, int(states[order] & np.uint64(buckets))]
        for _ in range(CHAIN_STEPS_MAX):
            end = int(link) - 1
            if count == len(lengths) or end < low:
                break
            if end + 1 < stop and tokens[(end + 1) & mask] >= 0:
                length = agreement(tokens, low, end, query, length_max)
                # A longer agreement was met in the chain of the order above.
                if LENGTHS[order] <= length < length_above:
                    lengths[count] = length
                    over = False
                    for d in range(windows.shape[1]):
                        p = end + 1 + d
                        if over or p >= stop or tokens[p & mask] < 0:
                            over = True
                            windows[count, d] = -1
                        else:
                            windows[count, d] = tokens[p & mask]
                    count += 1
            following = prev[order, end & mask]
            if following >= link:
                break
            link = following
        length_above = LENGTHS[order]
    return count


@njit(int64(row_t, table_t, table_t, int64, int64, row_t, int64, int64, int64))
def occurrence(
    tokens: Int32Array,
    head: Int32Array,
    prev: Int32Array,
    low: int,
    stop: int,
    query: Int32Array,
    length_min: int,
    length_max: int,
    newest: int,
) -> int:
    """Where the longest of the query's last length_max..length_min tokens occurred with a continuation.

    Returns the end position of its first occurrence, or of its newest one, or -1. Walks a whole chain:
    O(occurrences).
    """
    mask = len(tokens) - 1
    buckets = head.shape[1] - 1
    n = len(query)
    for length in range(min(length_max, n), length_min - 1, -1):
        order = 0
        while order + 1 < ORDER_COUNT and LENGTHS[order + 1] <= length:
            order += 1
        state = np.uint64(0)
        for back in range(LENGTHS[order]):
            state = mix(state, query[n - 1 - back])
        link = head[order, int(state & np.uint64(buckets))]
        found = -1
        while int(link) - 1 >= low:
            end = int(link) - 1
            if (
                end + 1 < stop
                and tokens[(end + 1) & mask] >= 0
                and agreement(tokens, low, end, query, length) == length
            ):
                found = end
                if newest:
                    break
            following = prev[order, end & mask]
            if following >= link:
                break
            link = following
        if found >= 0:
            return found
    return -1
