"""Two trees as one of one budget: RASD's pruning and merging (Quan et al., Findings of ACL 2025)."""

from collections.abc import Callable

import numpy as np

from retrieval_draft.gpu.draft_models.levels import MODEL_SOURCE
from retrieval_draft.tree import DraftTree, Float32Array, Int32Array, int32s

FIRST_MIN = 0.01
"""Of the draft model's probability of a retrieved path's first token. The paper does not tell its own."""

Expects = Callable[[Int32Array], Float32Array]


def fused(model: DraftTree, retrieved: DraftTree, expects: Expects, nodes_max: int) -> DraftTree:
    """RASD: the `nodes_max` most probable nodes of the model's tree and the pruned retrieval tree."""
    return best(merged(model, likely(retrieved, expects)), nodes_max)


def likely(retrieved: DraftTree, expects: Expects, first_min: float = FIRST_MIN) -> DraftTree:
    """Without the paths whose first token the draft model holds less probable than `first_min`. O(n)."""
    roots = np.flatnonzero(retrieved.parent < 0)
    if not len(roots):
        return retrieved
    kept = np.zeros(len(retrieved) + 1, np.bool_)
    kept[roots + 1] = expects(retrieved.token[roots]) >= first_min
    for i, parent in enumerate(retrieved.parent.tolist()):
        if parent >= 0:
            kept[i + 1] = kept[parent + 1]
    return _part(retrieved, np.flatnonzero(kept[1:]))


def merged(model: DraftTree, retrieved: DraftTree) -> DraftTree:
    """Both trees as one: each retrieved path follows the model's as far as it can, the rest hangs there.

    A node is worth what the surer of both says of it, given its parent. O(n).
    """
    place: dict[tuple[int, int], int] = {}
    token: list[int] = []
    parent: list[int] = []
    share: list[float] = []
    source: list[int] = []
    for tree in (model, retrieved):
        at = [-1]
        shares = shares_of(tree)
        rows = zip(
            tree.token.tolist(), tree.parent.tolist(), shares.tolist(), tree.source.tolist(),
            strict=True,
        )  # fmt: skip
        for own, above, worth, mask in rows:
            edge = (at[above + 1], own)
            node = place.setdefault(edge, len(token))
            if node == len(token):
                token.append(own)
                parent.append(edge[0])
                share.append(worth)
                source.append(mask)
            else:
                share[node] = max(share[node], worth)
                source[node] |= mask
            at.append(node)
    probability: list[float] = []
    for above, worth in zip(parent, share, strict=True):
        probability.append(worth * (probability[above] if above >= 0 else 1.0))
    return DraftTree(
        int32s(token),
        int32s(parent),
        np.array(probability, np.float32),
        np.array(source, np.uint32),
    )


def without_model(tree: DraftTree) -> DraftTree:
    """What of a fused tree retrieval has too; the parent of such a node is another one."""
    return _part(tree, np.flatnonzero(tree.source & np.uint32(~MODEL_SOURCE & 0xFFFFFFFF)))


def best(tree: DraftTree, nodes_max: int) -> DraftTree:
    """The most probable nodes; of equals the first, so that a parent stays with its child."""
    if len(tree) <= nodes_max:
        return tree
    order = np.argsort(-tree.probability, kind="stable")[:nodes_max]
    return _part(tree, np.sort(order))


def shares_of(tree: DraftTree) -> Float32Array:
    """Every node's probability given its parent."""
    above = np.append(tree.probability, np.float32(1))[tree.parent]
    share: Float32Array = np.minimum(1.0, tree.probability / np.maximum(above, 1e-30))
    return share.astype(np.float32)


def _part(tree: DraftTree, nodes: np.ndarray) -> DraftTree:
    """The tree of these nodes, ascending, which contain every node's parent."""
    place = np.full(len(tree) + 1, -1, np.int32)
    place[nodes + 1] = np.arange(len(nodes), dtype=np.int32)
    return DraftTree(
        tree.token[nodes],
        place[tree.parent[nodes] + 1],
        tree.probability[nodes],
        tree.source[nodes],
    )
