"""ADED: adaptive draft-verification (Liu et al., AAAI 2025, arXiv 2407.12021).

A tri-gram table stands for the model: after two tokens, the likeliest next ones. It follows the outputs,
and a Monte Carlo tree search over it drafts, so that likely tokens are exploited and the others explored.
The table here is the learned tier's (the n-grams of two tokens in STAND's, ten followers where the
published matrix has twelve), which the target's own probabilities feed, or its outputs where those are
all that is known. The search is PUCT with AlphaZero's growing exploration.
"""

import numpy as np

from retrieval_draft.drafting.kernels.grams import grow_search
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.tree import SOURCES, TIERS, DraftTree

EXPLORATION = 1.25
VISITS_SCALE = 19652.0
MASK = source_mask(TIERS["learned"], SOURCES["order2"])


class Aded:
    """One node a simulation; its probability is the product of the table's along its path."""

    name = "aded"

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(nodes x depth), whatever has been learned."""
        query = sight.query
        table = sight.stand.grams
        most = limits.nodes_max
        token, parent = np.empty(most, np.int32), np.empty(most, np.int32)
        probability = np.empty(most, np.float32)
        n = grow_search(
            table.keys,
            table.tokens,
            table.shares,
            int(query[-2]) if len(query) > 1 else -1,
            int(query[-1]),
            len(sight.recycling.successors),
            EXPLORATION,
            VISITS_SCALE,
            most,
            limits.depth_max,
            1 if limits.chain else limits.children_max,
            limits.end_tokens,
            token,
            parent,
            probability,
        )
        source = np.full(n, MASK, np.uint32)
        return Draft(DraftTree(token[:n], parent[:n], probability[:n], source))
