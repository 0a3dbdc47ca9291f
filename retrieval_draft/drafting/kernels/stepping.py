"""A step of `mix` in one call: what came is judged and followed, what may come is grown and cut.

A kernel costs as much to call as it takes for one sequence, and more when the machine has done something
else meanwhile, as it has between an engine's steps. So the arrays of the learned tier are in a row of
addresses too (`drafting/batch.py` makes it), and a batch's step is one call where nothing has to happen
between its parts.
"""

from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels import cut, following, growth, judging, tally
from retrieval_draft.drafting.kernels.contexts import rows_t
from retrieval_draft.drafting.kernels.evidence import cube_t
from retrieval_draft.drafting.kernels.judging import WORD_BYTES
from retrieval_draft.drafting.kernels.mixing import float_cube_t, float_table_t
from retrieval_draft.store.kernels.address import (
    bytes_at,
    keys_at,
    row_at,
    shares_at,
    table_at,
)
from retrieval_draft.store.kernels.ring import ORDER_COUNT
from retrieval_draft.store.kernels.stand import WIDTH
from retrieval_draft.tree import Float32Array, Int32Array, Int64Array

TOKENS, HEAD, PREV, TABLE, CAPACITY, TABLE_WORDS = 0, 1, 2, 3, 4, 5
"""Of the learned tier's ring, as in `contexts`."""
LOW, STOP = 6, 7
SUCCESSORS, LOGPROBS, VOCAB_SIZE, SUCCESSORS_MAX = 8, 9, 10, 11
"""Of the recycling matrix: addresses, and its shape."""
STAND_KEYS, STAND_VISITS, STAND_TOKENS, STAND_SHARES, SLOTS = 12, 13, 14, 15, 16
"""Of STAND's table: addresses, and how many n-grams it has room for."""
LEARNED_COLUMNS = 17

KEPT, GROWN, LEFT, ADDRESS = 0, 1, 2, 3
"""Of `numbers`, by sequence: what `judging` kept, what was grown, what `cut_block` left of it, and where its
first word is."""
NUMBERS = 4

FOLLOW, GROW, CUT = 1, 2, 4
"""Parts of a step. What is followed is judged before."""

learned_t = types.Array(types.int64, 1, "C")
numbers_t = types.Array(types.int64, 2, "C")


@njit(
    types.void(
        int64, rows_t, int64, int64, learned_t,
        cube_t, float_cube_t, float_table_t, float_cube_t, growth.path_worth_t, float_cube_t,
        following.read_row_t, int64, tally.counts_t,
        int64, int64, float64, cube_t, numbers_t,
        int64, int64, cut.counts_t, cut.floats_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def step(
    parts: int,
    rows: Int64Array,
    first: int,
    end: int,
    learned: Int64Array,
    common: Int32Array,
    worth: Float32Array,
    stretch: Float32Array,
    weights: Float32Array,
    path_worth: Float32Array,
    path_scale: Float32Array,
    tokens: Int32Array,
    method: int,
    counts: Int64Array,
    children_max: int,
    chain: int,
    floor: float,
    block: Int32Array,
    numbers: Int64Array,
    sequences: int,
    nodes_max: int,
    nodes: Int32Array,
    milliseconds: Float32Array,
) -> None:
    """These `parts` of a step of the sequences of `rows`, in their order.

    FOLLOW: `judging.judge` and `following.follow` of all, whose new positions are in `rows` then. GROW:
    `growth.grow` of sequences first..end-1. CUT: `cut.cut_block` of all. Each costs what it says there.
    """
    ring = row_at(learned[TOKENS], learned[CAPACITY])
    table = row_at(learned[TABLE], learned[TABLE_WORDS])
    successors = table_at(learned[SUCCESSORS], learned[VOCAB_SIZE], learned[SUCCESSORS_MAX])
    logprobs = bytes_at(learned[LOGPROBS], learned[VOCAB_SIZE], learned[SUCCESSORS_MAX])
    slots = learned[SLOTS]
    keys = keys_at(learned[STAND_KEYS], slots)
    visits = bytes_at(learned[STAND_VISITS], 1, slots)[0]
    expected = table_at(learned[STAND_TOKENS], slots, WIDTH)
    shares = shares_at(learned[STAND_SHARES], slots, WIDTH)
    if parts & FOLLOW:
        judging.judge(rows, tokens, path_worth, path_scale, method, counts, numbers[KEPT])
        following.follow(
            rows, ring, table,
            table_at(learned[HEAD], ORDER_COUNT, learned[CAPACITY]),
            table_at(learned[PREV], ORDER_COUNT, learned[CAPACITY]),
            learned[LOW], learned[STOP], successors, logprobs, keys, visits, expected, shares,
            common, worth, stretch, weights, tokens,
        )  # fmt: skip
    if parts & GROW:
        growth.grow(
            rows, ring, table, learned[STOP], successors, logprobs, keys, visits, expected, shares,
            common, worth, stretch, weights, path_worth, path_scale, children_max, chain, floor,
            block, numbers[GROWN], first, end,
        )  # fmt: skip
        for i in range(first, end):
            numbers[ADDRESS, i] = block.ctypes.data + i * block.shape[2] * WORD_BYTES
    if parts & CUT:
        cut.cut_block(
            rows, block, numbers[GROWN], sequences, nodes_max, nodes, milliseconds, numbers[LEFT]
        )
