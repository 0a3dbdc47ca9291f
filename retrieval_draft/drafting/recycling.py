"""Token Recycling (Luo et al., ACL 2025, arXiv 2408.08696).

A static tree is filled from the adjacency matrix layer by layer: a node is the j-th successor of its
parent's token. The paper's tree has 80 nodes in levels of 8, 21, 25, 15, 8 and 3; which nodes those are
follows here from the ranks' average acceptance: in every level the most probable ones that have a parent.
"""

from functools import cache

import numpy as np

from retrieval_draft.drafting.kernels.fill import fill_matrix
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.drafting.templates import Template
from retrieval_draft.store.recycling import WIDTH
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, Float32Array

LEVELS = (8, 21, 25, 15, 8, 3)
RANK_ACCEPTANCE = (0.42, 0.13, 0.07, 0.045, 0.03, 0.022, 0.017, 0.013)
"""How often the j-th successor is the next token: fixes the template, not what a step accepts."""
MASK = source_mask(TIERS["learned"], SOURCES["recycling"])


@cache
def template() -> tuple[Template, Float32Array]:
    """The 80 nodes and their float32[80] path probabilities, most probable first.

    Any prefix is a tree: a child is less probable than its parent. So a smaller budget takes a prefix.
    """
    level: list[tuple[float, tuple[int, ...]]] = [(1.0, ())]
    chosen: list[tuple[float, tuple[int, ...]]] = []
    for size in LEVELS:
        grown = [
            (p * RANK_ACCEPTANCE[rank], (*path, rank)) for p, path in level for rank in range(WIDTH)
        ]
        level = sorted(grown, key=lambda node: (-node[0], node[1]))[:size]
        chosen += level
    chosen.sort(key=lambda node: (-node[0], len(node[1]), node[1]))
    index = {path: i for i, (_, path) in enumerate(chosen)}
    parents = tuple(index.get(path[:-1], -1) for _, path in chosen)
    ranks = tuple(path[-1] for _, path in chosen)
    return Template(parents, ranks), np.array([p for p, _ in chosen], np.float32)


class RecyclingMethod:
    """Fills the static tree; ranks that the matrix does not know are left out, never padded."""

    name = "recycling"

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(80) whatever has been learned."""
        tree, worth = template()
        most = min(limits.nodes_max, len(tree))
        token, parent = np.empty(most, np.int32), np.empty(most, np.int32)
        probability = np.empty(most, np.float32)
        size = fill_matrix(
            tree.parent_array,
            tree.rank_array,
            worth,
            sight.recycling.successors,
            int(sight.query[-1]),
            most,
            limits.depth_max,
            1 if limits.chain else min(WIDTH, limits.children_max),
            limits.end_tokens,
            token,
            parent,
            probability,
        )
        source = np.full(size, MASK, np.uint32)
        return Draft(DraftTree(token[:size], parent[:size], probability[:size], source))
