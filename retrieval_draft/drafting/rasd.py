"""RASD: retrieval-augmented speculative decoding (Quan et al., Findings of ACL 2025, arXiv 2503.03434).

The retrieval tree is REST's trie joined with prompt lookup. Where the worker sends the tree of its own
draft model, paths whose first token that model holds improbable are pruned, and the rest is fused into
the model's tree by longest prefixes, under one budget. Without one the retrieval tree goes out with its
probabilities, and the worker prunes and fuses. The paper's thresholds are not published: FIRST_MIN is ours.
"""

import numpy as np

from retrieval_draft.drafting.budget import pruned
from retrieval_draft.drafting.kernels.trie import graft
from retrieval_draft.drafting.lookup import Lookup
from retrieval_draft.drafting.rest import Rest
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.tree import SOURCES, DraftTree

FIRST_MIN = 0.01
"""Of the draft model's probability of a path's first token."""
MODEL = source_mask(SOURCES["model"])


class Rasd:
    """Keeps the `nodes_max` most probable nodes of the fused tree."""

    name = "rasd"

    def __init__(self) -> None:
        self._rest = Rest()
        self._lookup = Lookup()

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(nodes of both trees, squared)."""
        model = sight.model_tree
        retrieved = (self._rest.draft(sight, limits).tree, self._lookup.draft(sight, limits).tree)
        room = len(model) + sum(map(len, retrieved))
        fused = (
            np.empty(room, np.int32),
            np.empty(room, np.int32),
            np.empty(room, np.float32),
            np.empty(room, np.uint32),
        )
        n = 0
        first_min = 0.0
        if len(model):
            masks = model.source | np.uint32(MODEL)
            own = DraftTree(model.token, model.parent, model.probability, masks)
            n = _grafted(own, 0.0, limits, n, fused)
            first_min = FIRST_MIN
        for tree in retrieved:
            n = _grafted(tree, first_min, limits, n, fused)
        token, parent, probability, source = fused
        whole = DraftTree(token[:n], parent[:n], probability[:n], source[:n])
        if n <= limits.nodes_max:
            return Draft(whole)
        # A node is at most as probable as its parent, and stands behind it.
        best = np.argsort(-whole.probability, kind="stable")[: limits.nodes_max]
        return Draft(pruned(whole, np.sort(best)))


def _grafted(
    tree: DraftTree, first_min: float, limits: Limits, n: int, fused: tuple[np.ndarray, ...]
) -> int:
    token, parent, probability, source = fused
    return graft(
        tree.token,
        tree.parent,
        tree.probability,
        tree.source,
        first_min,
        len(token),
        limits.depth_max,
        1 if limits.chain else limits.children_max,
        limits.end_tokens,
        n,
        token,
        parent,
        probability,
        source,
    )
