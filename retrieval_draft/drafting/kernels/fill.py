"""Filling a static template from the Token Recycling matrix."""

import numpy as np
from numba import int64, njit, types

from retrieval_draft.tree import Float32Array, Int32Array

row_t = types.Array(types.int32, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
read_floats_t = types.Array(types.float32, 1, "C", readonly=True)
table_t = types.Array(types.int32, 2, "C")
floats_t = types.Array(types.float32, 1, "C")


@njit(
    int64(
        read_row_t, read_row_t, read_floats_t, table_t, int64, int64, int64, int64, row_t, row_t,
        row_t, floats_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def fill_matrix(
    parents: Int32Array,
    ranks: Int32Array,
    worth: Float32Array,
    successors: Int32Array,
    root: int,
    nodes_max: int,
    depth_max: int,
    ranks_max: int,
    end_tokens: Int32Array,
    token: Int32Array,
    parent: Int32Array,
    probability: Float32Array,
) -> int:
    """Write the template's first `nodes_max` nodes that the matrix knows; returns how many.

    Node i is successor ranks[i] of its parent's token, and worth[i]. Unknown ranks, ranks from
    `ranks_max` on, and what would follow an end token are left out with all below them.
    """
    place = np.full(len(parents) + 1, -2, np.int64)
    depth = np.empty(len(parents) + 1, np.int64)
    place[0] = -1
    depth[0] = 0
    n = 0
    for i in range(len(parents)):
        if n == nodes_max:
            break
        above = parents[i] + 1
        at = place[above]
        if at < -1 or ranks[i] >= ranks_max or depth[above] >= depth_max:
            continue
        key = root if at < 0 else int(token[at])
        ended = False
        if at >= 0:
            for end in end_tokens:
                ended = ended or key == end
        if ended or ranks[i] >= successors.shape[1] or key < 0 or key >= successors.shape[0]:
            continue
        child = successors[key, ranks[i]]
        known = 0 <= child < successors.shape[0]
        # A row read while it is being written may hold a token twice.
        for other in range(n):
            known = known and not (parent[other] == at and token[other] == child)
        if not known:
            continue
        token[n] = child
        parent[n] = at
        probability[n] = worth[i]
        place[i + 1] = n
        depth[i + 1] = depth[above] + 1
        n += 1
    return n
