"""The worker's own draft as one more source of `mix`.

Both trees are united by longest prefixes. A node's probability is what its pair of shares has been worth,
mapped as every path of `mix` is; the best of all go out. It learns from what was committed, whichever
tree was verified, like everything in `mix`. Temperature classes learn each for themselves.
"""

import numpy as np

from retrieval_draft.drafting.kernels import fuse, paths
from retrieval_draft.drafting.sight import Fused, Limits, source_mask
from retrieval_draft.tree import SOURCES, DraftTree, Float32Array, Int32Array

MODEL = source_mask(SOURCES["model"])
FIRST_SIGHTINGS = 8.0
"""How much the first guess of a pair counts."""
MODEL_ALONE, RETRIEVED_ALONE = 0.9, 0.5
"""First guess: of a share that the other tree does not list, though it goes on here."""


def first_worth() -> Float32Array:
    """float32[BINS, 2]: before anything was seen the surer of both is believed."""
    said = 2.0 ** (-(np.arange(fuse.LEVELS) + 0.5) / fuse.LEVELS_PER_HALVING)
    model, retrieved = np.zeros((2, fuse.SHARES, fuse.SHARES))
    model[fuse.LISTED :] = said[:, None]
    model[fuse.LISTED :, fuse.ABSENT] *= MODEL_ALONE
    retrieved[:, fuse.LISTED :] = said
    retrieved[fuse.ABSENT, fuse.LISTED :] *= RETRIEVED_ALONE
    worth = np.maximum(model, retrieved).reshape(-1)
    return np.stack([worth, np.full(worth.shape, FIRST_SIGHTINGS)], axis=1).astype(np.float32)


class Fusing:
    """One namespace's. Several threads may fuse and teach: a torn update costs a bad draft."""

    def __init__(self, path_worth: Float32Array, path_scale: Float32Array) -> None:
        """Takes a path map by temperature class and shape, as `mix` has it, for its own."""
        self._worth = [first_worth() for _ in path_worth]
        self._paths = [
            list(zip(worth, scale, strict=True))
            for worth, scale in zip(path_worth, path_scale, strict=True)
        ]

    def fuse(
        self, model: DraftTree, grown: DraftTree, limits: Limits, kind: int
    ) -> tuple[DraftTree, Fused]:
        """The best nodes of both trees within `limits`, and the union to learn from. O(nodes^2)."""
        room, split = len(model) + len(grown), len(model)
        token, parent = np.empty(room, np.int32), np.empty(room, np.int32)
        probability, source = np.empty(room, np.float32), np.empty(room, np.uint32)
        bins, path_bins = np.empty(room, np.int32), np.empty(room, np.int32)
        size = fuse.unite(
            np.concatenate([model.token, grown.token]),
            np.concatenate([model.parent, grown.parent]),
            np.concatenate([model.probability, grown.probability]),
            np.concatenate([model.source | np.uint32(MODEL), grown.source]),
            split,
            self._worth[kind],
            *self._paths[kind][int(limits.chain)],
            token,
            parent,
            probability,
            source,
            bins,
            path_bins,
        )
        picked = np.empty(min(limits.nodes_max, size), np.int32)
        count = fuse.pick(
            token,
            parent,
            probability,
            size,
            len(picked),
            limits.depth_max,
            1 if limits.chain else limits.children_max,
            limits.floor,
            limits.end_tokens,
            picked,
        )
        nodes = picked[:count]
        place = np.full(size + 1, -1, np.int32)
        place[nodes + 1] = np.arange(count, dtype=np.int32)
        tree = DraftTree(token[nodes], place[parent[nodes] + 1], probability[nodes], source[nodes])
        whole = DraftTree(token[:size], parent[:size], probability[:size], source[:size])
        return tree, Fused(whole, bins[:size], path_bins[:size], (kind, int(limits.chain)))

    def teach(self, fused: Fused, committed: Int32Array) -> None:
        """`committed` followed where the trees were fused."""
        kind, shape = fused.kind
        tree = fused.tree
        fuse.teach_fused(tree.token, tree.parent, fused.bins, committed, self._worth[kind])
        paths.teach_paths(
            tree.token,
            tree.parent,
            tree.probability,
            fused.path_bins,
            committed,
            *self._paths[kind][shape],
        )
