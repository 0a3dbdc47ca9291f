"""One cut over the nodes of a batch: the most probable ones, as far as they are worth their verification."""

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.drafting.kernels.contexts import NODES_MAX, rows_t
from retrieval_draft.drafting.kernels.growth import KEEP, PROBABILITY
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import BoolArray, Float32Array, Int32Array, Int64Array

floats_t = types.Array(types.float32, 1, "C", readonly=True)
counts_t = types.Array(types.int32, 1, "C", readonly=True)
flags_t = types.Array(types.boolean, 1, "C")
order_t = types.Array(types.int64, 1, "C")
sizes_t = types.Array(types.int64, 1, "C")
cube_t = types.Array(types.int32, 3, "C")

PRICE_MIN = 1e-9


@leaf(float64(counts_t, floats_t, int64, int64))
def price_within(nodes: Int32Array, milliseconds: Float32Array, above: int, count: int) -> float:
    """What `count` nodes cost, of which entry `above` of the table is the first that is not below.

    Behind the last entry the last slope goes on, if it rises.
    """
    last = len(nodes) - 1
    if above > last:
        slope = 0.0
        if last > 0:
            run = float(nodes[last]) - float(nodes[last - 1])
            slope = max(0.0, (float(milliseconds[last]) - float(milliseconds[last - 1])) / run)
        found = float(milliseconds[last]) + slope * (count - nodes[last])
    elif nodes[above] == count or above == 0:
        found = float(milliseconds[above])
    else:
        first, run = float(milliseconds[above - 1]), float(nodes[above]) - float(nodes[above - 1])
        slope = (float(milliseconds[above]) - first) / run
        found = first + slope * (count - nodes[above - 1])
    return max(PRICE_MIN, float(found))


@leaf(int64(floats_t, order_t, int64, int64, counts_t, floats_t, int64))
def worth_keeping(
    probability: Float32Array,
    order: Int64Array,
    sequences: int,
    nodes_max: int,
    nodes: Int32Array,
    milliseconds: Float32Array,
    drawn: int,
) -> int:
    """How many of the nodes are to stay, the first ones of `order`: of descending path probability."""
    count = len(order)
    most = min(count, nodes_max) if nodes_max > 0 else count
    if len(nodes) == 0:
        return most
    kept = 0
    above = 0
    best = sequences / price_within(nodes, milliseconds, 0, 0)
    total = 0.0
    for i in range(1, most + 1):
        total += probability[order[i - 1]]
        while above < len(nodes) and nodes[above] < i:
            above += 1
        rate = (sequences + total) / price_within(nodes, milliseconds, above, i)
        if rate > best:
            best = rate
            kept = i
        elif drawn and rate < best:
            break
        elif drawn:
            kept = i
    return kept


@njit(
    int64(floats_t, int64, int64, counts_t, floats_t, int64, flags_t),
    nogil=True,
    cache=True,
)
def cut(
    probability: Float32Array,
    sequences: int,
    nodes_max: int,
    nodes: Int32Array,
    milliseconds: Float32Array,
    drawn: int,
    keep: BoolArray,
) -> int:
    """Mark in `keep` the nodes that stay, and count them; `keep` comes in without any.

    At most nodes_max (0 = no bound), in descending path probability. With a table, whose `nodes` ascend
    from 0, the prefix of the best (sequences + sum of p) / price; where children were `drawn`, the prefix
    ends where that first falls. O(n log n).
    """
    order = np.argsort(-probability, kind="mergesort")
    kept = worth_keeping(probability, order, sequences, nodes_max, nodes, milliseconds, drawn)
    for i in range(kept):
        keep[order[i]] = True
    return kept


@njit(
    types.void(rows_t, cube_t, sizes_t, int64, int64, counts_t, floats_t, sizes_t),
    nogil=True,
    cache=True,
)
def cut_block(
    rows: Int64Array,
    block: Int32Array,
    sizes: Int64Array,
    sequences: int,
    nodes_max: int,
    nodes: Int32Array,
    milliseconds: Float32Array,
    left: Int64Array,
) -> None:
    """`cut` of a batch's trees as `growth` leaves them, of each the first NODES_MAX nodes: marks plane KEEP.

    left[i] becomes how many stay of tree i; if they are not its first ones, that less than -1. `rows` are
    as in `contexts`, and `sequences` of them were asked for.
    """
    total = 0
    for i in range(len(sizes)):
        left[i] = max(0, min(sizes[i], rows[i, NODES_MAX]))
        for k in range(sizes[i]):
            block[KEEP, i, k] = 1 if k < left[i] else 0
        total += left[i]
    if total == 0 or (len(nodes) == 0 and (nodes_max == 0 or total <= nodes_max)):
        return
    probability = np.empty(total, np.float32)
    at = 0
    for i in range(len(sizes)):
        own = block[PROBABILITY, i].view(np.float32)
        for k in range(left[i]):
            probability[at] = own[k]
            at += 1
    order = np.argsort(-probability, kind="mergesort")
    stays = np.zeros(total, np.bool_)
    for k in range(worth_keeping(probability, order, sequences, nodes_max, nodes, milliseconds, 0)):
        stays[order[k]] = True
    at = 0
    for i in range(len(sizes)):
        count = 0
        last = 0
        for k in range(left[i]):
            if stays[at]:
                count += 1
                last = k + 1
            else:
                block[KEEP, i, k] = 0
            at += 1
        left[i] = count if last == count else -1 - count


@njit(float64(counts_t, floats_t), nogil=True, cache=True)
def gentlest(nodes: Int32Array, milliseconds: Float32Array) -> float:
    """The smallest price of a node more anywhere in a table of two entries or more. O(entries)."""
    least = np.inf
    for i in range(1, len(nodes)):
        rise = float(milliseconds[i]) - float(milliseconds[i - 1])
        least = min(least, rise / (float(nodes[i]) - float(nodes[i - 1])))
    return least
