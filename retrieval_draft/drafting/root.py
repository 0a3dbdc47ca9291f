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
from retrieval_draft.drafting.kernels.tally import longest
from retrieval_draft.drafting.near import Near
from retrieval_draft.drafting.places import Places
from retrieval_draft.tree import int32s

CORPUS_PLACES_MAX = 24


class Root:
    """Arrays as `evidence.Nodes`, of one node, and the corpus windows that its corpus places stand in."""

    def __init__(self) -> None:
        self.tails = np.full((1, TAIL + 1), -1, np.int32)
        self.places = np.zeros((1, PLACES_MAX, PLACE_COLUMNS), np.int32)
        self.segments = np.zeros((1, SCOPES + 1), np.int32)
        self.corpus = np.full(1, -1, np.int32)

    def agreement(self) -> int:
        """Tokens of the context's end that stood before somewhere in the tiers, at most 64; 0 if under 3.

        A corpus is looked at only by drafts of `mix`. O(places).
        """
        return longest(self.places[0], int(self.segments[0, SCOPES]))

    def clear(self) -> None:
        """Tokens were taken back: no place agrees any more."""
        self.segments[:] = 0

    def stand_in(self, corpus: Places, near: Near | None = None) -> None:
        """Put these places of the corpora, longest agreement first, in place of the old ones.

        Behind them what is `near`, as interrupted places: no order of tokens agrees there.
        """
        first = int(self.segments[0, CORPUS])
        count = min(len(corpus), CORPUS_PLACES_MAX, PLACES_MAX - first)
        similar = 0 if near is None else min(len(near), PLACES_MAX - first - count)
        windows = np.full((count + similar + 1, corpus.windows.shape[1] + 1), -1, np.int32)
        windows[:count, :-1] = corpus.windows[:count]
        order = np.argsort(-corpus.lengths[:count], kind="stable")
        rows = self.places[0, first : first + count]
        rows[:, POSITION] = order * windows.shape[1]
        rows[:, LENGTH] = corpus.lengths[order]
        rows[:, NEXT] = windows[order, 0]
        rows[:, GAP] = 0
        if near is not None:
            depth = min(near.windows.shape[1], corpus.windows.shape[1])
            windows[count : count + similar, :depth] = near.windows[:similar, :depth]
            rows = self.places[0, first + count : first + count + similar]
            rows[:, POSITION] = np.arange(count, count + similar) * windows.shape[1]
            rows[:, LENGTH] = near.classes[:similar]
            rows[:, NEXT] = near.windows[:similar, 0]
            rows[:, GAP] = near.gaps[:similar]
        self.segments[0, CORPUS + 1] = first + count + similar
        self.corpus = int32s(windows.ravel())
