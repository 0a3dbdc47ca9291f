"""Best-first growth of a draft tree, and greedy growth of a chain."""

from typing import NamedTuple

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels import matching, mixing, paths
from retrieval_draft.drafting.kernels.bins import SCOPES
from retrieval_draft.drafting.kernels.contexts import (
    DEPTH_MAX,
    ENDS,
    ENDS_COUNT,
    KIND,
    NODES_MAX,
    STOP,
    root_of,
    rows_t,
    tiers_of,
)
from retrieval_draft.drafting.kernels.evidence import (
    CANDIDATES_MAX,
    FOUND_ROWS,
    FOUND_WIDTH,
    PLACE_COLUMNS,
    PLACES_MAX,
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
from retrieval_draft.drafting.kernels.frontier import (
    Frontier,
    Hopes,
    frontier_t,
    hope,
    hope_of,
    hopes_t,
    offer,
    sources_of,
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
    floats_t,
    skill_t,
)
from retrieval_draft.store.kernels.address import row_at
from retrieval_draft.store.kernels.leaf import leaf, tuple_type
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import Float32Array, Int32Array, Int64Array, UInt32Array

TOKEN, PARENT, PROBABILITY, SOURCE, PATH_BIN, KEEP = 0, 1, 2, 3, 4, 5
PLANES = 6
"""Of a batch's trees, one block of int32: probabilities are float32 and sources uint32 in the same words;
what stands in the path map; and whether the node was kept when the batch was cut (`cut`)."""

SHADOW_NODES = 4
"""Grown when nothing may be drafted, so that the path map goes on learning."""

masks_t = types.Array(types.uint32, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
sizes_t = types.Array(types.int64, 1, "C")
path_worth_t = types.Array(types.float32, 4, "C")


class Grown(NamedTuple):
    """The draft tree as it grows, columns of nodes_max entries."""

    token: Int32Array
    parent: Int32Array
    probability: Float32Array
    source: UInt32Array


grown_t = tuple_type([row_t, row_t, floats_t, masks_t], Grown)


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
        slot = int(frontier.slot[n])
        above = frontier.parent[slot] + 1
        token = frontier.token[slot]
        listed = int(frontier.listed[slot])
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
    types.void(
        rows_t, row_t, row_t, int64,
        table_t, bytes_t, keys_t, visits_t, table_t, shares_t, cube_t,
        float_cube_t, float_table_t, float_cube_t, path_worth_t, float_cube_t,
        int64, int64, float64, cube_t, sizes_t, int64, int64,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def grow(
    rows: Int64Array,
    learned: Int32Array,
    learned_table: Int32Array,
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
    path_worth: Float32Array,
    path_scale: Float32Array,
    children_max: int,
    chain: int,
    floor: float,
    block: Int32Array,
    sizes: Int64Array,
    first: int,
    end: int,
) -> None:
    """Grow a tree from the root of each of sequences first..end-1, whose `rows` are as in `contexts`.

    A shadow of SHADOW_NODES where fewer are asked for. Path probabilities are mapped. Tree i fills
    columns 0..sizes[i]-1 of block[:, i], int32[PLANES, batch, nodes]. No node's own estimate lies below
    `floor`. Arrays of the mixer are by temperature class. O(nodes x (orders + candidates) + nodes^2) a
    tree.
    """
    room = block.shape[2]
    nodes = Nodes(
        np.empty((room + 1, TAIL + 1), np.int32),
        np.empty((room + 1, PLACES_MAX, PLACE_COLUMNS), np.int32),
        np.empty((room + 1, SCOPES + 1), np.int32),
    )
    found = Found(
        np.empty((FOUND_ROWS, FOUND_WIDTH), np.int32),
        np.empty(SLOTS, np.int32),
        np.empty(CANDIDATES_MAX, np.float64),
        np.empty(CANDIDATES_MAX, np.float64),
        np.empty(ORDER_COUNT, np.uint64),
    )
    chosen = Chosen(np.empty(SETS_USED, np.int32), np.empty(WEIGHTS, np.float64))
    waiting = Frontier(
        np.empty(room, np.float64),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
    )
    hopes = Hopes(
        np.empty(room + 1, np.float64),
        np.empty(room + 1, np.int32),
        np.empty(room, np.float64),
    )
    for i in range(first, end):
        sizes[i] = 0
        if rows[i, NODES_MAX] < 0:
            continue
        kind = rows[i, KIND]
        nodes_max = min(room, max(SHADOW_NODES, rows[i, NODES_MAX]))
        tiers = tiers_of(
            rows, i, learned, learned_table, successors, logprobs,
            stand_keys, stand_visits, stand_tokens, stand_shares, common,
        )  # fmt: skip
        for k in range(nodes_max):
            waiting.slot[k] = k
        # What finds no room among so many could never be taken.
        frontier = Frontier(
            waiting.probability[:nodes_max], waiting.slot[:nodes_max], waiting.token[:nodes_max],
            waiting.parent[:nodes_max], waiting.listed[:nodes_max],
        )  # fmt: skip
        probability = block[PROBABILITY, i].view(np.float32)
        size = grow_within(
            tiers, rows[i, STOP], learned_stop, root_of(rows, i),
            Skill(worth[kind], stretch[kind], weights[kind]), nodes_max, rows[i, DEPTH_MAX],
            1 if chain else children_max, floor, row_at(rows[i, ENDS], rows[i, ENDS_COUNT]),
            Grown(block[TOKEN, i], block[PARENT, i], probability, block[SOURCE, i].view(np.uint32)),
            nodes, found, chosen, frontier, hopes,
        )  # fmt: skip
        paths.map_paths(
            block[PARENT, i], probability, size, path_worth[kind, chain], path_scale[kind, chain],
            block[PATH_BIN, i],
        )  # fmt: skip
        sizes[i] = size
