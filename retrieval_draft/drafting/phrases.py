"""The phrase pool of lookahead decoding (Fu et al., ICML 2024, arXiv 2402.02057) and Ouroboros (Zhao et
al., EMNLP 2024, arXiv 2402.13720).

Every token has a list of the phrases that followed it, the least recently seen of which gives way. The
pool is fed by verification alone: by what was committed, and by what the target would have said along a
rejected tail, which is text of its own making, though after tokens that were not kept. The phrases of
the last token are drafted side by side, newest first. The pool is this process's own, one a namespace.
"""

import threading
from collections import OrderedDict

import numpy as np

from retrieval_draft.drafting.merging import merged
from retrieval_draft.drafting.sight import Draft, Limits, Sight, Verified, source_mask
from retrieval_draft.tree import EMPTY, SOURCES, TIERS

PHRASE_TOKENS = 6
PHRASES_MAX = 20
"""Of one token."""
TOKENS_MAX = 8192
"""With phrases; the token asked or fed least recently is forgotten."""
ACCEPTANCE = 0.5
"""Assumed of every next token: the pool has no probabilities."""
MASK = source_mask(TIERS["learned"], SOURCES["match"])


class PhrasePool:
    """Phrases by the token before them, newest last. Not thread-safe."""

    def __init__(self, tokens_max: int = TOKENS_MAX) -> None:
        self._tokens_max = tokens_max
        self._pool: OrderedDict[int, OrderedDict[bytes, None]] = OrderedDict()

    def add(self, key: int, phrase: list[int]) -> None:
        """`phrase` followed `key`: the newest of its list from now on. Short ones are filled up with -1."""
        padded = [*phrase[:PHRASE_TOKENS], *[-1] * (PHRASE_TOKENS - len(phrase))]
        phrases = self._pool.setdefault(key, OrderedDict())
        self._pool.move_to_end(key)
        row = np.array(padded, np.int32).tobytes()
        phrases[row] = None
        phrases.move_to_end(row)
        if len(phrases) > PHRASES_MAX:
            phrases.popitem(last=False)
        if len(self._pool) > self._tokens_max:
            self._pool.popitem(last=False)

    def newest_first(self, key: int) -> list[bytes]:
        """The phrases after this token, int32[PHRASE_TOKENS] each."""
        if key not in self._pool:
            return []
        self._pool.move_to_end(key)
        return list(reversed(self._pool[key]))


class Phrases:
    """Thread-safe: sequences of one namespace share the pool."""

    name = "phrases"

    def __init__(self) -> None:
        self._pool = PhrasePool()
        self._lock = threading.Lock()

    def learn(self, verified: Verified) -> None:
        """Take the phrases that the committed tokens complete, and those along the rejected tail."""
        ring = verified.context
        # A phrase is taken once all of it is there; those that it completes began before.
        first = max(ring.low, ring.stop - verified.committed - PHRASE_TOKENS)
        text = ring.read(first, ring.stop).tolist()
        tail = rejected_tail(verified)
        with self._lock:
            for at in range(len(text) - PHRASE_TOKENS):
                self._pool.add(text[at], text[at + 1 : at + 1 + PHRASE_TOKENS])
            for at in range(len(tail) - 1):
                self._pool.add(tail[at], tail[at + 1 : at + 1 + PHRASE_TOKENS])

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(phrases of the last token)."""
        with self._lock:
            phrases = self._pool.newest_first(int(sight.query[-1]))
        if not phrases:
            return Draft(EMPTY)
        rows = np.frombuffer(b"".join(phrases), np.int32).reshape(-1, PHRASE_TOKENS)
        masks = np.full(len(rows), MASK, np.uint32)
        return Draft(merged(rows, masks, ACCEPTANCE, limits))


def rejected_tail(verified: Verified) -> list[int]:
    """What the target would have said along the longest rejected path that it was observed on.

    Its first choices after consecutive nodes, from the first rejected one on.
    """
    tree, rows = verified.tree, verified.rows
    if tree is None or rows is None:
        return []
    nodes = -1 - rows.at.astype(np.int64)
    there = (nodes >= 0) & (nodes < len(tree))
    choice = dict(zip(nodes[there].tolist(), rows.tokens[there, 0].tolist(), strict=True))
    accepted = set(tree.follow(_committed(verified)))
    tails: dict[int, list[int]] = {}
    longest: list[int] = []
    for node in sorted(choice.keys() - accepted):
        above = int(tree.parent[node])
        tails[node] = [*tails.get(above, []), choice[node]]
        longest = max(longest, tails[node], key=len)
    return longest


def _committed(verified: Verified) -> list[int]:
    ring = verified.context
    tokens: list[int] = ring.read(max(ring.low, ring.stop - verified.committed), ring.stop).tolist()
    return tokens
