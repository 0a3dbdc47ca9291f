"""SuffixDecoding (Oliaro et al., NeurIPS 2025, arXiv 2411.04975).

For every match length, the continuations of the places that agree so far are a tree whose node
probabilities are count ratios; its score is their sum. The match length and the tier with the highest
score win, ties go to the longer match, and nothing is merged. The published structure is a suffix tree
over this sequence and one over all outputs; here the places come from hash chains (the newest
PLACES_MAX of each tier, which follows drift), and the warmed corpora are a third place to look.
"""

import numpy as np

from retrieval_draft.drafting.kernels.places import grow_path, grow_tree, sort_rows
from retrieval_draft.drafting.places import Places
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.tree import EMPTY, SOURCES, TIERS, DraftTree


class Suffix:
    """The published limits of a path, and for trees the looser ones that serve the same code best.

    A draft of match length m has at most factor * m + offset nodes, none below `probability_min`.
    """

    name = "suffix"
    path_factor, path_offset, path_probability_min = 1.0, 0.0, 0.1
    tree_factor, tree_offset, tree_probability_min = 1.0, 64.0, 0.001

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(match lengths x nodes x places)."""
        best, best_score = EMPTY, 0.0
        tiers = (
            ("context", "match", sight.context_places),
            ("learned", "match", sight.learned_places),
            ("corpus", "corpus", sight.corpus_places),
        )
        for tier, source, places in tiers:
            mask = source_mask(TIERS[tier], SOURCES[source])
            tree, score = self._best_of(places, limits, mask)
            if score > best_score:
                best, best_score = tree, score
        return Draft(best)

    def _best_of(self, places: Places, limits: Limits, mask: int) -> tuple[DraftTree, float]:
        best, best_score = EMPTY, 0.0
        order = np.empty(len(places), np.int32)
        sort_rows(places.windows, 0, len(places), order)
        agreed = places.lengths[order]
        for length in sorted(set(places.lengths.tolist()), reverse=True):
            tree, score = self._grow(places, order[agreed >= length], length, limits, mask)
            if score > best_score:
                best, best_score = tree, score
        return best, best_score

    def _grow(
        self, places: Places, rows: np.ndarray, length: int, limits: Limits, mask: int
    ) -> tuple[DraftTree, float]:
        factor, offset = self.tree_factor, self.tree_offset
        if limits.chain:
            factor, offset = self.path_factor, self.path_offset
        nodes_max = min(limits.nodes_max, int(length * factor + offset))
        token, parent = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
        probability, size = np.empty(nodes_max, np.float32), np.empty(1, np.int32)
        common = (limits.end_tokens, token, parent, probability, size)
        where = (places.windows, rows, len(rows), nodes_max, limits.depth_max)
        if limits.chain:
            score = grow_path(*where, self.path_probability_min, *common)
        else:
            score = grow_tree(*where, limits.children_max, self.tree_probability_min, *common)
        n = int(size[0])
        source = np.full(n, mask, np.uint32)
        return DraftTree(token[:n], parent[:n], probability[:n], source), float(score)
