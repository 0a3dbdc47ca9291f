"""An n-gram table: which tokens followed the last 1, 2, 3, 4 and 6 tokens, and how often."""

import numpy as np

from retrieval_draft.store.kernels import windows as kernels
from retrieval_draft.store.pages import zeroed
from retrieval_draft.tree import Int32Array

BUCKETS_MIN = kernels.PROBES
BUCKETS_PER_TOKEN = 1.0
"""Of a context: half of it costs 0.7 % of MAT, twice as many bring nothing."""


def slot_bytes(buckets: int) -> int:
    """Of a table's slots."""
    return 4 * kernels.UNIT * buckets


def table_bytes(buckets: int) -> int:
    """Of a table that is full: its slots and their index."""
    return 4 * kernels.first_wide(buckets) + slot_bytes(buckets)


def buckets_within(bytes_max: int) -> int:
    """The largest power of two of buckets whose slots stay within `bytes_max`."""
    return 1 << (max(BUCKETS_MIN, bytes_max // slot_bytes(1)).bit_length() - 1)


def empty_table(buckets: int) -> Int32Array:
    """A table that knows nothing; `buckets` is a power of two, BUCKETS_MIN or more."""
    assert buckets >= BUCKETS_MIN, f"{buckets} buckets"
    assert buckets & (buckets - 1) == 0, "a power of two, for masking"
    table = zeroed(table_bytes(buckets) // 4)
    table[kernels.BUCKETS] = buckets
    return table


def bytes_used(table: Int32Array) -> int:
    """Of its index and the windows that were written; the rest was never touched."""
    words = kernels.first_wide(int(table[kernels.BUCKETS]))
    words += int(table[kernels.WIDE_TAKEN]) * kernels.WIDE_WINDOW
    return 4 * (words + int(table[kernels.NARROW_TAKEN]) * kernels.NARROW_WINDOW)


def slots_count(table: Int32Array) -> int:
    """Words that all its slots take."""
    return int(kernels.UNIT * table[kernels.BUCKETS])


def slots_in(table: Int32Array) -> Int32Array:
    """A copy of all slots where their hash says: equal for tables of equal content. O(buckets)."""
    slots = zeroed(slots_count(table))
    kernels.spread(table, slots)
    return slots


def put_slots(table: Int32Array, slots: Int32Array) -> None:
    """Make the table hold what `slots_in` gave of one of its size. O(buckets)."""
    assert len(slots) == slots_count(table)
    kernels.fold(table, np.ascontiguousarray(slots, np.int32))
