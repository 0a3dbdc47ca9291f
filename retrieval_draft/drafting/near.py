"""What followed similar contexts, as evidence at the root of the next tree.

Neighbours were asked for some tokens ago: their continuations are moved on by what the sequence has
become since, and those that went the same way weigh more. What they then say next is shared out as a
nearest-neighbour language model does it (Khandelwal et al. 2020, kNN-LM). `mix` learns what a share is
worth: places with a gap, of the corpora's scope, are the only ones that no table counts beside them.
"""

from dataclasses import dataclass

import numpy as np

from retrieval_draft.store.neighbours import Neighbours
from retrieval_draft.tree import Int32Array

NEAR_MAX = 4
"""Next tokens that are proposed."""
SHARPNESS = 12.0
"""Of the weights: a neighbour that is less similar by 1 weighs e^12 less."""
AGREEMENT_MAX = 3
AGREEMENT_WEIGHT = 4.0
"""Per token that a neighbour went on by like the sequence, counted from the end, up to AGREEMENT_MAX."""
UNKNOWN = 0.3
"""Weight of what no neighbour says, against the best one's 1."""
SHARE_CLASSES = 8
AGREED, DISAGREED = 1, 2
"""Gaps that tell apart whether the newest token agreed (nothing came since: it counts as agreeing)."""


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """windows int32[n, d] of what comes next, gaps and classes int32[n], the largest share first."""

    windows: Int32Array
    gaps: Int32Array
    classes: Int32Array

    def __len__(self) -> int:
        return len(self.gaps)


def near(found: Neighbours, since: Int32Array) -> Near | None:
    """Evidence of neighbours that were asked for before `since` came; None where none goes on.

    O(neighbours x window).
    """
    moved = len(since)
    if not len(found) or moved >= found.windows.shape[1]:
        return None
    agreed = np.zeros(len(found), np.int64)
    alike = np.ones(len(found), np.bool_)
    for back in range(min(moved, AGREEMENT_MAX)):
        alike &= found.windows[:, moved - 1 - back] == since[moved - 1 - back]
        agreed += alike
    windows = found.windows[:, moved:]
    usable = windows[:, 0] >= 0
    if not usable.any():
        return None
    best = float(found.similarity[usable].max())
    weight = np.exp(SHARPNESS * (found.similarity - best)) * AGREEMENT_WEIGHT**agreed * usable
    weight /= float(weight.max())
    total = float(weight.sum()) + UNKNOWN
    # Of each next token the heaviest neighbour's continuation stands for all of them.
    order = np.argsort(-weight, kind="stable")
    first: dict[int, int] = {}
    shares: dict[int, float] = {}
    for i in order.tolist():
        if weight[i] > 0:
            token = int(windows[i, 0])
            first.setdefault(token, i)
            shares[token] = shares.get(token, 0.0) + float(weight[i]) / total
    chosen = sorted(shares, key=lambda token: -shares[token])[:NEAR_MAX]
    rows = [first[token] for token in chosen]
    classes = [share_class(shares[token]) for token in chosen]
    gaps = np.where((agreed[rows] > 0) | (moved == 0), AGREED, DISAGREED)
    return Near(
        np.ascontiguousarray(windows[rows]), gaps.astype(np.int32), np.array(classes, np.int32)
    )


def share_class(share: float) -> int:
    """7 for a share above 0.71, one less per factor 1.41 below, down to 0."""
    return max(0, SHARE_CLASSES - 1 - int(-2.0 * np.log2(max(share, 1e-9))))
