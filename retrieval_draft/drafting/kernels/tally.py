"""Counts what a verified tree brought: per source bit, depth, match length, size, probability and method."""

import numpy as np
import numpy.typing as npt
from numba import int64, njit, types

from retrieval_draft.drafting.kernels.evidence import GAP, LENGTH
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Float32Array, Int32Array, UInt32Array

Table = npt.NDArray[np.int64]

row_t = types.Array(types.int32, 1, "C", readonly=True)
masks_t = types.Array(types.uint32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C", readonly=True)
counts_t = types.Array(types.int64, 2, "C")
lengths_t = types.Array(types.int64, 1, "C", readonly=True)
places_t = types.Array(types.int32, 2, "C")
path_t = types.Array(types.int32, 1, "C")

STEPS, HITS, DRAFTED, ACCEPTED, EXPECTED = 0, 1, 2, 3, 4
"""EXPECTED: the nodes' summed path probabilities, in MILLIONTHS. An integer, so that sums of sums agree."""
COLUMNS = 5
MILLIONTHS = 1_000_000
BITS = 32
DEPTHS = 65
MATCH_LENGTHS = np.array([0, 3, 4, 6, 8, 12, 16, 24, 32], np.int64)
"""Rows by match length: each counts from here up to the next. Shorter than 3 tokens is none, 0."""
SIZES = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512], np.int64)
"""Rows by the nodes of the tree, likewise."""
TENTHS = 10
BY_BIT = 0
BY_DEPTH = BY_BIT + BITS
BY_MATCH = BY_DEPTH + DEPTHS
BY_SIZE = BY_MATCH + len(MATCH_LENGTHS)
BY_TENTH = BY_SIZE + len(SIZES)
BY_METHOD = BY_TENTH + TENTHS
"""One table of all kinds of rows, for arrays cost more to hand over than to count in. The last rows are by
method, as many as there are methods.
"""


@leaf(int64(places_t, int64))
def longest(places: Int32Array, count: int) -> int:
    """The longest uninterrupted agreement among a root's first `count` places; 0 without any."""
    length = 0
    for i in range(count):
        if places[i, GAP] == 0:
            length = max(length, places[i, LENGTH])
    return length


@leaf(int64(lengths_t, int64))
def row_of(bounds: Table, value: int) -> int:
    """The last of the ascending `bounds` that is at most `value`; 0 below the first."""
    row = len(bounds) - 1
    while row > 0 and value < bounds[row]:
        row -= 1
    return row


@leaf(types.void(counts_t, int64, int64, int64, int64))
def count_bits(counts: Table, mask: int, column: int, more: int, expected: int) -> None:
    """Add `more` to the column of every bit of the mask, and to what was expected of it."""
    row = BY_BIT
    while mask:
        if mask & 1:
            counts[row, column] += more
            counts[row, EXPECTED] += expected
        mask >>= 1
        row += 1


@leaf(int64(row_t, row_t, row_t, row_t, path_t))
def follow_path(
    token: Int32Array, parent: Int32Array, keep: Int32Array, committed: Int32Array, path: Int32Array
) -> int:
    """Write the nodes along the drafted path that agrees with `committed`, from the root; how many.

    Nodes where `keep` is 0 are not there.
    """
    count = 0
    node = -1
    at = 0
    for wanted in committed:
        # Nodes stand behind their parents: one pass over the tree finds the whole path.
        while at < len(token) and (token[at] != wanted or parent[at] != node or keep[at] == 0):
            at += 1
        if at == len(token):
            break
        path[count] = at
        count += 1
        node = at
        at += 1
    return count


@leaf(
    int64(
        row_t, row_t, masks_t, floats_t, row_t, row_t, int64, places_t, int64, int64, counts_t,
        path_t, path_t,
    )
)  # fmt: skip
def tally_within(
    token: Int32Array,
    parent: Int32Array,
    source: UInt32Array,
    probability: Float32Array,
    keep: Int32Array,
    committed: Int32Array,
    accepted: int,
    places: Int32Array,
    place_count: int,
    method: int,
    counts: Table,
    path: Int32Array,
    depth: Int32Array,
) -> int:
    """`tally` of the nodes where `keep` is not 0, whose parents are kept as well, within working arrays."""
    kept = follow_path(token, parent, keep, committed, path)
    if accepted > kept:
        return -1
    if accepted >= 0:
        kept = accepted
    n = 0
    seen = 0
    hit = 0
    deepest = 0
    millionths = 0
    for i in range(len(token)):
        if keep[i] == 0:
            continue
        n += 1
        depth[i] = 1 if parent[i] < 0 else depth[parent[i]] + 1
        deepest = max(deepest, depth[i])
        part = int(min(1.0, max(0.0, float(probability[i]))) * MILLIONTHS)
        millionths += part
        row = BY_DEPTH + min(depth[i], DEPTHS - 1)
        counts[row, DRAFTED] += 1
        counts[row, EXPECTED] += part
        row = BY_TENTH + min(TENTHS - 1, part * TENTHS // MILLIONTHS)
        counts[row, DRAFTED] += 1
        counts[row, EXPECTED] += part
        mask = int(source[i])
        seen |= mask
        count_bits(counts, mask, DRAFTED, 1, part)
    if n == 0:
        return 0
    for row in range(1, min(deepest, DEPTHS - 1) + 1):
        counts[BY_DEPTH + row, STEPS] += 1
    for row in range(1, min(kept, DEPTHS - 1) + 1):
        counts[BY_DEPTH + row, HITS] += 1
    for k in range(kept):
        node = path[k]
        mask = int(source[node])
        hit |= mask
        counts[BY_DEPTH + min(depth[node], DEPTHS - 1), ACCEPTED] += 1
        part = int(min(1.0, max(0.0, float(probability[node]))) * MILLIONTHS)
        counts[BY_TENTH + min(TENTHS - 1, part * TENTHS // MILLIONTHS), ACCEPTED] += 1
        count_bits(counts, mask, ACCEPTED, 1, 0)
    count_bits(counts, seen, STEPS, 1, 0)
    count_bits(counts, hit, HITS, 1, 0)
    by_match = BY_MATCH + row_of(MATCH_LENGTHS, longest(places, place_count))
    for row in (by_match, BY_SIZE + row_of(SIZES, n), BY_METHOD + method):
        counts[row, STEPS] += 1
        counts[row, HITS] += min(1, kept)
        counts[row, DRAFTED] += n
        counts[row, ACCEPTED] += kept
        counts[row, EXPECTED] += millionths
    return kept


@njit(
    int64(
        row_t, row_t, masks_t, floats_t, row_t, int64, places_t, int64, int64, counts_t
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def tally(
    token: Int32Array,
    parent: Int32Array,
    source: UInt32Array,
    probability: Float32Array,
    committed: Int32Array,
    accepted: int,
    places: Int32Array,
    place_count: int,
    method: int,
    counts: Table,
) -> int:
    """Add one tree, of which the nodes along `committed` were kept, `accepted` of them (-1: all that agree).

    Returns how many were kept; -1, and nothing is added, if fewer agree than were accepted. `counts` is
    int64[ROWS, COLUMNS]. Deeper nodes than the table has rows count in its last depth. The whole tree
    counts at its size, its method, and the longest uninterrupted agreement of the first `place_count`
    `places` of its root; a node at the tenth of its probability, where STEPS and HITS stay 0. O(nodes +
    committed).
    """
    n = len(token)
    return tally_within(
        token, parent, source, probability, np.ones(n, np.int32), committed, accepted,
        places, place_count, method, counts, np.empty(n, np.int32), np.empty(n, np.int32),
    )  # fmt: skip
