"""What a draft model's shares have been worth: how often a token that it held for 0.6 did follow.

A model of the same vocabulary is not sure of the same things as the target, least of all of a target that
decodes greedily. Every committed token teaches what was said of all tokens offered in its place.
"""

import numpy as np

from retrieval_draft.tree import Float64Array, Int64Array

PER_HALVING = 2
BINS = 20
KINDS = 2
"""Greedy targets, and others."""
HITS_AT_FIRST = 2.0
"""As many hits as were said: the model is believed until more than that was seen."""
SEEN_MAX = 256.0
"""A bin of so many, said or hit, forgets half, and so follows what it is used for."""


class Shares:
    """Bins by share, two for every halving, each with the sum of what was said and the hits."""

    def __init__(self) -> None:
        self._said = np.full((KINDS, BINS), HITS_AT_FIRST)
        self._hits = np.full((KINDS, BINS), HITS_AT_FIRST)

    def worth(self, logprobs: Float64Array, kinds: Int64Array) -> Float64Array:
        """The logarithms of what the shares of `logprobs` [B, ...] are worth, by kind of sequence [B]."""
        ratio = np.log(self._hits / self._said)
        kind = kinds.reshape(-1, *[1] * (logprobs.ndim - 1))
        worth: Float64Array = np.minimum(0.0, logprobs + ratio[kind, _bins(logprobs)])
        return worth

    def teach(self, kind: int, logprobs: Float64Array, followed: int | None) -> None:
        """These were offered in place of a committed token, which was number `followed` of them."""
        bins = _bins(logprobs)
        np.add.at(self._said[kind], bins, np.exp(logprobs))
        if followed is not None:
            self._hits[kind, bins[followed]] += 1.0
        full = np.maximum(self._said[kind], self._hits[kind]) > SEEN_MAX
        self._said[kind, full] /= 2
        self._hits[kind, full] /= 2


def _bins(logprobs: Float64Array) -> Int64Array:
    halvings = np.minimum(logprobs, 0.0) * (-PER_HALVING / np.log(2))
    bins: Int64Array = np.minimum(halvings, BINS - 1).astype(np.int64)
    return bins
