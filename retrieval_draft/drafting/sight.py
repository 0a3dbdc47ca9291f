"""What a method sees of one sequence, and within which limits it drafts."""

from collections.abc import Sequence
from functools import cached_property

import msgspec
import numpy as np

from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.near import Near
from retrieval_draft.drafting.places import WINDOW_TOKENS as WINDOW_TOKENS
from retrieval_draft.drafting.places import Places
from retrieval_draft.drafting.root import Root
from retrieval_draft.step import Rows
from retrieval_draft.store.corpus import places
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.segment import Segment
from retrieval_draft.store.stand import Grams, Stand
from retrieval_draft.tree import EMPTY, DraftTree, Float32Array, Int32Array

PLACES_MAX = 32
"""Places looked at per tier: longest agreement first, then newest."""
AGREEMENT_MAX = 32
"""Agreements are measured up to here; all longer ones are equally good evidence."""
CORPUS_AGREEMENT_MIN = 2
NOTHING_OBSERVED = Stand(0)
NO_TOKENS = np.empty(0, np.int32)


class Limits(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Bounds of one tree. A chain is a tree without branches; nothing follows an end token."""

    nodes_max: int
    depth_max: int = WINDOW_TOKENS
    children_max: int = 1 << 16
    chain: bool = False
    end_tokens: Int32Array = NO_TOKENS
    temperature: float = 0.0
    """0 is greedy: nothing is drawn."""
    floor: float = 0.0
    """No node less probable than this could be worth its verification."""
    seed: int = 0
    draws: int = 0
    """Tells what sequences of one seed draw apart; 64 bits."""


class Sight(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One sequence's tiers, read only. Searches run once, when a method first asks."""

    context: TokenRing
    learned: TokenRing
    recycling: Recycling
    segments: Sequence[Segment] = ()
    """Of the corpora that the sequence may draft from."""
    stand: Stand = NOTHING_OBSERVED
    model_tree: DraftTree = EMPTY
    """The worker's own draft for this step, where it sent one."""
    root: Root = msgspec.field(default_factory=Root)
    """What `mix` keeps of the sequence from step to step."""
    near: Near | None = None
    """What followed similar contexts, where dense retrieval is on and has answered."""

    @property
    def expected(self) -> Grams:
        return self.stand.expected

    @cached_property
    def query(self) -> Int32Array:
        """The last tokens of the context, at most AGREEMENT_MAX."""
        ring = self.context
        return ring.read(max(ring.low, ring.stop - AGREEMENT_MAX), ring.stop)

    @cached_property
    def context_places(self) -> Places:
        return self._ring_places(self.context)

    @cached_property
    def learned_places(self) -> Places:
        return self._ring_places(self.learned)

    @cached_property
    def corpus_places(self) -> Places:
        windows, lengths = _empty_places()
        count = self._copy_corpus_places(WINDOW_TOKENS, windows, lengths)
        return Places(windows[:count], lengths[:count])

    def stand_in(self, depth: int) -> None:
        """Give the root its places in the corpora, of which `depth` tokens are seen, and behind them `near`.

        No place is seen further than WINDOW_TOKENS.
        """
        windows, lengths = self.root.windows, self.root.lengths
        count = self._copy_corpus_places(min(depth, WINDOW_TOKENS), windows, lengths)
        self.root.stand_in(count)
        if self.near is not None:
            self.root.stand_near(self.near)

    def _copy_corpus_places(self, depth: int, windows: Int32Array, lengths: Int32Array) -> int:
        return places(
            self.segments,
            self.root.trails,
            self.query,
            self.context.stop,
            CORPUS_AGREEMENT_MIN,
            AGREEMENT_MAX,
            depth,
            windows,
            lengths,
        )

    def _ring_places(self, ring: TokenRing) -> Places:
        windows, lengths = _empty_places()
        count = ring.continuations(self.query, AGREEMENT_MAX, windows, lengths)
        return Places(windows[:count], lengths[:count])


class Fused(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The union of a worker's draft and ours: bins int32[n] say what its nodes are made of, path_bins where
    its paths stand, `kind` in which map.
    """

    tree: DraftTree
    bins: Int32Array
    path_bins: Int32Array
    kind: tuple[int, int]


class Draft(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A tree within the limits, and what it teaches once tokens decide over it.

    `mix` grew it as tree `row` of the forest, perhaps with more nodes than were drafted.
    """

    tree: DraftTree
    forest: Forest | None = None
    row: int = 0
    fused: Fused | None = None


class Verified(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What verification revealed: the context's last `committed` tokens are new.

    `tree` is what was verified, where that is known, and `rows` what the target expected.
    """

    context: TokenRing
    committed: int
    tree: DraftTree | None = None
    rows: Rows | None = None


def _empty_places() -> tuple[Int32Array, Int32Array]:
    return np.empty((PLACES_MAX, WINDOW_TOKENS), np.int32), np.empty(PLACES_MAX, np.int32)


def source_mask(*bits: int) -> int:
    """The mask of DraftTree.source with these bit numbers set."""
    return sum(1 << bit for bit in bits)


def until_end(tokens: Int32Array, end_tokens: Int32Array) -> Int32Array:
    """`tokens` up to and including the first end token."""
    if len(end_tokens) and len(at := np.flatnonzero(np.isin(tokens, end_tokens))):
        return tokens[: at[0] + 1]
    return tokens


def chain_of(tokens: Int32Array, probability: Float32Array, mask: int) -> DraftTree:
    """A chain whose nodes all come from one source."""
    n = len(tokens)
    return DraftTree(
        tokens.astype(np.int32),
        np.arange(-1, n - 1, dtype=np.int32),
        probability.astype(np.float32),
        np.full(n, mask, np.uint32),
    )
