"""Best-first growth of a draft tree, and greedy growth of a chain."""

from typing import NamedTuple

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels import matching, mixing, paths
from retrieval_draft.drafting.kernels.bins import (
    COMMON,
    CORPUS,
    GAPPED,
    MATCH,
    ORDER,
    RECYCLING,
    SCOPES,
    STAND,
)
from retrieval_draft.drafting.kernels.evidence import (
    CANDIDATES,
    CANDIDATES_MAX,
    COUNTS,
    FOUND_ROWS,
    FOUND_WIDTH,
    LISTED,
    PLACE_COLUMNS,
    PLACES_MAX,
    SLOTS,
    TAIL,
    TOKEN,
    Found,
    Nodes,
    Tiers,
    bytes_t,
    cube_t,
    found_t,
    gather,
    keys_t,
    nodes_t,
    row_t,
    shares_t,
    table_t,
    tiers_t,
    visits_t,
)
from retrieval_draft.drafting.kernels.mixing import (
    SETS_USED,
    WEIGHTS,
    Chosen,
    Skill,
    chosen_t,
    float_table_t,
    floats_t,
    skill_t,
)
from retrieval_draft.store.kernels.leaf import leaf, tuple_type
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import SOURCES, TIERS, Float32Array, Float64Array, Int32Array, UInt32Array

MATCH_BIT, CORPUS_BIT = 1 << SOURCES["match"], 1 << SOURCES["corpus"]
ORDER_BIT, ORDER_BITS = SOURCES["order1"], 4
LEARNED_BIT, CONTEXT_BIT = 1 << TIERS["learned"], 1 << TIERS["context"]
RECYCLING_BIT, STAND_BIT = 1 << SOURCES["recycling"], 1 << SOURCES["stand"]
COMMON_BIT = 1 << SOURCES["order0"]

masks_t = types.Array(types.uint32, 1, "C")
doubles_t = types.Array(types.float64, 1, "C")


class Frontier(NamedTuple):
    """Candidates that may still be taken, most probable first: path probability float64, and int32 token,
    parent node and mask of inputs."""

    probability: Float64Array
    token: Int32Array
    parent: Int32Array
    listed: Int32Array


class Grown(NamedTuple):
    """The draft tree as it grows, columns of nodes_max entries."""

    token: Int32Array
    parent: Int32Array
    probability: Float32Array
    source: UInt32Array


frontier_t = tuple_type([doubles_t, row_t, row_t, row_t], Frontier)
grown_t = tuple_type([row_t, row_t, floats_t, masks_t], Grown)


@leaf(types.uint32(int64))
def sources_of(listed: int) -> int:
    """The mask of tiers and kinds of source from a mask of inputs."""
    mask = 0
    for scope in range(SCOPES):
        if listed >> (MATCH + scope) & 1 or listed >> (GAPPED + scope) & 1:
            mask |= 1 << scope
            mask |= CORPUS_BIT if scope == CORPUS else MATCH_BIT
    for order in range(ORDER_COUNT):
        kind = 1 << (ORDER_BIT + min(order, ORDER_BITS - 1))
        if listed >> (ORDER + order) & 1:
            mask |= CONTEXT_BIT | kind
        if listed >> (ORDER + ORDER_COUNT + order) & 1:
            mask |= LEARNED_BIT | kind
    if listed >> RECYCLING & 1:
        mask |= LEARNED_BIT | RECYCLING_BIT
    if listed >> STAND & 1:
        mask |= LEARNED_BIT | STAND_BIT
    if listed >> COMMON & 1:
        mask |= LEARNED_BIT | COMMON_BIT
    return mask


@leaf(types.void(frontier_t, int64, int64))
def drop(frontier: Frontier, at: int, waiting: int) -> None:
    """Take entry `at` of `waiting` off."""
    for i in range(at, waiting - 1):
        frontier.probability[i] = frontier.probability[i + 1]
        frontier.token[i] = frontier.token[i + 1]
        frontier.parent[i] = frontier.parent[i + 1]
        frontier.listed[i] = frontier.listed[i + 1]


@leaf(int64(frontier_t, found_t, int64, float64, int64, int64, int64))
def offer(
    frontier: Frontier,
    found: Found,
    node: int,
    probability: float,
    waiting: int,
    room: int,
    children_max: int,
) -> int:
    """Put a node's best candidates on the frontier; returns how many wait there, at most `room`.

    Siblings sum to at most their parent's `probability`. Of a node at most `children_max` wait: others
    could never be taken, and would only keep the rest out.
    """
    rows = found.rows
    total = 0.0
    for c in range(rows[COUNTS, CANDIDATES]):
        found.logit[c] = mixing.squash(found.logit[c])
        total += found.logit[c]
    scale = probability / max(1.0, total)
    siblings = 0
    for c in range(rows[COUNTS, CANDIDATES]):
        p = scale * found.logit[c]
        if waiting == room and p <= frontier.probability[waiting - 1]:
            continue
        out = waiting - 1 if waiting == room else waiting
        if siblings == children_max:
            out = waiting - 1
            while frontier.parent[out] != node - 1:
                out -= 1
            if p <= frontier.probability[out]:
                continue
        if out < waiting:
            siblings -= frontier.parent[out] == node - 1
            drop(frontier, out, waiting)
            waiting -= 1
        at = waiting
        while at > 0 and frontier.probability[at - 1] < p:
            frontier.probability[at] = frontier.probability[at - 1]
            frontier.token[at] = frontier.token[at - 1]
            frontier.parent[at] = frontier.parent[at - 1]
            frontier.listed[at] = frontier.listed[at - 1]
            at -= 1
        frontier.probability[at] = p
        frontier.token[at] = rows[TOKEN, c]
        frontier.parent[at] = node - 1
        frontier.listed[at] = rows[LISTED, c]
        waiting += 1
        siblings += 1
    return waiting


@leaf(
    int64(
        tiers_t, int64, int64, nodes_t, skill_t, int64, int64, int64, int64, float64, row_t,
        grown_t, nodes_t, found_t, chosen_t, frontier_t,
    )
)  # fmt: skip
def grow_within(
    tiers: Tiers,
    context_stop: int,
    learned_stop: int,
    root: Nodes,
    skill: Skill,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: int,
    floor: float,
    end_tokens: Int32Array,
    grown: Grown,
    nodes: Nodes,
    found: Found,
    chosen: Chosen,
    frontier: Frontier,
) -> int:
    """`grow` within given working arrays. Node n of the tree is row n + 1 of `nodes`, the root row 0."""
    for k in range(TAIL):
        nodes.tails[0, k] = root.tails[0, k]
    nodes.tails[0, TAIL] = 0
    for i in range(SCOPES + 1):
        nodes.segments[0, i] = root.segments[0, i]
    for i in range(root.segments[0, SCOPES]):
        for k in range(PLACE_COLUMNS):
            nodes.places[0, i, k] = root.places[0, i, k]
    waiting = 0
    node = 0
    p = 1.0
    for n in range(nodes_max):
        # No more can be taken than still fit: less probable ones need not wait.
        room = nodes_max - n
        waiting = min(waiting, room)
        if nodes.tails[node, TAIL] < depth_max:
            least = frontier.probability[waiting - 1] / p if waiting == room else 0.0
            gather(found, tiers, nodes, node, least)
            mixing.mix(found, skill, chosen)
            if chain:
                waiting = 0
            waiting = offer(frontier, found, node, p, waiting, room, 1 if chain else children_max)
        if waiting == 0 or frontier.probability[0] < floor:
            return n
        above = frontier.parent[0] + 1
        token = frontier.token[0]
        p = frontier.probability[0]
        grown.token[n] = token
        grown.parent[n] = above - 1
        grown.probability[n] = p
        grown.source[n] = sources_of(frontier.listed[0])
        drop(frontier, 0, waiting)
        waiting -= 1
        node = n + 1
        nodes.tails[node, 0] = token
        for k in range(1, TAIL):
            nodes.tails[node, k] = nodes.tails[above, k - 1]
        nodes.tails[node, TAIL] = nodes.tails[above, TAIL] + 1
        for end in end_tokens:
            if end == token:
                nodes.tails[node, TAIL] = depth_max
        if nodes.tails[node, TAIL] < depth_max:
            matching.move(tiers, nodes, above, token, context_stop, learned_stop, nodes, node)
    return nodes_max


@njit(
    int64(
        row_t, row_t, int64, row_t, row_t, int64, row_t, table_t, bytes_t,
        keys_t, visits_t, table_t, shares_t, table_t,
        table_t, cube_t, table_t,
        float_table_t, floats_t, float_table_t, float_table_t, floats_t,
        int64, int64, int64, int64, float64, row_t,
        row_t, row_t, floats_t, masks_t, row_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def grow(
    context: Int32Array,
    context_table: Int32Array,
    context_stop: int,
    learned: Int32Array,
    learned_table: Int32Array,
    learned_stop: int,
    corpus: Int32Array,
    successors: Int32Array,
    logprobs: np.ndarray,
    stand_keys: np.ndarray,
    stand_visits: np.ndarray,
    stand_tokens: Int32Array,
    stand_shares: np.ndarray,
    common: Int32Array,
    root_tails: Int32Array,
    root_places: Int32Array,
    root_segments: Int32Array,
    worth: Float32Array,
    stretch: Float32Array,
    weights: Float32Array,
    path_worth: Float32Array,
    path_scale: Float32Array,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: int,
    floor: float,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
    path_bins: Int32Array,
) -> int:
    """Grow one tree from the root and map its path probabilities; returns its size.

    The outputs have nodes_max entries. No node's own estimate lies below `floor`. O(nodes x (orders +
    candidates) + nodes^2).
    """
    tiers = Tiers(
        context, context_table, learned, learned_table, corpus, successors, logprobs,
        stand_keys, stand_visits, stand_tokens, stand_shares, common,
    )  # fmt: skip
    nodes = Nodes(
        np.empty((nodes_max + 1, TAIL + 1), np.int32),
        np.empty((nodes_max + 1, PLACES_MAX, PLACE_COLUMNS), np.int32),
        np.empty((nodes_max + 1, SCOPES + 1), np.int32),
    )
    found = Found(
        np.empty((FOUND_ROWS, FOUND_WIDTH), np.int32),
        np.empty(SLOTS, np.int32),
        np.empty(CANDIDATES_MAX, np.float64),
        np.empty(CANDIDATES_MAX, np.float64),
    )
    chosen = Chosen(np.empty(SETS_USED, np.int32), np.empty(WEIGHTS, np.float64))
    frontier = Frontier(
        np.empty(nodes_max + 1, np.float64),
        np.empty(nodes_max + 1, np.int32),
        np.empty(nodes_max + 1, np.int32),
        np.empty(nodes_max + 1, np.int32),
    )
    size = grow_within(
        tiers, context_stop, learned_stop, Nodes(root_tails, root_places, root_segments),
        Skill(worth, stretch, weights), nodes_max, depth_max, children_max, chain, floor, end_tokens,
        Grown(token, parent, probability, source), nodes, found, chosen, frontier,
    )  # fmt: skip
    paths.map_paths(parent, probability, size, path_worth, path_scale, path_bins)
    return size
