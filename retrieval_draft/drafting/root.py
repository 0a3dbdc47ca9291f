"""Where a sequence's next draft starts: the tail of its context and the places that agree with it."""

import numpy as np

from retrieval_draft.drafting.kernels.bins import CORPUS, SCOPES
from retrieval_draft.drafting.kernels.evidence import (
    PLACE_COLUMNS,
    PLACES_MAX,
    TAIL,
)
from retrieval_draft.drafting.kernels.standing import stand
from retrieval_draft.drafting.kernels.tally import longest
from retrieval_draft.drafting.places import WINDOW_TOKENS
from retrieval_draft.store.corpus import Trails
from retrieval_draft.tree import int32s

CORPUS_PLACES_MAX = 16


class Root:
    """Arrays as `evidence.Nodes`, of one node, and the windows of its corpus places, flat in `corpus`."""

    def __init__(self) -> None:
        self.tails = np.full((1, TAIL + 1), -1, np.int32)
        self.places = np.zeros((1, PLACES_MAX, PLACE_COLUMNS), np.int32)
        self.segments = np.zeros((1, SCOPES + 1), np.int32)
        self.windows = np.full((CORPUS_PLACES_MAX, WINDOW_TOKENS + 1), -1, np.int32)
        self.lengths = np.zeros(CORPUS_PLACES_MAX, np.int32)
        self.corpus = int32s(self.windows.ravel())
        self.trails = Trails()

    def agreement(self) -> int:
        """Tokens of the context's end that stood before somewhere in the tiers, at most 64; 0 if under 3.

        A corpus is looked at only by drafts of `mix`. O(places).
        """
        return longest(self.places[0], int(self.segments[0, SCOPES]))

    def clear(self) -> None:
        """Tokens were taken back: no place agrees any more."""
        self.segments[:] = 0
        self.trails.clear()

    def stand_in(self, count: int) -> None:
        """Put the first `count` places of `windows` and `lengths` in place of the old ones of the corpora."""
        first = int(self.segments[0, CORPUS])
        count = min(count, PLACES_MAX - first)
        stand(self.windows, self.lengths, count, first, self.places[0])
        self.segments[0, CORPUS + 1] = first + count
