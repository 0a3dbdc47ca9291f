"""Hierarchy Drafting (Cho et al., Findings of NAACL 2025, arXiv 2502.05609).

Databases are asked in the order of their temporal locality: what this sequence said after its last
token, newest first (context); what the model said after it, most frequent first (learned); and what the
corpus says after the last two tokens or one, most frequent first. Each gives sequences of 4 tokens, and
7 of them are enough: the rest is not asked. The published code verifies them side by side; here they are
one tree, so that no prefix is verified twice and nothing is padded.
"""

import numpy as np

from retrieval_draft.drafting.merging import merged
from retrieval_draft.drafting.rest import prefixes
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.store.corpus import match
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, Int32Array

SEQUENCE_TOKENS = 4
SEQUENCES_ENOUGH = 7
PLACES_MAX = 32
CORPUS_SUFFIX_MAX = 2
CORPUS_NODES = SEQUENCES_ENOUGH * SEQUENCE_TOKENS
ACCEPTANCE = 0.5
"""Assumed of every next token: the method has no probabilities."""
CONTEXT = source_mask(TIERS["context"], SOURCES["match"])
LEARNED = source_mask(TIERS["learned"], SOURCES["match"])
CORPUS = source_mask(TIERS["corpus"], SOURCES["corpus"])
_UNBOUNDED = Limits(CORPUS_NODES)


class Hierarchy:
    """Sequences of one database are distinct; those of a nearer one come first."""

    name = "hierarchy"

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(places), and O(log tokens) where the corpora are asked."""
        sequences: dict[bytes, int] = {}
        _add(sequences, _newest(sight.context, sight.query), CONTEXT)
        if len(sequences) < SEQUENCES_ENOUGH:
            _add(sequences, _most_frequent(sight.learned, sight.query), LEARNED)
        for segment in sight.segments:
            if len(sequences) >= SEQUENCES_ENOUGH:
                break
            found = match(segment, sight.query, 1, CORPUS_SUFFIX_MAX)
            if found.length:
                tree = prefixes(found, CORPUS_NODES, SEQUENCE_TOKENS, _UNBOUNDED)
                _add(sequences, _paths(tree), CORPUS)
        return Draft(_merged(sequences, limits))


def _newest(ring: TokenRing, query: Int32Array) -> list[bytes]:
    """What followed the last token, newest first, with repetitions."""
    windows = np.empty((PLACES_MAX, SEQUENCE_TOKENS), np.int32)
    count = ring.continuations(query[-1:], 1, windows, np.empty(PLACES_MAX, np.int32))
    return [windows[i].tobytes() for i in range(count)]


def _most_frequent(ring: TokenRing, query: Int32Array) -> list[bytes]:
    """What followed the last token, most frequent first, the newest of equals."""
    counts: dict[bytes, int] = {}
    for sequence in _newest(ring, query):
        counts[sequence] = counts.get(sequence, 0) + 1
    return sorted(counts, key=lambda sequence: -counts[sequence])


def _paths(tree: DraftTree) -> list[bytes]:
    """The paths down to the leaves, in their order, as rows."""
    parent, token = tree.parent.tolist(), tree.token.tolist()
    inner = set(parent)
    found: list[bytes] = []
    for leaf in range(len(tree)):
        if leaf in inner:
            continue
        path: list[int] = []
        node = leaf
        while node >= 0:
            path.insert(0, token[node])
            node = parent[node]
        row = np.array([*path, *[-1] * (SEQUENCE_TOKENS - len(path))], np.int32)
        found.append(row.tobytes())
    return found


def _add(sequences: dict[bytes, int], found: list[bytes], mask: int) -> None:
    """Take new ones until there are enough; what two databases know counts for both."""
    for sequence in found:
        if sequence in sequences:
            sequences[sequence] |= mask
        elif len(sequences) < SEQUENCES_ENOUGH:
            sequences[sequence] = mask


def _merged(sequences: dict[bytes, int], limits: Limits) -> DraftTree:
    rows = np.frombuffer(b"".join(sequences), np.int32).reshape(-1, SEQUENCE_TOKENS)
    masks = np.array(list(sequences.values()), np.uint32)
    return merged(rows, masks, ACCEPTANCE, limits)
