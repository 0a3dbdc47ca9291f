"""The sequences of a step: a row of addresses and numbers for each, as kernels take them.

Rows are made by `drafting/batch.py`. Their arrays are those of a TokenRing, of a Root, and of a Forest.
"""

import numpy as np
import numpy.typing as npt
from numba import int64, njit, types

from retrieval_draft.drafting.kernels.bins import SCOPES
from retrieval_draft.drafting.kernels.evidence import (
    PLACE_COLUMNS,
    PLACES_MAX,
    TAIL,
    Nodes,
    Tiers,
    bytes_t,
    cube_t,
    keys_t,
    nodes_t,
    row_t,
    shares_t,
    table_t,
    tiers_t,
    visits_t,
)
from retrieval_draft.store.kernels.address import cube_at, row_at, table_at
from retrieval_draft.tree import Int32Array, Int64Array

TOKENS, HEAD, PREV, TABLE, CAPACITY, TABLE_WORDS = 0, 1, 2, 3, 4, 5
"""Of the ring: addresses of its arrays, how many tokens it has room for, how many words its table has."""
TAILS, PLACES, SEGMENTS, CORPUS, CORPUS_WORDS = 6, 7, 8, 9, 10
"""Of the root: addresses, and how many words its corpora's windows have."""
LOW, STOP, KIND = 11, 12, 13
"""The ring's oldest position and the next one; the temperature class."""
PLANE, STRIDE, SIZE, SHAPE = 14, 15, 16, 17
"""Of the tree that is judged: the address of its first word in its block (`growth`), words from one plane
to the next, nodes, 1 for a chain. No nodes: nothing is judged."""
ACCEPTED, VERIFIED = 18, 19
"""How many of its nodes were kept, -1 = all that agree; whether it is the tree that was verified."""
FIRST, END, TEACHING_FROM = 20, 21, 22
"""Which of the batch's tokens were committed, and from which of them on they teach."""
NODES_MAX, DEPTH_MAX, ENDS, ENDS_COUNT = 23, 24, 25, 26
"""To grow: how much, below 0 nothing at all; how deep; the address of its end tokens, and how many."""
COLUMNS = 27

rows_t = types.Array(types.int64, 2, "C")


@njit(
    tiers_t(
        rows_t, int64, row_t, row_t, table_t, bytes_t, keys_t, visits_t, table_t, shares_t, cube_t
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def tiers_of(
    rows: Int64Array,
    i: int,
    learned: Int32Array,
    learned_table: Int32Array,
    successors: Int32Array,
    logprobs: npt.NDArray[np.uint8],
    stand_keys: npt.NDArray[np.uint64],
    stand_visits: npt.NDArray[np.uint8],
    stand_tokens: Int32Array,
    stand_shares: npt.NDArray[np.uint16],
    common: Int32Array,
) -> Tiers:
    """What sequence i reads; `common` is by temperature class."""
    return Tiers(
        row_at(rows[i, TOKENS], rows[i, CAPACITY]),
        row_at(rows[i, TABLE], rows[i, TABLE_WORDS]),
        learned,
        learned_table,
        row_at(rows[i, CORPUS], rows[i, CORPUS_WORDS]),
        successors,
        logprobs,
        stand_keys,
        stand_visits,
        stand_tokens,
        stand_shares,
        common[rows[i, KIND]],
    )


@njit(nodes_t(rows_t, int64), nogil=True, cache=True)
def root_of(rows: Int64Array, i: int) -> Nodes:
    """The root of sequence i, as the only node."""
    return Nodes(
        table_at(rows[i, TAILS], 1, TAIL + 1),
        cube_at(rows[i, PLACES], 1, PLACES_MAX, PLACE_COLUMNS),
        table_at(rows[i, SEGMENTS], 1, SCOPES + 1),
    )
