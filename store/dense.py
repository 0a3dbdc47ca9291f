"""Contexts by similarity: recent tokens, an embedding of the context that ends with each, and an index.

A bounded ring of the newest contexts. FAISS indexes what was there when it last built: exactly up to
FLAT_MAX contexts, else by inverted lists of product-quantised vectors, whose answers are ranked anew by
the vectors themselves. What came since is compared one by one. Nothing here is on a draft's way: the
dense thread (dense_thread.py) adds, builds and asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import Corrupt, FailedPrecondition, InvalidInput
from retrieval_draft.store.blocks import block_digest
from retrieval_draft.store.embedding import DIMENSIONS
from retrieval_draft.store.neighbours import WINDOW_TOKENS, Neighbours
from retrieval_draft.tree import Float32Array, Int32Array, int32s

KINDS = ("auto", "flat", "ivf", "hnsw")
FLAT_MAX = 100_000
"""Contexts up to which every vector is compared (`auto`)."""
BUILD_MIN = 4096
BUILD_SHARE = 0.25
"""An index is built anew when so many contexts came since, as a share of those it knows."""
LISTS_MAX, TRAINED_PER_LIST = 1024, 40
PROBES = 64
SEARCHED = 128
"""Of the graph of `hnsw`, per question."""
RANKED_ANEW = 8
"""Times as many answers of a quantised index are ranked by the vectors themselves."""
SIMILARITY_MIN = 0.2


class _Faiss(Protocol):
    """What is used of a FAISS index; its own types are not published."""

    is_trained: bool

    def train(self, vectors: Float32Array) -> None: ...
    def add(self, vectors: Float32Array) -> None: ...
    def search(
        self, vectors: Float32Array, k: int
    ) -> tuple[Float32Array, npt.NDArray[np.int64]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """An index over the positions first..stop-1, and how many bytes it has."""

    index: _Faiss
    first: int
    stop: int
    nbytes: int


class _Dump(msgspec.Struct, frozen=True, array_like=True):
    version: int
    first: int
    stop: int
    tokens: bytes
    vectors: bytes
    built_first: int
    built_stop: int
    index: bytes


DUMP_VERSION = 1


def faiss() -> ModuleType:
    """The library. FailedPrecondition where it is not installed."""
    try:
        import faiss as module
    except ImportError as error:
        raise FailedPrecondition(
            "dense retrieval needs FAISS: pip install 'retrieval-draft[dense]'"
        ) from error
    # One thread of ours asks: OpenMP's team would take the cores that drafts run on.
    module.omp_set_num_threads(1)
    loaded: ModuleType = module
    return loaded


class DenseIndex:
    """The newest `contexts_max` contexts of one namespace; one thread adds and asks, one builds.

    132 bytes a context, and the index: 256 bytes a context when flat, about 16 with inverted lists.
    """

    def __init__(self, contexts_max: int, kind: str = "auto") -> None:
        if kind not in KINDS:
            raise InvalidInput("dense index", kind, f"one of {', '.join(KINDS)}")
        faiss()
        self._kind = kind
        self._capacity = 1 << max(0, contexts_max - 1).bit_length()
        self._tokens = np.zeros(self._capacity, np.int32)
        self._vectors = np.zeros((self._capacity, DIMENSIONS), np.float16)
        self._stop = 0
        self._built: _Built | None = None
        # Whose tokens stand at the end, and which position would continue them.
        self._open: tuple[str, int, int] | None = None

    def __len__(self) -> int:
        """Contexts that are kept, boundaries between texts included."""
        return min(self._stop, self._capacity)

    @property
    def nbytes(self) -> int:
        """Of what is kept; arrays take memory as they fill."""
        built = self._built
        row = self._tokens.itemsize + self._vectors.itemsize * DIMENSIONS
        return len(self) * row + (built.nbytes if built else 0)

    @property
    def contexts_indexed(self) -> int:
        """By the index that was built last; the others are compared one by one."""
        built = self._built
        return built.stop - built.first if built else 0

    def add(
        self,
        replica: str,
        sequence: int,
        position: int,
        tokens: Int32Array,
        vectors: Float32Array,
    ) -> None:
        """Tokens of a sequence from `position` on, and float32[n, 64] of the contexts they end.

        A context whose vector is 0 is never found. O(tokens).
        """
        if self._open != (replica, sequence, position) and self._stop:
            self._append(int32s([-1]), np.zeros((1, DIMENSIONS), np.float32))
        self._append(tokens[-self._capacity :], vectors[-self._capacity :])
        self._open = (replica, sequence, position + len(tokens))

    def search(self, vector: Float32Array, k: int) -> Neighbours:
        """The `k` contexts nearest to float32[64] of length 1 that something followed."""
        built, stop = self._built, self._stop
        low = max(0, stop - self._capacity)
        fresh = max(low, built.stop) if built else low
        found = [np.arange(fresh, stop - 1)]
        if built is not None and k > 0:
            _, at = built.index.search(vector[None], min(RANKED_ANEW * k, built.stop - built.first))
            near = at[0][at[0] >= 0] + built.first
            found.append(near[(near >= low) & (near < stop - 1)])
        positions = np.concatenate(found).astype(np.int64)
        mask = self._capacity - 1
        similarity = self._vectors[positions & mask].astype(np.float32) @ vector
        kept = (similarity >= SIMILARITY_MIN) & (self._tokens[(positions + 1) & mask] >= 0)
        positions, similarity = positions[kept], similarity[kept]
        if len(positions) > k:
            best = np.argpartition(-similarity, k - 1)[:k] if k else np.empty(0, np.int64)
            positions, similarity = positions[best], similarity[best]
        order = np.argsort(-similarity, kind="stable")
        return Neighbours(self._windows(positions[order], stop), similarity[order])

    @property
    def is_due(self) -> bool:
        """Whether so much came that building pays."""
        built = self._built
        known = built.stop - built.first if built else 0
        waiting = self._stop - (built.stop if built else 0)
        return waiting >= max(BUILD_MIN, BUILD_SHARE * known)

    def build(self) -> None:
        """Index what is kept now. Seconds for a million contexts; searches go on beside it."""
        stop = self._stop
        first = max(0, stop - self._capacity)
        if stop == first:
            return
        at = np.arange(first, stop) & (self._capacity - 1)
        vectors = self._vectors[at].astype(np.float32)
        module = faiss()
        index = self._made(module, len(vectors))
        if not index.is_trained:
            step = max(1, len(vectors) // (LISTS_MAX * TRAINED_PER_LIST))
            index.train(np.ascontiguousarray(vectors[::step]))
        index.add(vectors)
        nbytes = len(module.serialize_index(index))
        self._built = _Built(index, first, stop, nbytes)

    def dump(self) -> bytes:
        """All of it as one block: `block_digest` of it is its name."""
        built, stop = self._built, self._stop
        first = max(0, stop - self._capacity)
        at = np.arange(first, stop) & (self._capacity - 1)
        return msgspec.msgpack.encode(
            _Dump(
                DUMP_VERSION,
                first,
                stop,
                self._tokens[at].astype("<i4").tobytes(),
                self._vectors[at].astype("<f2").tobytes(),
                built.first if built else 0,
                built.stop if built else 0,
                faiss().serialize_index(built.index).tobytes() if built else b"",
            )
        )

    def load(self, data: bytes, digest: str) -> None:
        """Put what `dump` gave in place of what is here; the newest, where there is less room.

        Corrupt if the digest is another one: then no byte was read as data, for FAISS trusts what it
        reads.
        """
        if block_digest(data) != digest:
            raise Corrupt("the dense index is damaged: its digest is another one")
        try:
            stored = msgspec.msgpack.decode(data, type=_Dump)
        except msgspec.DecodeError as error:
            raise Corrupt(f"the dense index is damaged: {error}") from error
        if stored.version != DUMP_VERSION:
            raise Corrupt(f"the dense index has version {stored.version}, not {DUMP_VERSION}")
        tokens = np.frombuffer(stored.tokens, "<i4")[-self._capacity :]
        vectors = np.frombuffer(stored.vectors, "<f2").reshape(-1, DIMENSIONS)[-self._capacity :]
        at = np.arange(stored.stop - len(tokens), stored.stop) & (self._capacity - 1)
        self._tokens[at], self._vectors[at] = tokens, vectors
        self._stop, self._open, self._built = stored.stop, None, None
        if stored.index:
            image = np.frombuffer(stored.index, np.uint8)
            index: _Faiss = faiss().deserialize_index(image)
            self._built = _Built(index, stored.built_first, stored.built_stop, len(image))

    def _made(self, module: ModuleType, count: int) -> _Faiss:
        kind = self._kind
        if kind == "auto":
            kind = "flat" if count <= FLAT_MAX else "ivf"
        lists = max(1, min(LISTS_MAX, count // TRAINED_PER_LIST))
        text = {"flat": "Flat", "ivf": f"IVF{lists},PQ32x4fs", "hnsw": "HNSW32,SQ8"}[kind]
        factory: Callable[[int, str, int], _Faiss] = module.index_factory
        index = factory(DIMENSIONS, text, module.METRIC_INNER_PRODUCT)
        if kind == "ivf":
            module.ParameterSpace().set_index_parameter(index, "nprobe", PROBES)
        if kind == "hnsw":
            module.ParameterSpace().set_index_parameter(index, "efSearch", SEARCHED)
        return index

    def _append(self, tokens: Int32Array, vectors: Float32Array) -> None:
        at = np.arange(self._stop, self._stop + len(tokens)) & (self._capacity - 1)
        self._vectors[at] = vectors
        self._tokens[at] = tokens
        self._stop += len(tokens)

    def _windows(self, positions: npt.NDArray[np.int64], stop: int) -> Int32Array:
        at = positions[:, None] + np.arange(1, WINDOW_TOKENS + 1)
        tokens = np.where(at < stop, self._tokens[at & (self._capacity - 1)], np.int32(-1))
        ended = np.logical_or.accumulate(tokens < 0, axis=1)
        return np.where(ended, np.int32(-1), tokens).astype(np.int32)
