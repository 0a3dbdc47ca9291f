"""Following what was committed: every token teaches the mixer, then the context learns it."""

import numpy as np
from numba import int64, njit, types

from retrieval_draft.drafting.kernels import matching, mixing
from retrieval_draft.drafting.kernels.bins import CONTEXT, SCOPES
from retrieval_draft.drafting.kernels.contexts import (
    CAPACITY,
    END,
    FIRST,
    HEAD,
    KIND,
    LOW,
    PREV,
    STOP,
    TEACHING_FROM,
    root_of,
    rows_t,
    tiers_of,
)
from retrieval_draft.drafting.kernels.evidence import (
    CANDIDATES_MAX,
    FOUND_ROWS,
    FOUND_WIDTH,
    GAP,
    LENGTH,
    PLACE_COLUMNS,
    PLACES_MAX,
    POSITION,
    SLOTS,
    TAIL,
    Found,
    Nodes,
    Tiers,
    bytes_t,
    cube_t,
    found_t,
    keys_t,
    nodes_t,
    row_t,
    shares_t,
    table_t,
    tiers_t,
    visits_t,
)
from retrieval_draft.drafting.kernels.gathering import gather
from retrieval_draft.drafting.kernels.mixing import (
    SETS_USED,
    WEIGHTS,
    Chosen,
    Skill,
    chosen_t,
    float_cube_t,
    float_table_t,
    skill_t,
)
from retrieval_draft.store.kernels import ngrams, ring
from retrieval_draft.store.kernels.address import table_at
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.store.kernels.ring import ORDER_COUNT as CHAIN_COUNT
from retrieval_draft.tree import Float32Array, Int32Array, Int64Array

read_row_t = types.Array(types.int32, 1, "C", readonly=True)

LOOP_PERIOD_MAX = 16
"""Text that has repeated itself for AGREEMENT_MAX tokens at such a distance teaches nothing more."""


@leaf(int64(nodes_t, int64))
def in_loop(root: Nodes, context_stop: int) -> int:
    """Whether the context repeats itself at a short distance."""
    for i in range(root.segments[0, CONTEXT], root.segments[0, CONTEXT + 1]):
        if (
            root.places[0, i, GAP] == 0
            and root.places[0, i, LENGTH] == matching.AGREEMENT_MAX
            and context_stop - root.places[0, i, POSITION] <= LOOP_PERIOD_MAX
        ):
            return 1
    return 0


@leaf(types.void(row_t, int64, int64, nodes_t))
def read_tail(context: Int32Array, low: int, stop: int, root: Nodes) -> None:
    """The root's tail, newest first, -1 where there is no more."""
    mask = len(context) - 1
    for k in range(TAIL):
        at = stop - 1 - k
        root.tails[0, k] = context[at & mask] if at >= low else -1
    root.tails[0, TAIL] = 0


@leaf(
    types.void(
        tiers_t, table_t, table_t, int64, int64, table_t, table_t, int64, int64,
        nodes_t, skill_t, read_row_t, int64, nodes_t, found_t, chosen_t,
    )
)  # fmt: skip
def follow_within(
    tiers: Tiers,
    context_head: Int32Array,
    context_prev: Int32Array,
    context_low: int,
    context_stop: int,
    learned_head: Int32Array,
    learned_prev: Int32Array,
    learned_low: int,
    learned_stop: int,
    root: Nodes,
    skill: Skill,
    tokens: Int32Array,
    teaching_from: int,
    moved: Nodes,
    found: Found,
    chosen: Chosen,
) -> None:
    """`follow` within given working arrays."""
    context = tiers.context
    mask = len(context) - 1
    low = context_low
    stop = context_stop
    for i in range(len(tokens)):
        came = tokens[i]
        if i >= teaching_from and not in_loop(root, stop):
            gather(found, tiers, root, 0, 0.0)
            if not mixing.is_listed(found, came):
                mixing.count_common(tiers.common, came)
            mixing.teach(came, found, skill, chosen)
        context[stop & mask] = came
        low = max(low, stop + 1 - len(context))
        ring.insert(context, context_head, context_prev, low, stop, stop + 1)
        ngrams.count(context, tiers.context_table, low, stop, stop + 1, 0)
        stop += 1
        if i < teaching_from:
            # Nobody asks for a prompt's places before its end, whether it comes whole or in pieces.
            for scope in range(SCOPES + 1):
                root.segments[0, scope] = 0
            if i + 1 < min(teaching_from, len(tokens)):
                continue
        read_tail(context, low, stop, root)
        for k in range(TAIL + 1):
            moved.tails[0, k] = root.tails[0, k]
        matching.move(tiers, root, 0, came, stop, learned_stop, moved, 0)
        matching.renew(
            tiers, context_head, context_prev, low, stop,
            learned_head, learned_prev, learned_low, learned_stop, moved, root,
        )  # fmt: skip


@njit(
    types.void(
        rows_t, row_t, row_t, table_t, table_t, int64, int64,
        table_t, bytes_t, keys_t, visits_t, table_t, shares_t, cube_t,
        float_cube_t, float_table_t, float_cube_t,
        read_row_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def follow(
    rows: Int64Array,
    learned: Int32Array,
    learned_table: Int32Array,
    learned_head: Int32Array,
    learned_prev: Int32Array,
    learned_low: int,
    learned_stop: int,
    successors: Int32Array,
    logprobs: np.ndarray,
    stand_keys: np.ndarray,
    stand_visits: np.ndarray,
    stand_tokens: Int32Array,
    stand_shares: np.ndarray,
    common: Int32Array,
    worth: Float32Array,
    stretch: Float32Array,
    weights: Float32Array,
    tokens: Int32Array,
) -> None:
    """Append what was committed to the contexts of sequences, whose `rows` are as in `contexts`.

    Each token from index TEACHING_FROM on teaches before it is learned. The rings must have room for
    them. The roots, LOW and STOP are left as those of what comes next. Arrays of the mixer are by
    temperature class. Costs O(orders + candidates) a token, O(orders) for those that do not teach.
    """
    moved = Nodes(
        np.empty((1, TAIL + 1), np.int32),
        np.empty((1, PLACES_MAX, PLACE_COLUMNS), np.int32),
        np.empty((1, SCOPES + 1), np.int32),
    )
    found = Found(
        np.empty((FOUND_ROWS, FOUND_WIDTH), np.int32),
        np.empty(SLOTS, np.int32),
        np.empty(CANDIDATES_MAX, np.float64),
        np.empty(CANDIDATES_MAX, np.float64),
        np.empty(ORDER_COUNT, np.uint64),
    )
    chosen = Chosen(np.empty(SETS_USED, np.int32), np.empty(WEIGHTS, np.float64))
    for i in range(len(rows)):
        if rows[i, END] == rows[i, FIRST]:
            continue
        kind, capacity = rows[i, KIND], rows[i, CAPACITY]
        tiers = tiers_of(
            rows, i, learned, learned_table, successors, logprobs,
            stand_keys, stand_visits, stand_tokens, stand_shares, common,
        )  # fmt: skip
        follow_within(
            tiers,
            table_at(rows[i, HEAD], CHAIN_COUNT, capacity),
            table_at(rows[i, PREV], CHAIN_COUNT, capacity),
            rows[i, LOW], rows[i, STOP],
            learned_head, learned_prev, learned_low, learned_stop,
            root_of(rows, i), Skill(worth[kind], stretch[kind], weights[kind]),
            tokens[rows[i, FIRST] : rows[i, END]], rows[i, TEACHING_FROM], moved, found, chosen,
        )  # fmt: skip
        rows[i, STOP] += rows[i, END] - rows[i, FIRST]
        rows[i, LOW] = max(rows[i, LOW], rows[i, STOP] - capacity)
