"""Evidence for the tokens that may follow a node: what every source says of each of them.

A node is known by its tail (the last tokens of its path, newest first) and by its places: positions of
the context, the learned tier and the corpora whose text agrees with it, each with the token that comes
next there (see `matching`). What is found is sparse: one item for every input that lists a candidate.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import int64, types

from retrieval_draft.drafting.kernels.bins import OFFSETS, SCOPES
from retrieval_draft.store.kernels.leaf import leaf, tuple_type
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import Float64Array, Int32Array

TAIL = 24
"""Tokens kept of a path's end; the column behind them is the node's depth."""
PLACES_MAX = 48
POSITION, LENGTH, NEXT, GAP = 0, 1, 2, 3
"""Columns of a place: position of the next token, agreeing length, next token, gap (0 = none)."""
PLACE_COLUMNS = 4
CANDIDATES_MAX = 96
SLOTS = 256
HASH_SHIFT = 24

TOKEN, LISTED, BLENDED = 0, 1, 2
"""Rows of Found.rows, by candidate: its token, a mask of the inputs that list it, its two blends' bins."""
ITEM_CANDIDATE, ITEM_INPUT, ITEM_BIN = 4, 5, 6
"""By item."""
ABSENT = 7
"""By input: the bin of a candidate that it does not list, -1 if that says nothing."""
COUNTS = 8
CANDIDATES, ITEMS, CONTEXT_ORDERS, LEARNED_ORDERS, LONGEST, HASHED = 0, 1, 2, 3, 4, 4 + SCOPES
CONTEXT_WINDOWS, LEARNED_WINDOWS = HASHED + 1, HASHED + 1 + ORDER_COUNT
"""Columns of row COUNTS: how many; how many orders know the node; LONGEST + scope: the longest agreement;
how many orders the path is long enough for, and where their windows stand in the tables."""
UNLISTED = 9
"""By input: how many of the taught candidates it does not list."""
FOUND_ROWS, FOUND_WIDTH = 10, 320

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")
bytes_t = types.Array(types.uint8, 2, "C")
doubles_t = types.Array(types.float64, 1, "C")
keys_t = types.Array(types.uint64, 1, "C")
visits_t = types.Array(types.uint8, 1, "C")
shares_t = types.Array(types.uint16, 2, "C")


class Tiers(NamedTuple):
    """What is read of the tiers; rings and tables as in store/, the corpus as windows one after another."""

    context: Int32Array
    context_table: Int32Array
    learned: Int32Array
    learned_table: Int32Array
    corpus: Int32Array
    successors: Int32Array
    logprobs: npt.NDArray[np.uint8]
    stand_keys: npt.NDArray[np.uint64]
    stand_visits: npt.NDArray[np.uint8]
    stand_tokens: Int32Array
    stand_shares: npt.NDArray[np.uint16]
    common: Int32Array


class Nodes(NamedTuple):
    """By node: tails int32[n, TAIL + 1], places int32[n, PLACES_MAX, 4], grouped by scope, and where each
    scope's begin, segments int32[n, SCOPES + 1]."""

    tails: Int32Array
    places: Int32Array
    segments: Int32Array


class Found(NamedTuple):
    """The evidence at one node: rows int32[FOUND_ROWS, FOUND_WIDTH], slots int32[SLOTS] (a hash of the
    candidates), blend and logit float64[CANDIDATES_MAX], states uint64[ORDER_COUNT] (its path's ends)."""

    rows: Int32Array
    slots: Int32Array
    blend: Float64Array
    logit: Float64Array
    states: npt.NDArray[np.uint64]


tiers_t = tuple_type(
    [
        row_t, row_t, row_t, row_t, row_t, table_t, bytes_t,
        keys_t, visits_t, table_t, shares_t, table_t,
    ],
    Tiers,
)  # fmt: skip
nodes_t = tuple_type([table_t, cube_t, table_t], Nodes)
found_t = tuple_type([table_t, row_t, doubles_t, doubles_t, keys_t], Found)


@leaf(int64(found_t, int64))
def candidate(found: Found, wanted: int) -> int:
    """The column of `wanted` among the candidates, made if it is new; -1 if there is no room. O(1)."""
    rows = found.rows
    slots = found.slots
    at = np.uint32(np.uint32(wanted) * np.uint32(0x9E3779B1)) >> np.uint32(HASH_SHIFT)
    while slots[at] != 0:
        c = int(slots[at]) - 1
        if rows[TOKEN, c] == wanted:
            return c
        at = (at + np.uint32(1)) & np.uint32(SLOTS - 1)
    c = int(rows[COUNTS, CANDIDATES])
    if c == CANDIDATES_MAX:
        return -1
    slots[at] = c + 1
    rows[TOKEN, c] = wanted
    rows[LISTED, c] = 0
    found.blend[c] = 0.0
    rows[COUNTS, CANDIDATES] = c + 1
    return c


@leaf(types.void(found_t, int64, int64, int64))
def list_one(found: Found, c: int, index: int, b: int) -> None:
    """Input `index` lists candidate `c` with this bin of its own."""
    rows = found.rows
    e = rows[COUNTS, ITEMS]
    rows[ITEM_CANDIDATE, e] = c
    rows[ITEM_INPUT, e] = index
    rows[ITEM_BIN, e] = OFFSETS[index] + b
    rows[LISTED, c] |= 1 << index
    rows[COUNTS, ITEMS] = e + 1
