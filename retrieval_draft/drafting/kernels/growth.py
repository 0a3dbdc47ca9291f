"""Best-first growth of a draft tree, greedy growth of a chain, and learning along what was committed."""

import numpy as np
from numba import int64, njit, types

from retrieval_draft.drafting.kernels import evidence, matching, mixing
from retrieval_draft.drafting.kernels.evidence import (
    CANDIDATES,
    CANDIDATES_MAX,
    COMMON,
    CONTEXT,
    CORPUS,
    COUNTS,
    FOUND_ROWS,
    FOUND_WIDTH,
    GAP,
    LEARNED,
    LENGTH,
    LISTED,
    ORDER,
    PLACES_MAX,
    POSITION,
    RECYCLING,
    SCOPES,
    SLOTS,
    TOKEN,
)
from retrieval_draft.drafting.kernels.mixing import WEIGHTS
from retrieval_draft.store.kernels import ngrams, ring
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import Float32Array, Float64Array, Int32Array, UInt32Array

TAIL = 24
"""Tokens kept of each path's end; the column behind them is the node's depth."""

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
cube_t = types.Array(types.int32, 3, "C")
bytes_t = types.Array(types.uint8, 2, "C")
floats_t = types.Array(types.float32, 1, "C")
float_table_t = types.Array(types.float32, 2, "C")
masks_t = types.Array(types.uint32, 1, "C")
doubles_t = types.Array(types.float64, 1, "C")


@njit(types.uint32(int64), nogil=True, _nrt=False, cache=True)
def sources_of(listed: int) -> int:
    """The mask of tiers and kinds of source from a mask of inputs."""
    mask = 0
    for scope in range(SCOPES):
        if listed >> (evidence.MATCH + scope) & 1 or listed >> (evidence.GAPPED + scope) & 1:
            mask |= 1 << scope
            mask |= 1 << (15 if scope == CORPUS else 8)
    for order in range(ORDER_COUNT):
        kind = 9 + min(order, 3)
        if listed >> (ORDER + order) & 1:
            mask |= 1 | 1 << kind
        if listed >> (ORDER + ORDER_COUNT + order) & 1:
            mask |= 2 | 1 << kind
    if listed >> RECYCLING & 1:
        mask |= 2 | 1 << 13
    if listed >> COMMON & 1:
        mask |= 2
    return np.uint32(mask)


@njit(
    int64(
        row_t, int64, int64, row_t,
        row_t, int64, row_t,
        row_t, table_t, bytes_t,
        cube_t, table_t,
        floats_t, float_table_t, table_t,
        int64, int64, int64, int64, row_t,
        row_t, row_t, floats_t, masks_t,
        table_t, cube_t, table_t, table_t, row_t, doubles_t, doubles_t, row_t, doubles_t, row_t,
        doubles_t, row_t, row_t, row_t,
    ),
    nogil=True,
    _nrt=False,
    cache=True,
)  # fmt: skip
def grow_within(
    context: Int32Array,
    context_low: int,
    context_stop: int,
    context_table: Int32Array,
    learned: Int32Array,
    learned_stop: int,
    learned_table: Int32Array,
    corpus: Int32Array,
    successors: Int32Array,
    logprobs: np.ndarray,
    root_places: Int32Array,
    root_segments: Int32Array,
    stretch: Float32Array,
    weights: Float32Array,
    common: Int32Array,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
    tails: Int32Array,
    places: Int32Array,
    segments: Int32Array,
    found: Int32Array,
    slots: Int32Array,
    blend: Float64Array,
    logit: Float64Array,
    sets: Int32Array,
    w: Float64Array,
    children: Int32Array,
    f_p: Float64Array,
    f_token: Int32Array,
    f_parent: Int32Array,
    f_source: Int32Array,
) -> int:
    """`grow` within given working arrays: without allocations it needs no reference counts."""
    waiting = 0
    head = 0

    mask = len(context) - 1
    for k in range(TAIL):
        at = context_stop - 1 - k
        tails[0, k] = context[at & mask] if at >= context_low else -1
    tails[0, TAIL] = 0
    for i in range(SCOPES + 1):
        segments[0, i] = root_segments[0, i]
    for i in range(root_segments[0, SCOPES]):
        for k in range(4):
            places[0, i, k] = root_places[0, i, k]
    n = 0
    node = 0
    p_node = 1.0
    while True:
        # Expand `node`, if its children could still be taken.
        remaining = nodes_max - n
        depth = tails[node, TAIL]
        if depth < depth_max and remaining > 0:
            floor = f_p[waiting - 1] / p_node if waiting == remaining else 0.0
            evidence.gather(
                tails, node, places, segments, context_table, learned_table,
                successors, logprobs, common, floor, found, slots, blend,
            )  # fmt: skip
            mixing.mix(found, stretch, weights, sets, w, logit)
            total = 0.0
            best = -1
            for c in range(found[COUNTS, CANDIDATES]):
                logit[c] = mixing.squash(logit[c])
                total += logit[c]
                if best < 0 or logit[c] > logit[best]:
                    best = c
            scale = p_node / max(1.0, total)
            if chain:
                waiting = 0
                if best >= 0:
                    f_p[0] = scale * logit[best]
                    f_token[0] = found[TOKEN, best]
                    f_parent[0] = node - 1
                    f_source[0] = found[LISTED, best]
                    waiting = 1
            else:
                for c in range(found[COUNTS, CANDIDATES]):
                    p = scale * logit[c]
                    if waiting == remaining and p <= f_p[waiting - 1]:
                        continue
                    at = waiting if waiting < remaining else waiting - 1
                    while at > 0 and f_p[at - 1] < p:
                        f_p[at] = f_p[at - 1]
                        f_token[at] = f_token[at - 1]
                        f_parent[at] = f_parent[at - 1]
                        f_source[at] = f_source[at - 1]
                        at -= 1
                    f_p[at] = p
                    f_token[at] = found[TOKEN, c]
                    f_parent[at] = node - 1
                    f_source[at] = found[LISTED, c]
                    if waiting < remaining:
                        waiting += 1
        # Take the most probable.
        while waiting > 0 and children[f_parent[0] + 1] >= children_max:
            waiting -= 1
            for i in range(waiting):
                f_p[i], f_token[i] = f_p[i + 1], f_token[i + 1]
                f_parent[i], f_source[i] = f_parent[i + 1], f_source[i + 1]
        if waiting == 0 or n == nodes_max:
            return n
        above = f_parent[0] + 1
        token[n] = f_token[0]
        parent[n] = f_parent[0]
        probability[n] = f_p[0]
        source[n] = sources_of(f_source[0])
        p_node = f_p[0]
        children[above] += 1
        waiting -= 1
        for i in range(waiting):
            f_p[i], f_token[i] = f_p[i + 1], f_token[i + 1]
            f_parent[i], f_source[i] = f_parent[i + 1], f_source[i + 1]
        node = n + 1
        n += 1
        if n == nodes_max:
            return n
        tails[node, 0] = token[n - 1]
        for k in range(1, TAIL):
            tails[node, k] = tails[above, k - 1]
        tails[node, TAIL] = tails[above, TAIL] + 1
        ended = False
        for end in end_tokens:
            if end == token[n - 1]:
                ended = True
        if ended:
            tails[node, TAIL] = depth_max
            continue
        matching.move(
            places, segments, above, token[n - 1], context, context_stop,
            learned, learned_stop, corpus, places, segments, tails, node,
        )  # fmt: skip


@njit(
    int64(
        row_t, int64, int64, row_t,
        row_t, int64, row_t,
        row_t, table_t, bytes_t,
        cube_t, table_t,
        floats_t, float_table_t, table_t,
        int64, int64, int64, int64, row_t,
        row_t, row_t, floats_t, masks_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def grow(
    context: Int32Array,
    context_low: int,
    context_stop: int,
    context_table: Int32Array,
    learned: Int32Array,
    learned_stop: int,
    learned_table: Int32Array,
    corpus: Int32Array,
    successors: Int32Array,
    logprobs: np.ndarray,
    root_places: Int32Array,
    root_segments: Int32Array,
    stretch: Float32Array,
    weights: Float32Array,
    common: Int32Array,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
) -> int:
    """Grow one tree; returns its size. O(nodes x (orders + candidates) + nodes^2)."""
    tails = np.empty((nodes_max + 1, TAIL + 1), np.int32)
    places = np.empty((nodes_max + 1, PLACES_MAX, 4), np.int32)
    segments = np.empty((nodes_max + 1, SCOPES + 1), np.int32)
    found = np.empty((FOUND_ROWS, FOUND_WIDTH), np.int32)
    slots = np.empty(SLOTS, np.int32)
    blend = np.empty(CANDIDATES_MAX, np.float64)
    logit = np.empty(CANDIDATES_MAX, np.float64)
    sets = np.empty(3, np.int32)
    w = np.empty(WEIGHTS, np.float64)
    children = np.zeros(nodes_max + 1, np.int32)
    # The frontier: at most as many entries as nodes may still come, most probable first.
    f_p = np.empty(nodes_max + 1, np.float64)
    f_token = np.empty(nodes_max + 1, np.int32)
    f_parent = np.empty(nodes_max + 1, np.int32)
    f_source = np.empty(nodes_max + 1, np.int32)
    return grow_within(
        context, context_low, context_stop, context_table, learned, learned_stop, learned_table, corpus, successors, logprobs, root_places, root_segments, stretch, weights, common, nodes_max, depth_max, children_max, chain, end_tokens, token, parent, probability, source,
        tails, places, segments, found, slots, blend, logit, sets, w, children,
        f_p, f_token, f_parent, f_source,
    )  # fmt: skip


@njit(
    types.void(
        row_t, table_t, table_t, int64, int64,
        row_t, table_t, table_t, int64, int64,
        cube_t, table_t, cube_t, table_t,
    ),
    nogil=True,
    _nrt=False,
    cache=True,
)  # fmt: skip
def root(
    context: Int32Array,
    context_head: Int32Array,
    context_prev: Int32Array,
    context_low: int,
    context_stop: int,
    learned: Int32Array,
    learned_head: Int32Array,
    learned_prev: Int32Array,
    learned_low: int,
    learned_stop: int,
    moved: Int32Array,
    moved_segments: Int32Array,
    places: Int32Array,
    segments: Int32Array,
) -> None:
    """The places of a root: found anew in the rings, with the interrupted and the corpus' ones of `moved`."""
    n = 0
    for scope in range(SCOPES):
        segments[0, scope] = n
        first = n
        if scope == CONTEXT:
            n += matching.search(
                context, context_head, context_prev, context_low, context_stop,
                context, context_low, context_stop, places, n,
            )  # fmt: skip
        elif scope == LEARNED:
            n += matching.search(
                learned, learned_head, learned_prev, learned_low, learned_stop,
                context, context_low, context_stop, places, n,
            )  # fmt: skip
        for i in range(moved_segments[0, scope], moved_segments[0, scope + 1]):
            if n == PLACES_MAX:
                break
            if scope != CORPUS:
                if moved[0, i, GAP] == 0 or moved[0, i, LENGTH] >= 16:
                    continue
                known = False
                for j in range(first, n):
                    if places[0, j, POSITION] == moved[0, i, POSITION]:
                        known = True
                if known:
                    continue
            for k in range(4):
                places[0, n, k] = moved[0, i, k]
            n += 1
    segments[0, SCOPES] = n


@njit(
    types.void(
        row_t, table_t, table_t, int64, int64, row_t,
        row_t, table_t, table_t, int64, int64, row_t,
        row_t, table_t, bytes_t,
        cube_t, table_t,
        floats_t, float_table_t, float_table_t, table_t,
        row_t, int64,
        table_t, cube_t, table_t, table_t, row_t, doubles_t, doubles_t, row_t, doubles_t,
    ),
    nogil=True,
    _nrt=False,
    cache=True,
)  # fmt: skip
def follow_within(
    context: Int32Array,
    context_head: Int32Array,
    context_prev: Int32Array,
    context_low: int,
    context_stop: int,
    context_table: Int32Array,
    learned: Int32Array,
    learned_head: Int32Array,
    learned_prev: Int32Array,
    learned_low: int,
    learned_stop: int,
    learned_table: Int32Array,
    corpus: Int32Array,
    successors: Int32Array,
    logprobs: np.ndarray,
    places: Int32Array,
    segments: Int32Array,
    stretch: Float32Array,
    worth: Float32Array,
    weights: Float32Array,
    common: Int32Array,
    tokens: Int32Array,
    teaching_from: int,
    tails: Int32Array,
    moved: Int32Array,
    moved_segments: Int32Array,
    found: Int32Array,
    slots: Int32Array,
    blend: Float64Array,
    logit: Float64Array,
    sets: Int32Array,
    w: Float64Array,
) -> None:
    """`follow` within given working arrays."""
    mask = len(context) - 1
    low = context_low
    stop = context_stop
    for i in range(len(tokens)):
        came = tokens[i]
        if i >= teaching_from:
            for k in range(TAIL):
                at = stop - 1 - k
                tails[0, k] = context[at & mask] if at >= low else -1
            tails[0, TAIL] = 0
            evidence.gather(
                tails, 0, places, segments, context_table, learned_table,
                successors, logprobs, common, 0.0, found, slots, blend,
            )  # fmt: skip
            mixing.teach(came, found, stretch, worth, weights, sets, w, logit)
            if not mixing.is_listed(found, came):
                mixing.count_common(common, came)
        context[stop & mask] = came
        low = max(low, stop + 1 - len(context))
        ring.insert(context, context_head, context_prev, low, stop, stop + 1)
        ngrams.count(context, context_table, low, stop, stop + 1, 0)
        stop += 1
        if i < teaching_from - 1:
            segments[0, :] = 0
            continue
        for k in range(TAIL):
            at = stop - 1 - k
            tails[0, k] = context[at & mask] if at >= low else -1
        tails[0, TAIL] = 0
        matching.move(
            places, segments, 0, came, context, stop, learned, learned_stop, corpus,
            moved, moved_segments, tails, 0,
        )  # fmt: skip
        root(
            context, context_head, context_prev, low, stop,
            learned, learned_head, learned_prev, learned_low, learned_stop,
            moved, moved_segments, places, segments,
        )  # fmt: skip


@njit(
    types.void(
        row_t, table_t, table_t, int64, int64, row_t,
        row_t, table_t, table_t, int64, int64, row_t,
        row_t, table_t, bytes_t,
        cube_t, table_t,
        floats_t, float_table_t, float_table_t, table_t,
        row_t, int64,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def follow(
    context: Int32Array,
    context_head: Int32Array,
    context_prev: Int32Array,
    context_low: int,
    context_stop: int,
    context_table: Int32Array,
    learned: Int32Array,
    learned_head: Int32Array,
    learned_prev: Int32Array,
    learned_low: int,
    learned_stop: int,
    learned_table: Int32Array,
    corpus: Int32Array,
    successors: Int32Array,
    logprobs: np.ndarray,
    places: Int32Array,
    segments: Int32Array,
    stretch: Float32Array,
    worth: Float32Array,
    weights: Float32Array,
    common: Int32Array,
    tokens: Int32Array,
    teaching_from: int,
) -> None:
    """Append `tokens` to the context, teaching from each from index `teaching_from` on before it is learned.

    The context's ring must have room. `places` and `segments` are left as those of the new root.
    """
    tails = np.empty((1, TAIL + 1), np.int32)
    moved = np.empty((1, PLACES_MAX, 4), np.int32)
    moved_segments = np.empty((1, SCOPES + 1), np.int32)
    found = np.empty((FOUND_ROWS, FOUND_WIDTH), np.int32)
    slots = np.empty(SLOTS, np.int32)
    blend = np.empty(CANDIDATES_MAX, np.float64)
    logit = np.empty(CANDIDATES_MAX, np.float64)
    sets = np.empty(3, np.int32)
    w = np.empty(WEIGHTS, np.float64)
    follow_within(
        context, context_head, context_prev, context_low, context_stop, context_table, learned, learned_head, learned_prev, learned_low, learned_stop, learned_table, corpus, successors, logprobs, places, segments, stretch, worth, weights, common, tokens, teaching_from,
        tails, moved, moved_segments, found, slots, blend, logit, sets, w,
    )  # fmt: skip
