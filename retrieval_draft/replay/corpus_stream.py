"""Generated text with the repetition of natural text, where no billion of real tokens is at hand.

Phrases of 2 to 20 words are drawn by Zipf's law from as many as a fiftieth of the tokens, and words by
Zipf's law too; one phrase in four is made up anew. So frequent phrases recur thousands of times, most a few
times, and a part of the text is nowhere else.
"""

from collections.abc import Iterator

import numpy as np

from retrieval_draft.tree import Int32Array, Int64Array, int32s

PHRASE_TOKENS_MIN, PHRASE_TOKENS_MAX = 2, 20
TOKENS_PER_PHRASE = 50
PHRASES_MIN = 1000
NEW_SHARE = 0.25
ZIPF_PHRASES, ZIPF_WORDS = 1.15, 1.12
PIECE_PHRASES = 20_000


class CorpusStream:
    """A source of documents; two of equal arguments have the same phrases, and other documents."""

    def __init__(self, tokens: int, vocab_size: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        phrases = max(PHRASES_MIN, tokens // TOKENS_PER_PHRASE)
        self._tokens_of = random.permutation(vocab_size).astype(np.int32)
        self._lengths = random.integers(PHRASE_TOKENS_MIN, PHRASE_TOKENS_MAX + 1, phrases)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._words = self._drawn_words(random, int(self._lengths.sum()))

    def documents(self, tokens: int, length: int, seed: int) -> Iterator[Int32Array]:
        """Documents of `length` tokens, `tokens` in all (rounded up)."""
        random = np.random.default_rng([seed, 1])
        rest = np.empty(0, np.int32)
        for _ in range(-(-tokens // length)):
            while len(rest) < length:
                rest = np.concatenate([rest, self._piece(random)])
            yield int32s(rest[:length])
            rest = rest[length:]

    def _piece(self, random: np.random.Generator) -> Int32Array:
        chosen = ranks(random, ZIPF_PHRASES, PIECE_PHRASES, len(self._lengths))
        lengths = self._lengths[chosen]
        total = int(lengths.sum())
        before = np.cumsum(lengths) - lengths
        at = np.repeat(self._starts[chosen] - before, lengths) + np.arange(total)
        piece = self._words[at]
        is_new = np.repeat(random.random(len(chosen)) < NEW_SHARE, lengths)
        piece[is_new] = self._drawn_words(random, int(is_new.sum()))
        return piece

    def _drawn_words(self, random: np.random.Generator, count: int) -> Int32Array:
        words: Int32Array = self._tokens_of[ranks(random, ZIPF_WORDS, count, len(self._tokens_of))]
        return words


def ranks(random: np.random.Generator, exponent: float, count: int, size: int) -> Int64Array:
    """`count` numbers below `size`, number r with a probability that falls as (r + 1) ** -exponent.

    The continuous distribution, rounded down: exact enough, and fast for large `size`.
    """
    power = 1.0 - exponent
    uniform = random.random(count)
    value = (1.0 + uniform * ((size + 1.0) ** power - 1.0)) ** (1.0 / power)
    below: Int64Array = np.minimum(value.astype(np.int64) - 1, size - 1)
    return below
