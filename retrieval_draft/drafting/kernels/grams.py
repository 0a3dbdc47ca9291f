"""Drafting from STAND's table: a static template filled (STAND), and a search over token pairs (ADED)."""

import math

import numpy as np
import numpy.typing as npt
from numba import float64, int64, njit, types

from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.store.kernels.stand import ONE, ORDER_MAX, WIDTH, find
from retrieval_draft.tree import Float32Array, Int32Array

read_row_t = types.Array(types.int32, 1, "C", readonly=True)
read_floats_t = types.Array(types.float32, 2, "C", readonly=True)
row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")
floats_t = types.Array(types.float32, 1, "C")
float_rows_t = types.Array(types.float32, 2, "C")
keys_t = types.Array(types.uint64, 1, "C")
shares_t = types.Array(types.uint16, 2, "C")

NEGLIGIBLE = 1e-9
"""Next to the likeliest candidate: below it a token is never drawn."""


@njit(int64(keys_t, table_t, int64), nogil=True, cache=True)
def longest_gram(keys: npt.NDArray[np.uint64], contexts: Int32Array, row: int) -> int:
    """The slot of the longest known n-gram at the end of contexts[row], or -1."""
    slot = -1
    state = np.uint64(0)
    for order in range(ORDER_MAX):
        last = contexts[row, ORDER_MAX - 1 - order]
        if last < 0:
            break
        state = mix(state, last)
        found = find(keys, state if state != np.uint64(0) else np.uint64(1))
        if found >= 0:
            slot = found
    return slot


@njit(
    int64(shares_t, table_t, int64, int64, float64, row_t, floats_t),
    nogil=True,
    cache=True,
)
def candidates(
    shares: npt.NDArray[np.uint16],
    tokens: Int32Array,
    slot: int,
    vocab_size: int,
    sharpness: float,
    found: Int32Array,
    probability: Float32Array,
) -> int:
    """What the table expects at this slot, likeliest first; returns how many tokens.

    Without `sharpness` (0) the probabilities are the stored means, which leave a tail. With it (1 /
    temperature) they are those of the known tokens at that temperature, and sum to 1.
    """
    count = 0
    total = 0.0
    for i in range(WIDTH):
        child = tokens[slot, i]
        share = float(shares[slot, i])
        known = 0 <= child < vocab_size and share > 0.0
        # A row read while it is being written may hold a token twice, or be out of order.
        for other in range(count):
            known = known and found[other] != child
        if not known:
            continue
        p = share / ONE
        if sharpness > 0.0:
            p = min(1.0, share / max(1.0, float(shares[slot, 0]))) ** sharpness
            if p < NEGLIGIBLE:
                continue
        found[count] = child
        probability[count] = p
        total += p
        count += 1
    if sharpness > 0.0 or total > 1.0:
        for i in range(count):
            probability[i] /= total
    return count


@njit(
    types.void(
        read_row_t, read_row_t, read_row_t, keys_t, table_t, shares_t, row_t, int64, float64,
        read_floats_t, int64, int64, int64, row_t, row_t, row_t, floats_t, row_t, row_t, table_t,
        float_rows_t, row_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def fill_grams(
    parents: Int32Array,
    ranks: Int32Array,
    children: Int32Array,
    keys: npt.NDArray[np.uint64],
    tokens: Int32Array,
    shares: npt.NDArray[np.uint16],
    query: Int32Array,
    vocab_size: int,
    sharpness: float,
    noise: Float32Array,
    nodes_max: int,
    depth_max: int,
    ranks_max: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    index: Int32Array,
    p_node: Int32Array,
    p_token: Int32Array,
    p_probability: Float32Array,
    size: Int32Array,
) -> None:
    """Fill the template's first `nodes_max` nodes that the table knows; size[0] says how many.

    index[i] is the place in the template that node i takes. Without `sharpness` the child of rank j is
    the j-th likeliest. With it a node's children are drawn without replacement, in the order of their
    places: the tokens in the ascending order of noise / probability, `noise` being exponential (the
    Gumbel-Top-K trick: log p + g with g = -log noise). Then p_node, p_token and p_probability [rows, 10]
    say what the children of each node that has any were drawn from, size[1] how many rows there are; and
    a drawn child's probability is that of the i-th likeliest, so that it tells nothing about which one
    was drawn. children[i + 1] is how many children place i has, children[0] those of the root.
    """
    places = len(parents)
    contexts = np.empty((places + 1, ORDER_MAX), np.int32)
    place = np.full(places + 1, -2, np.int64)
    depth = np.zeros(places + 1, np.int64)
    filled = np.zeros(places + 1, np.int64)
    known = np.zeros(places + 1, np.int64)
    row_of = np.full(places + 1, -1, np.int64)
    drawn = np.empty(p_token.shape, np.int32)
    score = np.empty(WIDTH, np.float64)
    place[0] = -1
    for back in range(ORDER_MAX):
        at = len(query) - ORDER_MAX + back
        contexts[0, back] = query[at] if at >= 0 else -1
    rows = 0
    n = 0
    for i in range(-1, places):
        if i >= 0:
            above = parents[i] + 1
            nth = filled[above] if sharpness > 0.0 else ranks[i]
            if n == nodes_max:
                break
            if place[above] < -1 or ranks[i] >= ranks_max or nth >= known[above]:
                continue
            row = row_of[above]
            token[n] = drawn[row, nth]
            parent[n] = place[above]
            worth = p_probability[row, nth]
            probability[n] = worth if above == 0 else worth * probability[place[above]]
            index[n] = i
            place[i + 1] = n
            depth[i + 1] = depth[above] + 1
            filled[above] += 1
            contexts[i + 1, : ORDER_MAX - 1] = contexts[above, 1:]
            contexts[i + 1, ORDER_MAX - 1] = token[n]
            n += 1
        # What may follow the node just placed (the root at first).
        here = i + 1
        ended = children[here] == 0 or depth[here] >= depth_max or rows == len(p_node)
        for end in end_tokens:
            ended = ended or (i >= 0 and token[n - 1] == end)
        if ended:
            continue
        slot = longest_gram(keys, contexts, here)
        if slot < 0:
            continue
        count = candidates(
            shares, tokens, slot, vocab_size, sharpness, p_token[rows], p_probability[rows]
        )
        for j in range(count):
            at = j
            if sharpness > 0.0:
                mark = noise[rows, j] / p_probability[rows, j]
                while at > 0 and score[at - 1] > mark:
                    score[at] = score[at - 1]
                    drawn[rows, at] = drawn[rows, at - 1]
                    at -= 1
                score[at] = mark
            drawn[rows, at] = p_token[rows, j]
        for j in range(count, WIDTH):
            p_token[rows, j] = -1
            p_probability[rows, j] = 0.0
        known[here] = count
        row_of[here] = rows
        p_node[rows] = i
        rows += 1
    kept = 0
    for row in range(rows):
        here = p_node[row] + 1
        if sharpness > 0.0 and filled[here] > 0:
            p_node[kept] = place[here]
            p_token[kept, :] = p_token[row, :]
            p_probability[kept, :] = p_probability[row, :]
            kept += 1
    size[0] = n
    size[1] = kept


@njit(
    int64(
        keys_t, table_t, shares_t, int64, int64, int64, float64, float64, int64, int64, int64,
        read_row_t, row_t, row_t, floats_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def grow_search(
    keys: npt.NDArray[np.uint64],
    tokens: Int32Array,
    shares: npt.NDArray[np.uint16],
    before_last: int,
    last: int,
    vocab_size: int,
    weight: float,
    visits_scale: float,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
) -> int:
    """Grow one tree over the followers of token pairs; returns its size.

    A simulation goes down from the root by the best Q + E * P * sqrt(N) / (1 + n), E = weight +
    ln((N + visits_scale + 1) / visits_scale), to a follower that is not in the tree, and adds it. P is its
    probability after the two tokens before it, n and N the visits of the follower and of its node, and Q
    the mean, over its visits, of the probability of what was added at or below it, given its node.
    """
    room = nodes_max + 1
    found = np.full((room, WIDTH), -1, np.int32)
    chance = np.zeros((room, WIDTH), np.float32)
    known = np.zeros(room, np.int64)
    child = np.full((room, WIDTH), -1, np.int64)
    visits = np.zeros((room, WIDTH), np.int64)
    worth = np.zeros((room, WIDTH), np.float64)
    passed = np.zeros(room, np.int64)
    children = np.zeros(room, np.int64)
    closed = np.zeros(room, np.bool_)
    depth = np.zeros(room, np.int64)
    path = np.empty(room, np.int64)
    choice = np.empty(room, np.int64)
    n = 0
    # Row 0 is the root, row i + 1 node i.
    row = 0
    while True:
        above = last if row == 0 else int(token[row - 1])
        first = before_last
        if row > 0:
            first = last if parent[row - 1] < 0 else int(token[parent[row - 1]])
        ended = depth[row] >= depth_max
        if row > 0:
            for end in end_tokens:
                ended = ended or above == end
        slot = -1
        if not ended and first >= 0:
            key = mix(mix(np.uint64(0), above), first)
            slot = find(keys, key if key != np.uint64(0) else np.uint64(1))
        if slot >= 0:
            known[row] = candidates(shares, tokens, slot, vocab_size, 0.0, found[row], chance[row])
        closed[row] = known[row] == 0
        if n == nodes_max:
            return n
        # One simulation; a node below which nothing is left is closed, and the next one begins.
        added = False
        while not added and not closed[0]:
            at = 0
            length = 0
            while True:
                total = passed[at]
                explore = weight + math.log((total + visits_scale + 1.0) / visits_scale)
                best = -1
                best_score = 0.0
                for j in range(known[at]):
                    below = child[at, j]
                    if below >= 0 and closed[below]:
                        continue
                    if below < 0 and children[at] >= children_max:
                        continue
                    seen = visits[at, j]
                    score = explore * chance[at, j] * math.sqrt(float(total)) / (1.0 + seen)
                    if seen > 0:
                        score += worth[at, j] / seen
                    if best < 0 or score > best_score:
                        best, best_score = j, score
                if best < 0:
                    closed[at] = True
                    break
                path[length] = at
                choice[length] = best
                length += 1
                if child[at, best] < 0:
                    added = True
                    break
                at = child[at, best]
            if not added:
                continue
            token[n] = found[at, choice[length - 1]]
            parent[n] = at - 1
            p = chance[at, choice[length - 1]]
            probability[n] = p if at == 0 else p * probability[at - 1]
            row = n + 1
            child[at, choice[length - 1]] = row
            children[at] += 1
            depth[row] = depth[at] + 1
            n += 1
            value = 1.0
            for back in range(length - 1, -1, -1):
                value *= chance[path[back], choice[back]]
                visits[path[back], choice[back]] += 1
                worth[path[back], choice[back]] += value
                passed[path[back]] += 1
        if closed[0]:
            return n
