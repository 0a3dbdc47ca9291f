"""Prompt lookup (Saxena 2023; transformers' PromptLookupCandidateGenerator, vLLM's ngram).

The longest of the last 3, 2, 1 tokens that occurred before in this sequence, its first occurrence with
a continuation; that continuation is the draft, always a chain.
"""

import numpy as np

from retrieval_draft.drafting.sight import Draft, Limits, Sight, chain_of, source_mask, until_end
from retrieval_draft.tree import SOURCES, TIERS

MASK = source_mask(TIERS["context"], SOURCES["match"])
ACCEPTANCE = 0.5
"""Assumed of every next token: prompt lookup itself has no probabilities."""


class Lookup:
    """`length_min`..`length_max`: the n-grams tried, longest first."""

    name = "lookup"

    def __init__(self, length_min: int = 1, length_max: int = 3, newest: bool = False) -> None:
        self.length_min, self.length_max, self.newest = length_min, length_max, newest

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(occurrences of the n-gram)."""
        following = sight.context.occurrence(
            sight.query, self.length_min, self.length_max, self.newest
        )
        tokens = until_end(following[: min(limits.nodes_max, limits.depth_max)], limits.end_tokens)
        probability = ACCEPTANCE ** np.arange(1, len(tokens) + 1)
        return Draft(chain_of(tokens, probability.astype(np.float32), MASK))
