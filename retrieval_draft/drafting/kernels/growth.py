"""Best-first growth of a draft tree, and greedy growth of a chain."""

from typing import NamedTuple

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels import matching, mixing, paths
from retrieval_draft.drafting.kernels.bins import (
    COMMON,
    CONTEXT,
    CORPUS,
    GAPPED,
    INPUTS,
    LEARNED,
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

EXACT = 1 << (MATCH + CONTEXT) | 1 << (MATCH + LEARNED) | 1 << (MATCH + CORPUS)
HOPES = (0.12, 0.27, 0.32, 0.39, 0.44, 0.56)
"""What part of a node's probability its best child is hoped to have, by the highest order that lists the
node (0 = none). Recorded outputs had 0.24 to 0.68: to hope for less saves a look for 0.2 % of MAT."""
HOPE_EXACT = 0.72
"""Where a match lists it; recorded outputs had 0.8."""
HOPE = np.array([HOPES[orders.bit_length()] for orders in range(1 << ORDER_COUNT)])
"""By the orders that list a node, as a mask."""

masks_t = types.Array(types.uint32, 1, "C")
doubles_t = types.Array(types.float64, 1, "C")


class Frontier(NamedTuple):
    """Candidates that may be taken, most probable first: path probability float64, and int32 token,
    parent node and mask of inputs. As many entries as nodes may be drafted: what was taken made way for
    itself, so that those that wait while n are taken stand from entry n on, and what finds no room could
    never be taken.
    """

    probability: Float64Array
    token: Int32Array
    parent: Int32Array
    listed: Int32Array


class Hopes(NamedTuple):
    """Nodes that were taken and not yet looked behind, most hopeful first: what their best child is hoped
    to have, float64, and int32 node. `estimate` float64 is every taken node's own probability."""

    hope: Float64Array
    node: Int32Array
    estimate: Float64Array


class Grown(NamedTuple):
    """The draft tree as it grows, columns of nodes_max entries."""

    token: Int32Array
    parent: Int32Array
    probability: Float32Array
    source: UInt32Array


frontier_t = tuple_type([doubles_t, row_t, row_t, row_t], Frontier)
hopes_t = tuple_type([doubles_t, row_t, doubles_t], Hopes)
grown_t = tuple_type([row_t, row_t, floats_t, masks_t], Grown)


def _source_bits() -> UInt32Array:
    bits = np.zeros(INPUTS, np.uint32)
    for scope in range(SCOPES):
        kind = CORPUS_BIT if scope == CORPUS else MATCH_BIT
        bits[MATCH + scope] = bits[GAPPED + scope] = 1 << scope | kind
    for order in range(ORDER_COUNT):
        kind = 1 << (ORDER_BIT + min(order, ORDER_BITS - 1))
        bits[ORDER + order] = CONTEXT_BIT | kind
        bits[ORDER + ORDER_COUNT + order] = LEARNED_BIT | kind
    bits[RECYCLING] = LEARNED_BIT | RECYCLING_BIT
    bits[STAND] = LEARNED_BIT | STAND_BIT
    bits[COMMON] = LEARNED_BIT | COMMON_BIT
    return bits


SOURCE_BITS = _source_bits()
"""Tiers and kind of source of every input; the blend is none."""


@leaf(types.uint32(int64))
def sources_of(listed: int) -> int:
    """The mask of tiers and kinds of source from a mask of inputs."""
    mask = 0
    for index in range(INPUTS):
        # No branch: which inputs list a candidate cannot be foreseen.
        mask |= int(SOURCE_BITS[index]) * (listed >> index & 1)
    return mask


@leaf(float64(int64))
def hope_of(listed: int) -> float:
    """What part of a node's probability its best child is hoped to have, from the inputs that list it."""
    orders = (listed >> ORDER | listed >> (ORDER + ORDER_COUNT)) & ((1 << ORDER_COUNT) - 1)
    return HOPE_EXACT if listed & EXACT else float(HOPE[orders])


@leaf(types.void(frontier_t, int64, int64))
def drop(frontier: Frontier, at: int, stop: int) -> None:
    """Take entry `at` of those before `stop` off."""
    for i in range(at, stop - 1):
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
    first: int,
    stop: int,
    children_max: int,
) -> int:
    """Put a node's best candidates among those that wait in first..stop-1; returns the new stop.

    Siblings sum to at most their parent's `probability`. Of a node at most `children_max` wait: others
    could never be taken, and would only keep the rest out.
    """
    rows = found.rows
    end = len(frontier.probability)
    total = 0.0
    for c in range(rows[COUNTS, CANDIDATES]):
        found.logit[c] = mixing.squash(found.logit[c])
        total += found.logit[c]
    scale = probability / max(1.0, total)
    siblings = 0
    for c in range(rows[COUNTS, CANDIDATES]):
        p = scale * found.logit[c]
        if stop == end and p <= frontier.probability[stop - 1]:
            continue
        out = stop - 1 if stop == end else stop
        if siblings == children_max:
            out = stop - 1
            while frontier.parent[out] != node - 1:
                out -= 1
            if p <= frontier.probability[out]:
                continue
        if out < stop:
            siblings -= frontier.parent[out] == node - 1
            drop(frontier, out, stop)
            stop -= 1
        at = stop
        while at > first and frontier.probability[at - 1] < p:
            frontier.probability[at] = frontier.probability[at - 1]
            frontier.token[at] = frontier.token[at - 1]
            frontier.parent[at] = frontier.parent[at - 1]
            frontier.listed[at] = frontier.listed[at - 1]
            at -= 1
        frontier.probability[at] = p
        frontier.token[at] = rows[TOKEN, c]
        frontier.parent[at] = node - 1
        frontier.listed[at] = rows[LISTED, c]
        stop += 1
        siblings += 1
    return stop


@leaf(int64(hopes_t, int64, float64, int64, int64))
def hope(hopes: Hopes, node: int, worth: float, first: int, stop: int) -> int:
    """Node `node` joins those that wait in first..stop-1 to be looked behind; returns the new stop."""
    at = stop
    while at > first and hopes.hope[at - 1] < worth:
        hopes.hope[at] = hopes.hope[at - 1]
        hopes.node[at] = hopes.node[at - 1]
        at -= 1
    hopes.hope[at] = worth
    hopes.node[at] = node
    return stop + 1


@leaf(
    int64(
        tiers_t, int64, int64, nodes_t, skill_t, int64, int64, int64, float64, row_t,
        grown_t, nodes_t, found_t, chosen_t, frontier_t, hopes_t,
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
    floor: float,
    end_tokens: Int32Array,
    grown: Grown,
    nodes: Nodes,
    found: Found,
    chosen: Chosen,
    frontier: Frontier,
    hopes: Hopes,
) -> int:
    """`grow` within given working arrays. Node n of the tree is row n + 1 of `nodes`, the root row 0.

    What may follow a node is looked for when its best child may be the next to be taken, by what is hoped
    of it: half of the nodes of a tree never come to that. It does not depend on how many nodes are asked
    for, so that a larger tree begins with the smaller one (but for what `gather` leaves out).
    """
    for k in range(TAIL):
        nodes.tails[0, k] = root.tails[0, k]
    nodes.tails[0, TAIL] = 0
    for i in range(SCOPES + 1):
        nodes.segments[0, i] = root.segments[0, i]
    for i in range(root.segments[0, SCOPES]):
        for k in range(PLACE_COLUMNS):
            nodes.places[0, i, k] = root.places[0, i, k]
    n = 0
    stop = 0
    hoping = 0
    hoping_stop = hope(hopes, 0, 1.0, 0, 0) if depth_max > 0 else 0
    while n < nodes_max:
        best = frontier.probability[n] if stop > n else 0.0
        if hoping < hoping_stop and hopes.hope[hoping] >= best:
            if hopes.hope[hoping] < floor:
                return n
            node = int(hopes.node[hoping])
            hoping += 1
            p = 1.0
            if node > 0:
                p = hopes.estimate[node - 1]
                above = grown.parent[node - 1] + 1
                token = grown.token[node - 1]
                nodes.tails[node, 0] = token
                for k in range(1, TAIL):
                    nodes.tails[node, k] = nodes.tails[above, k - 1]
                matching.move(tiers, nodes, above, token, context_stop, learned_stop, nodes, node)
            least = frontier.probability[stop - 1] / p if stop == nodes_max else 0.0
            gather(found, tiers, nodes, node, least)
            mixing.mix(found, skill, chosen)
            stop = offer(frontier, found, node, p, n, stop, children_max)
            continue
        if stop == n or best < floor:
            return n
        above = frontier.parent[n] + 1
        token = frontier.token[n]
        listed = frontier.listed[n]
        grown.token[n] = token
        grown.parent[n] = above - 1
        grown.probability[n] = best
        grown.source[n] = sources_of(listed)
        hopes.estimate[n] = best
        n += 1
        depth = nodes.tails[above, TAIL] + 1
        nodes.tails[n, TAIL] = depth
        ends = depth >= depth_max
        for end in end_tokens:
            ends = ends or end == token
        worth = best * hope_of(listed)
        # Behind a full frontier's last nothing would be taken.
        if not ends and (stop < nodes_max or worth > frontier.probability[stop - 1]):
            hoping_stop = hope(hopes, n, worth, hoping, hoping_stop)
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
        np.empty(ORDER_COUNT, np.uint64),
    )
    chosen = Chosen(np.empty(SETS_USED, np.int32), np.empty(WEIGHTS, np.float64))
    frontier = Frontier(
        np.empty(nodes_max, np.float64),
        np.empty(nodes_max, np.int32),
        np.empty(nodes_max, np.int32),
        np.empty(nodes_max, np.int32),
    )
    hopes = Hopes(
        np.empty(nodes_max + 1, np.float64),
        np.empty(nodes_max + 1, np.int32),
        np.empty(nodes_max, np.float64),
    )
    size = grow_within(
        tiers, context_stop, learned_stop, Nodes(root_tails, root_places, root_segments),
        Skill(worth, stretch, weights), nodes_max, depth_max, 1 if chain else children_max, floor,
        end_tokens, Grown(token, parent, probability, source), nodes, found, chosen, frontier, hopes,
    )  # fmt: skip
    paths.map_paths(parent, probability, size, path_worth, path_scale, path_bins)
    return size
