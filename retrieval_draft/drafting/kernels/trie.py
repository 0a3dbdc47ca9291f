"""Merging token sequences and trees into one tree by their longest common prefixes."""

import numpy as np
from numba import float64, int64, njit, types

from retrieval_draft.tree import Float32Array, Int32Array, UInt32Array

row_t = types.Array(types.int32, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
read_table_t = types.Array(types.int32, 2, "C", readonly=True)
read_floats_t = types.Array(types.float32, 1, "C", readonly=True)
read_masks_t = types.Array(types.uint32, 1, "C", readonly=True)
floats_t = types.Array(types.float32, 1, "C")
masks_t = types.Array(types.uint32, 1, "C")


@njit(
    int64(int64, int64, int64, int64, int64, int64, read_row_t, row_t, row_t),
    nogil=True,
    cache=True,
)
def child_of(
    above: int,
    child: int,
    n: int,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
) -> int:
    """The node of this token under node `above`; n where it may be added there, or -1 where it may not."""
    siblings = 0
    for i in range(n):
        if parent[i] == above:
            if token[i] == child:
                return i
            siblings += 1
    if n >= nodes_max or siblings >= children_max:
        return -1
    depth = 0
    at = above
    while at >= 0:
        depth += 1
        at = parent[at]
    if depth >= depth_max:
        return -1
    if above >= 0:
        for end in end_tokens:
            if token[above] == end:
                return -1
    return n


@njit(
    int64(
        read_table_t, int64, float64, read_masks_t, int64, int64, int64, read_row_t, int64, row_t,
        row_t, floats_t, masks_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def merge_rows(
    rows: Int32Array,
    count: int,
    acceptance: float,
    masks: UInt32Array,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Int32Array,
    n: int,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
) -> int:
    """Add rows 0..count-1 (int32[r, d], -1 = ended) to a tree of n nodes; returns its new size.

    One row after the other, as far as the limits let it. A new node is worth `acceptance` times its
    parent; masks[i] is added to the source of every node of row i.
    """
    for row in range(count):
        above = -1
        worth = 1.0
        for d in range(rows.shape[1]):
            child = rows[row, d]
            if child < 0:
                break
            at = child_of(
                above, child, n, nodes_max, depth_max, children_max, end_tokens, token, parent
            )
            if at < 0:
                break
            if at == n:
                token[n] = child
                parent[n] = above
                probability[n] = worth * acceptance
                source[n] = 0
                n += 1
            source[at] |= masks[row]
            worth = float(probability[at])
            above = at
    return n


@njit(
    int64(
        read_row_t, read_row_t, read_floats_t, read_masks_t, float64, int64, int64, int64,
        read_row_t, int64, row_t, row_t, floats_t, masks_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def graft(
    new_token: Int32Array,
    new_parent: Int32Array,
    new_probability: Float32Array,
    new_source: UInt32Array,
    first_min: float,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Int32Array,
    n: int,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
    source: UInt32Array,
) -> int:
    """Add a tree to a tree of n nodes by longest prefixes; returns its new size.

    With `first_min` above 0 only those paths whose first token stands in the tree already, and is at
    least so probable there. A node is worth what the surer of both trees says: its share of its parent
    is kept, whichever tree that comes from.
    """
    size = len(new_token)
    place = np.full(size + 1, -2, np.int64)
    place[0] = -1
    rooted = n
    for i in range(size):
        above = int(place[new_parent[i] + 1])
        if above < -1:
            continue
        at = child_of(
            above, new_token[i], n, nodes_max, depth_max, children_max, end_tokens, token, parent
        )
        if at < 0:
            continue
        if above < 0 and first_min > 0.0 and (at >= rooted or probability[at] < first_min):
            continue
        share = new_probability[i]
        if new_parent[i] >= 0:
            share /= max(np.float32(1e-30), new_probability[new_parent[i]])
        worth = min(np.float32(1.0), share) * (
            probability[above] if above >= 0 else np.float32(1.0)
        )
        if at == n:
            token[n] = new_token[i]
            parent[n] = above
            probability[n] = worth
            source[n] = new_source[i]
            n += 1
        else:
            probability[at] = max(probability[at], worth)
            source[at] |= new_source[i]
        place[i + 1] = at
    return n
