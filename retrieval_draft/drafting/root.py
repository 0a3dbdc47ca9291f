"""Where a sequence's next draft starts: the tail of its context and the places that agree with it."""

import numpy as np

from retrieval_draft.drafting.kernels.bins import CORPUS, SCOPES
from retrieval_draft.drafting.kernels.evidence import (
    GAP,
    LENGTH,
    NEXT,
    PLACE_COLUMNS,
    PLACES_MAX,
    POSITION,
    TAIL,
)
from retrieval_draft.drafting.kernels.standing import stand
from retrieval_draft.drafting.kernels.tally import longest
from retrieval_draft.drafting.near import NEAR_MAX, Near
from retrieval_draft.drafting.places import WINDOW_TOKENS
from retrieval_draft.store.corpus import Trails
from retrieval_draft.tree import int32s

CORPUS_PLACES_MAX = 16


class Root:
    """Arrays as `evidence.Nodes`, of one node, and the windows of its corpus places, flat in `corpus`.

    Behind the corpora's windows there is room for those of `Near`.
    """

    def __init__(self) -> None:
        self.tails = np.full((1, TAIL + 1), -1, np.int32)
        self.places = np.zeros((1, PLACES_MAX, PLACE_COLUMNS), np.int32)
        self.segments = np.zeros((1, SCOPES + 1), np.int32)
        self.windows = np.full((CORPUS_PLACES_MAX + NEAR_MAX, WINDOW_TOKENS + 1), -1, np.int32)
        self.lengths = np.zeros(CORPUS_PLACES_MAX, np.int32)
        self.corpus = int32s(self.windows.ravel())
        self.trails = Trails()
        arrays = (self.tails, self.places, self.segments, self.corpus)
        tails, places, segments, corpus = (array.ctypes.data for array in arrays)
        self.addresses = tails, places, segments, corpus, len(self.corpus)
        """Of tails, places, segments and corpus, and how many words that has."""

    @property
    def place_count(self) -> int:
        return int(self.segments[0, SCOPES])

    def agreement(self) -> int:
        """Tokens of the context's end that stood before somewhere in the tiers, at most 64; 0 if under 3.

        A corpus is looked at only by drafts of `mix`. O(places).
        """
        return longest(self.places[0], self.place_count)

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

    def stand_near(self, near: Near) -> None:
        """Put `near` behind the corpora's places, which are those of this step.

        As interrupted places: no order of tokens agrees there. Where there is not room for all, the
        largest shares stay.
        """
        first = int(self.segments[0, CORPUS + 1])
        count = min(len(near), NEAR_MAX, PLACES_MAX - first)
        depth = min(near.windows.shape[1], WINDOW_TOKENS)
        windows = self.windows[CORPUS_PLACES_MAX : CORPUS_PLACES_MAX + count]
        windows[:, :depth] = near.windows[:count, :depth]
        windows[:, depth:] = -1
        rows = self.places[0, first : first + count]
        rows[:, POSITION] = np.arange(CORPUS_PLACES_MAX, CORPUS_PLACES_MAX + count) * (
            WINDOW_TOKENS + 1
        )
        rows[:, LENGTH] = near.classes[:count]
        rows[:, NEXT] = near.windows[:count, 0]
        rows[:, GAP] = near.gaps[:count]
        self.segments[0, CORPUS + 1] = first + count
