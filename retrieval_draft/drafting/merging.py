"""Sequences found one by one, merged into a tree: for methods whose sources know no probabilities."""

import numpy as np

from retrieval_draft.drafting.kernels.trie import merge_rows
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.tree import DraftTree, Int32Array, UInt32Array


def merged(rows: Int32Array, masks: UInt32Array, acceptance: float, limits: Limits) -> DraftTree:
    """The tree of rows int32[r, d] (-1 = ended), the first first, as far as the limits let them in.

    Row i comes from the sources masks[i]; a node is worth `acceptance` of its parent. O(tokens x nodes).
    """
    most = min(limits.nodes_max, rows.size)
    token, parent = np.empty(most, np.int32), np.empty(most, np.int32)
    probability, source = np.empty(most, np.float32), np.empty(most, np.uint32)
    n = merge_rows(
        rows,
        len(rows),
        acceptance,
        masks,
        most,
        limits.depth_max,
        1 if limits.chain else limits.children_max,
        limits.end_tokens,
        0,
        token,
        parent,
        probability,
        source,
    )
    return DraftTree(token[:n], parent[:n], probability[:n], source[:n])
