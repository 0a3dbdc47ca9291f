"""`mix`, in its first form: the best-first union of every source, each candidate at what it has been worth.

Expansion by path probability keeps the most accepted tokens a budget can buy, if the probabilities are
right; so they are the acceptance that candidates of equal evidence had (tier, match length, share and
number of the agreeing places; rank and log-probability of a recycled successor). The path map then says
what a whole path has been worth: that is the probability that leaves, and that a budget is priced with.
"""

import math

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.kernels import paths
from retrieval_draft.drafting.kernels import union as kernels
from retrieval_draft.drafting.kernels.places import sort_rows
from retrieval_draft.drafting.recycling import RANK_ACCEPTANCE
from retrieval_draft.drafting.sight import Draft, Limits, Sight
from retrieval_draft.tree import DraftTree, Float32Array, Int32Array

PRIOR_TRIALS = 6.0
PATH_PRIOR_TRIALS = 20.0
PRIOR_WORTH = 0.8
PLACE_CONFIDENCE = (0.35, 0.5, 0.6, 0.65, 0.75, 0.8, 0.85, 0.95)
"""Acceptance of a place's continuation by length class, before anything was seen."""
TIER_CONFIDENCE = (1.0, 0.9, 0.7)


def fresh_acceptance() -> Float32Array:
    """float32[2, BINS]: prior hits and trials; one such array per namespace learns."""
    accept = np.full((2, kernels.BINS), PRIOR_TRIALS, np.float32)
    for tier, trust in enumerate(TIER_CONFIDENCE):
        for length in range(kernels.LENGTH_CLASSES):
            for share in range(kernels.SHARES):
                for support in range(kernels.SUPPORTS):
                    b = (tier * kernels.LENGTH_CLASSES + length) * kernels.SHARES + share
                    p = trust * PLACE_CONFIDENCE[length] * (share + 0.5) / kernels.SHARES
                    accept[0, b * kernels.SUPPORTS + support] *= p
    for rank in range(kernels.RANKS):
        for level in range(kernels.LOGPROBS):
            p = RANK_ACCEPTANCE[rank]
            if level < kernels.LOGPROBS - 1:
                p = 0.7 * math.exp(-(level + 0.5) / 2)
            accept[0, kernels.PLACE_BINS + rank * kernels.LOGPROBS + level] *= p
    return accept


def fresh_worth() -> Float32Array:
    """float32[2, DEPTHS * LEVELS]: at first a path is worth PRIOR_WORTH of what it seems."""
    levels = np.arange(paths.LEVELS, dtype=np.float32) + 0.5
    seems = np.tile(2.0 ** (-levels / paths.LEVELS_PER_HALVING), paths.DEPTHS)
    trials = np.full(seems.shape, PATH_PRIOR_TRIALS)
    return np.stack([PRIOR_WORTH * seems * trials, trials]).astype(np.float32)


class Mix:
    """Drafts from all tiers; `teach` turns what was committed into better probabilities."""

    name = "mix"

    def __init__(self) -> None:
        self.accept = fresh_acceptance()
        self.worth = fresh_worth()

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Copies of what was learned, by name: a prior for others."""
        return {"accept": self.accept.copy(), "worth": self.worth.copy()}

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(nodes x (places + frontier))."""
        parts = (sight.context_places, sight.learned_places, sight.corpus_places)
        windows = np.concatenate([part.windows for part in parts])
        lengths = np.concatenate([part.lengths for part in parts])
        bounds = np.cumsum([0, *map(len, parts)])
        rows = np.empty(len(lengths), np.int32)
        for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            sort_rows(windows, first, stop - first, rows[first:stop])
        n = limits.nodes_max
        token, parent = np.empty(n, np.int32), np.empty(n, np.int32)
        probability, source = np.empty(n, np.float32), np.empty(n, np.uint32)
        evidence = np.empty((n, kernels.SOURCES), np.int32)
        size = kernels.grow_union(
            windows,
            lengths,
            rows,
            bounds,
            sight.recycling.successors,
            sight.recycling.logprobs,
            int(sight.query[-1]),
            self.accept,
            n,
            limits.depth_max,
            limits.children_max,
            int(limits.chain),
            limits.end_tokens,
            token,
            parent,
            probability,
            source,
            evidence,
        )
        mapped, bins = np.empty(size, np.float32), np.empty(size, np.int32)
        paths.map_paths(parent[:size], probability[:size], self.worth, bins, mapped)
        tree = DraftTree(token[:size], parent[:size], mapped, source[:size])
        return Draft(tree, evidence[:size], bins)

    def teach(self, draft: Draft, committed: Int32Array) -> None:
        """`committed` followed where the draft was made, whatever was verified."""
        tree = draft.tree
        if draft.evidence is None or draft.path_bins is None or not len(tree):
            return
        kernels.teach(tree.token, tree.parent, draft.evidence, committed, self.accept)
        paths.teach_paths(tree.token, tree.parent, draft.path_bins, committed, self.worth)
