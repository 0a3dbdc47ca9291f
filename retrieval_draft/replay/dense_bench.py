"""Indexes of contexts against comparing every vector: time, bytes and what they miss."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrieval_draft.store.dense import DenseIndex
from retrieval_draft.store.dense_thread import NEIGHBOURS
from retrieval_draft.store.embedding import TokenEmbedding
from retrieval_draft.store.neighbours import Neighbours
from retrieval_draft.tree import Float32Array, Int32Array, int32s

VOCAB = 50_000
PHRASES, PHRASE_TOKENS = 20_000, (3, 12)
RENAMED_SHARE = 0.1
"""Of the tokens: phrases come back with other names in them."""
QUERIES = 200
PIECE_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class DenseRow:
    """One kind of index. `recall` is the share of the exact NEIGHBOURS neighbours that it finds."""

    kind: str
    contexts: int
    build_seconds: float
    index_bytes_per_context: float
    query_us_p50: float
    query_us_p99: float
    recall: float


def text_of(tokens: int, seed: int) -> Int32Array:
    """Phrases by Zipf's law, their tokens now and then exchanged."""
    random = np.random.default_rng(seed)
    phrases = [random.integers(0, VOCAB, random.integers(*PHRASE_TOKENS)) for _ in range(PHRASES)]
    drawn = np.minimum(random.zipf(1.3, tokens // 3) - 1, PHRASES - 1)
    text = np.concatenate([phrases[i] for i in drawn])[:tokens]
    renamed = random.random(len(text)) < RENAMED_SHARE
    text[renamed] = random.integers(0, VOCAB, int(renamed.sum()))
    return int32s(text)


def bench(
    contexts: int, kinds: tuple[str, ...], advance: Callable[[], None] = lambda: None
) -> list[DenseRow]:
    """The kinds of index over one text; `flat` is the exact one that recall is held against."""
    embed = TokenEmbedding()
    text = text_of(contexts, 0)
    vectors = embed(text, None)
    queries = embed(text_of(QUERIES * 50, 1), None)[49::50]
    exact = [_nearest(vectors, query) for query in queries]
    rows = []
    for kind in kinds:
        index = DenseIndex(contexts, kind)
        for at in range(0, contexts, PIECE_TOKENS):
            index.add("", 0, at, text[at : at + PIECE_TOKENS], vectors[at : at + PIECE_TOKENS])
        plain = index.nbytes
        began = time.perf_counter()
        index.build()
        seconds = time.perf_counter() - began
        found: list[Neighbours] = []
        times = []
        for query in queries:
            began = time.perf_counter()
            found.append(index.search(query, NEIGHBOURS))
            times.append((time.perf_counter() - began) * 1e6)
        # Equal contexts are equally near: a neighbour counts if it is as near as an exact one.
        hits = [
            (one.similarity >= likeness.min() - 1e-3).sum() / len(likeness)
            for one, likeness in zip(found, exact, strict=True)
        ]
        rows.append(
            DenseRow(
                kind,
                contexts,
                seconds,
                (index.nbytes - plain) / contexts,
                float(np.quantile(times, 0.5)),
                float(np.quantile(times, 0.99)),
                float(np.mean(hits)),
            )
        )
        advance()
    return rows


def _nearest(vectors: Float32Array, query: Float32Array) -> Float32Array:
    likeness: Float32Array = np.partition(vectors[:-1] @ query, -NEIGHBOURS)[-NEIGHBOURS:]
    return likeness
