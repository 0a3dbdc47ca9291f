"""REST: retrieval-based speculative decoding (He et al., NAACL 2024, arXiv 2311.08252).

The longest exact suffix of the context, of 16 down to 2 tokens, that stands in the datastore; what
follows its occurrences (10 tokens, an even sample of at most 5000) is a trie of which the 64 most
frequent prefixes are drafted. The datastore is the corpus tier; of its segments the one with the
longest match is taken, then that with the most occurrences.
"""

import numpy as np

from retrieval_draft.drafting.kernels.prefixes import grow_prefixes
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.store.corpus import Match, match
from retrieval_draft.tree import EMPTY, SOURCES, TIERS, DraftTree

SUFFIX_MIN, SUFFIX_MAX = 2, 16
CONTINUATION_TOKENS = 10
OCCURRENCES_MAX = 5000
PREFIXES_MAX = 64
MASK = source_mask(TIERS["corpus"], SOURCES["corpus"])


class Rest:
    """A node's probability is the share of the occurrences that pass through it."""

    name = "rest"

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(segments x log tokens + 64 x log occurrences), however large they are."""
        found = [match(segment, sight.query, SUFFIX_MIN, SUFFIX_MAX) for segment in sight.segments]
        best = max(found, key=lambda one: (one.length, one.occurrences), default=None)
        if best is None or not best.length:
            return Draft(EMPTY)
        return Draft(
            prefixes(best, min(limits.nodes_max, PREFIXES_MAX), CONTINUATION_TOKENS, limits)
        )


def prefixes(found: Match, nodes_max: int, depth_max: int, limits: Limits) -> DraftTree:
    """The trie of the `nodes_max` most frequent continuations, within limits."""
    token, parent = np.empty(nodes_max, np.int32), np.empty(nodes_max, np.int32)
    count = np.empty(nodes_max, np.int32)
    size = grow_prefixes(
        found.segment.index,
        found.low,
        found.high,
        found.length,
        OCCURRENCES_MAX,
        nodes_max,
        min(depth_max, limits.depth_max),
        1 if limits.chain else limits.children_max,
        limits.end_tokens,
        token,
        parent,
        count,
    )
    step = -(-found.occurrences // OCCURRENCES_MAX)
    samples = -(-found.occurrences // step)
    probability = (count[:size] / samples).astype(np.float32)
    return DraftTree(token[:size], parent[:size], probability, np.full(size, MASK, np.uint32))
