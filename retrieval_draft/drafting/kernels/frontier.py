"""What waits while a tree grows: candidates that may be taken, and nodes that may be looked behind.

Both are kept sorted in arrays. What a node's best child will have is not known before it is looked for; it is
hoped for, from what lists the node.
"""

from typing import NamedTuple

import numpy as np
from numba import float64, int64, types

from retrieval_draft.drafting.kernels import mixing
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
    COUNTS,
    LISTED,
    TOKEN,
    Found,
    found_t,
    row_t,
)
from retrieval_draft.store.kernels.leaf import leaf, tuple_type
from retrieval_draft.store.kernels.ngrams import ORDER_COUNT
from retrieval_draft.tree import SOURCES, TIERS, Float64Array, Int32Array, UInt32Array

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

doubles_t = types.Array(types.float64, 1, "C")


class Frontier(NamedTuple):
    """Candidates that may be taken: path probability float64, most probable first, and the int32 slot where
    each one's token, parent node and mask of inputs stay as it moves. As many entries as nodes may be
    drafted: what was taken made way for itself, so that those that wait while n are taken stand from entry n
    on, and what finds no room could never be taken. Behind them stand the slots that are free.
    """

    probability: Float64Array
    slot: Int32Array
    token: Int32Array
    parent: Int32Array
    listed: Int32Array


class Hopes(NamedTuple):
    """Nodes that were taken and not yet looked behind, most hopeful first: what their best child is hoped
    to have, float64, and int32 node. `estimate` float64 is every taken node's own probability."""

    hope: Float64Array
    node: Int32Array
    estimate: Float64Array


frontier_t = tuple_type([doubles_t, row_t, row_t, row_t, row_t], Frontier)
hopes_t = tuple_type([doubles_t, row_t, doubles_t], Hopes)


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
    """Take entry `at` of those before `stop` off; its slot is free then."""
    slot = frontier.slot[at]
    for i in range(at, stop - 1):
        frontier.probability[i] = frontier.probability[i + 1]
        frontier.slot[i] = frontier.slot[i + 1]
    frontier.slot[stop - 1] = slot


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
            while frontier.parent[frontier.slot[out]] != node - 1:
                out -= 1
            if p <= frontier.probability[out]:
                continue
        if out < stop:
            siblings -= frontier.parent[frontier.slot[out]] == node - 1
            drop(frontier, out, stop)
            stop -= 1
        slot = frontier.slot[stop]
        at = stop
        while at > first and frontier.probability[at - 1] < p:
            frontier.probability[at] = frontier.probability[at - 1]
            frontier.slot[at] = frontier.slot[at - 1]
            at -= 1
        frontier.probability[at] = p
        frontier.slot[at] = slot
        frontier.token[slot] = rows[TOKEN, c]
        frontier.parent[slot] = node - 1
        frontier.listed[slot] = rows[LISTED, c]
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
