"""Token Recycling (Luo et al., ACL 2025, arXiv 2408.08696).

A static tree is filled from the adjacency matrix layer by layer: a node is the j-th successor of its
parent's token. The paper's tree has 80 nodes in levels of 8, 21, 25, 15, 8 and 3; which nodes those are
follows here from the ranks' average acceptance: in every level the most probable ones that have a parent.
"""

from functools import cache

import numpy as np

from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.store.recycling import WIDTH
from retrieval_draft.tree import SOURCES, TIERS, DraftTree

LEVELS = (8, 21, 25, 15, 8, 3)
RANK_ACCEPTANCE = (0.42, 0.13, 0.07, 0.045, 0.03, 0.022, 0.017, 0.013)
"""How often the j-th successor is the next token: fixes the template, not what a step accepts."""
MASK = source_mask(TIERS["learned"], SOURCES["recycling"])


@cache
def template() -> tuple[tuple[int, int, float], ...]:
    """(parent node or -1, rank, path probability) of the 80 nodes, most probable first.

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
    return tuple((index.get(path[:-1], -1), path[-1], p) for p, path in chosen)


class RecyclingMethod:
    """Fills the static tree; ranks that the matrix does not know are left out, never padded."""

    name = "recycling"

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(80) whatever has been learned."""
        if limits.chain:
            return Draft(self._fill(sight, limits, ranks_max=1))
        return Draft(self._fill(sight, limits, min(WIDTH, limits.children_max)))

    def _fill(self, sight: Sight, limits: Limits, ranks_max: int) -> DraftTree:
        successors = sight.recycling.successors
        root = int(sight.query[-1])
        ends = set(limits.end_tokens.tolist())
        placed: dict[int, int] = {-1: -1}
        depths = {-1: 0}
        siblings: set[tuple[int, int]] = set()
        tokens: list[int] = []
        parents: list[int] = []
        probabilities: list[float] = []
        for node, (above, rank, p) in enumerate(template()):
            if len(tokens) == limits.nodes_max:
                break
            if above not in placed or rank >= ranks_max or depths[above] >= limits.depth_max:
                continue
            at = placed[above]
            key = root if at < 0 else tokens[at]
            token = int(successors[key, rank])
            if token < 0 or key in ends:
                continue
            # A row read while it is being written may hold a token twice.
            if (at, token) in siblings:
                continue
            siblings.add((at, token))
            placed[node], depths[node] = len(tokens), depths[above] + 1
            tokens.append(token)
            parents.append(at)
            probabilities.append(p)
        return DraftTree(
            np.array(tokens, np.int32),
            np.array(parents, np.int32),
            np.array(probabilities, np.float32),
            np.full(len(tokens), MASK, np.uint32),
        )
