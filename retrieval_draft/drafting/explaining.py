"""What each source says of a draft's nodes, asked one by one: for people, not for drafting.

`mix` sees the same tables through bins of what they say (kernels/evidence); here are the counts
themselves. Reads what a draft reads and changes nothing; a hundred microseconds a node.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval_draft.drafting.places import WINDOW_TOKENS
from retrieval_draft.drafting.sight import AGREEMENT_MAX, CORPUS_AGREEMENT_MIN, PLACES_MAX, Sight
from retrieval_draft.store.corpus import match
from retrieval_draft.store.kernels import adjacency, ngrams, stand, windows
from retrieval_draft.store.kernels.ring import mix
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.segment import Segment
from retrieval_draft.tree import DraftTree, Int32Array, int32s

ORDER_NAMES_MAX = 4
LOGPROB_STEPS = 16


@dataclass(frozen=True, slots=True)
class Preview:
    """A tree that nobody verifies, and what it was made of."""

    tree: DraftTree
    sight: Sight
    draft_us: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One source of one tier about one node. `count` of `total` followed after `match_length` tokens.

    Of recycling `count` is the rank from 1 among `total` kept successors. `probability` is what the
    source alone says. In a corpus `segment` and `position` are where the longest match stands: its
    node's token there.
    """

    tier: str
    source: str
    match_length: int
    count: float
    total: float
    probability: float
    segment: Segment | None = None
    position: int = -1


def evidence_of(sight: Sight, tree: DraftTree) -> list[list[Evidence]]:
    """By node. A source that does not know a node says nothing of it."""
    context = sight.context
    before = context.read(max(context.low, context.stop - AGREEMENT_MAX), context.stop)
    found = []
    for above in tree.ancestors():
        # Parents stand before their children: in their order these are the path.
        path = tree.token[above]
        query = int32s(np.concatenate([before, path[:-1]])[-AGREEMENT_MAX:])
        found.append(list(_of_node(sight, query, int(path[-1]))))
    return found


def _of_node(sight: Sight, query: Int32Array, token: int) -> Iterator[Evidence]:
    for tier, ring in (("context", sight.context), ("learned", sight.learned)):
        yield from _match(tier, ring, query, token)
        yield from _orders(tier, ring.table, query, token)
    yield from _recycled(sight, int(query[-1]), token)
    yield from _expected(sight, query, token)
    for segment in sight.segments:
        yield from _in_corpus(segment, query, token)


def _match(tier: str, ring: TokenRing, query: Int32Array, token: int) -> Iterator[Evidence]:
    following = np.full((PLACES_MAX, WINDOW_TOKENS), -1, np.int32)
    lengths = np.zeros(PLACES_MAX, np.int32)
    total = ring.continuations(query, AGREEMENT_MAX, following, lengths)
    agreeing = following[:total, 0] == token
    if agreeing.any():
        count = int(agreeing.sum())
        longest = int(lengths[:total][agreeing].max())
        yield Evidence(tier, "match", longest, count, total, count / total)


def _orders(tier: str, table: Int32Array, query: Int32Array, token: int) -> Iterator[Evidence]:
    state, order = np.uint64(0), 0
    for length, before in enumerate(query[::-1].tolist(), start=1):
        state = np.uint64(mix(state, before))
        if length != ngrams.ORDERS[order]:
            continue
        at = ngrams.find(table, state, order)
        if at < 0:
            return
        wide = order < windows.WIDE_ORDERS
        followers = windows.WIDE_FOLLOWERS if wide else windows.NARROW_FOLLOWERS
        total = int(table[at + 1]) & ngrams.TOTAL_MASK
        known = table[at + 2 : at + 2 + followers].tolist()
        if token in known and total:
            count = int(table[at + 2 + followers + known.index(token)])
            source = f"order{min(length, ORDER_NAMES_MAX)}"
            sightings = ngrams.SIGHTING
            yield Evidence(
                tier, source, length, count / sightings, total / sightings, count / total
            )
        order += 1
        if order == ngrams.ORDER_COUNT:
            return


def _recycled(sight: Sight, last: int, token: int) -> Iterator[Evidence]:
    successors, logprobs = sight.recycling.successors, sight.recycling.logprobs
    if not 0 <= last < len(successors):
        return
    row = successors[last].tolist()
    if token in row:
        rank = row.index(token)
        packed = int(logprobs[last, rank])
        p = 0.0 if packed == adjacency.UNKNOWN_LOGPROB else math.exp(-packed / LOGPROB_STEPS)
        kept = sum(one >= 0 for one in row)
        yield Evidence("learned", "recycling", 1, rank + 1, kept, p)


def _expected(sight: Sight, query: Int32Array, token: int) -> Iterator[Evidence]:
    grams = sight.expected
    for length in range(min(len(query), stand.ORDER_MAX), 0, -1):
        slot = stand.find(grams.keys, stand.gram_key(query, len(query), length))
        if slot >= 0:
            break
    else:
        return
    row = grams.tokens[slot].tolist()
    if token in row:
        p = int(grams.shares[slot, row.index(token)]) / stand.ONE
        visits = int(grams.visits[slot])
        yield Evidence("learned", "stand", length, p * visits, visits, p)


def _in_corpus(segment: Segment, query: Int32Array, token: int) -> Iterator[Evidence]:
    longer = int32s([*query[-(AGREEMENT_MAX - 1) :].tolist(), token])
    found = match(segment, longer, CORPUS_AGREEMENT_MIN + 1, AGREEMENT_MAX)
    if not found.length:
        return
    length = found.length - 1
    total = match(segment, query, length, length).occurrences
    position = int(segment.index.order[found.low]) + length
    share = found.occurrences / max(1, total)
    yield Evidence("corpus", "corpus", length, found.occurrences, total, share, segment, position)
