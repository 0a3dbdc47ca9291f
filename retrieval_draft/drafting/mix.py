"""`mix`: every source in one tree, each candidate at the probability that its evidence has been worth.

Best-first growth by path probability keeps the most accepted tokens a budget can buy, if the
probabilities are right. So they are learned: inputs from every source are mixed logistically (kernels:
evidence, mixing), growth takes the most probable path next (growth), and the path map says what whole
paths have been worth (paths). All of it is taught by the tokens that were committed (following), whatever
was drafted or verified; so it learns as well while nothing is drafted. The worker's own drafts join what
has grown (fusing).
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import IO

import numpy as np

from retrieval_draft.drafting.fusing import Fusing
from retrieval_draft.drafting.kernels import paths
from retrieval_draft.drafting.kernels.bins import (
    BINS,
    COMMON_KEPT,
    CORPUS,
    GAP_LENGTHS,
    GAPPED,
    LEARNED,
    MATCH,
    OFFSETS,
)
from retrieval_draft.drafting.kernels.following import follow
from retrieval_draft.drafting.kernels.growth import grow
from retrieval_draft.drafting.kernels.mixing import SETS, SETS_USED, WEIGHTS, stretch_of
from retrieval_draft.drafting.near import DISAGREED, SHARE_CLASSES
from retrieval_draft.drafting.sight import Draft, Grown, Limits, Sight, source_mask
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, Float32Array, Int32Array, UInt32Array

CLASSES = 3
"""Temperature 0 or unknown, up to WARM_MAX, above: each learns for itself."""
WARM_MAX = 0.5
FIRST_DENSE_WORTH, FIRST_DENSE_WEIGHT = 0.8, 0.02
CORPUS_MASK = source_mask(TIERS["corpus"], SOURCES["corpus"])
DENSE_MASK = source_mask(TIERS["learned"], SOURCES["dense"])
SHAPES = 2
FIRST_WORTH = 0.3
FIRST_WEIGHT = 0.3
PATH_PRIOR_TRIALS = 20.0
PATH_PRIOR_WORTH = 0.8
PRIOR_SIGHTINGS_MAX = 30.0
PRIOR_TRIALS_MAX = 60.0
"""How much of what a prior has seen counts: little, so that it gives way to what comes."""
SHADOW_NODES = 4
"""Grown when nothing may be drafted, so that the path map goes on learning."""

INT32, UINT32, FLOAT32 = np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.float32)
"""Made once: an array of a dtype is allocated in half the time of one of a class."""

State = Mapping[str, Float32Array]


def fresh() -> dict[str, Float32Array]:
    """What a mixer knows of its sources before it has seen anything, one row a temperature class."""
    levels = np.arange(paths.LEVELS, dtype=np.float32) + 0.5
    seems = np.tile(2.0 ** (-levels / paths.LEVELS_PER_HALVING), paths.DEPTHS)
    trials = np.full(seems.shape, PATH_PRIOR_TRIALS)
    path_worth = np.stack([PATH_PRIOR_WORTH * seems * trials, trials]).astype(np.float32)
    worth = np.empty((CLASSES, BINS, 2), np.float32)
    worth[..., 0], worth[..., 1] = FIRST_WORTH, 1.0
    return {
        "worth": worth,
        "weights": np.full((CLASSES, SETS, WEIGHTS), FIRST_WEIGHT / SETS_USED, np.float32),
        "path_worth": np.tile(path_worth, (CLASSES, SHAPES, 1, 1)),
        "path_scale": np.ones((CLASSES, SHAPES, paths.DEPTHS), np.float32),
    }


def as_prior(state: State) -> dict[str, Float32Array]:
    """What a new mixer may take from one that has learned: no more trust than is due.

    Raises ValueError if the arrays are not those of this version.
    """
    prior = fresh()
    for name, array in prior.items():
        if name not in state or state[name].shape != array.shape:
            raise ValueError(f"prior: {name} is not of shape {array.shape}")
    worth = np.array(state["worth"], np.float32)
    worth[..., 1] = np.minimum(worth[..., 1], PRIOR_SIGHTINGS_MAX)
    trials = np.array(state["path_worth"], np.float32)
    trials *= np.minimum(1.0, PRIOR_TRIALS_MAX / np.maximum(trials[..., 1:, :], 1e-6))
    weights = np.array(state["weights"], np.float32)
    for kind in (MATCH, GAPPED):
        learned, corpus = kind + LEARNED, kind + CORPUS
        taken = worth[:, OFFSETS[learned] : OFFSETS[learned + 1]]
        unseen = worth[:, OFFSETS[corpus] : OFFSETS[corpus + 1]]
        if (unseen[..., 1] <= 1).all():
            # The recordings had no corpus: its places are believed as those in other outputs are.
            unseen[:] = taken
            weights[..., corpus] = weights[..., learned]
    prior["worth"], prior["path_worth"], prior["weights"] = worth, trials, weights
    return prior


def read_prior(file: str | IO[bytes]) -> dict[str, Float32Array]:
    """The prior in an .npz file. Raises ValueError for one of another version, OSError."""
    with np.load(file, allow_pickle=False) as stored:
        return as_prior(dict(stored))


@cache
def shipped_prior() -> dict[str, Float32Array]:
    """The prior that the package carries (`retrieval-draft calibrate` made it)."""
    with resources.files("retrieval_draft.drafting").joinpath("prior.npz").open("rb") as file:
        return read_prior(file)


def _expect_dense(state: Mapping[str, Float32Array]) -> None:
    """Begin with a share being worth less than it says, and with little weight: mostly it is known."""
    kind = GAPPED + CORPUS
    worth = state["worth"][:, OFFSETS[kind] : OFFSETS[kind] + DISAGREED * GAP_LENGTHS]
    share = 2.0 ** (-(SHARE_CLASSES - 1 - np.arange(SHARE_CLASSES)) / 2)
    worth[:, :GAP_LENGTHS, 0] = FIRST_DENSE_WORTH * share
    worth[:, GAP_LENGTHS:, 0] = FIRST_DENSE_WORTH * share / 2
    worth[..., 1] = PRIOR_SIGHTINGS_MAX
    state["weights"][..., kind] = FIRST_DENSE_WEIGHT


def _name_dense(source: UInt32Array) -> None:
    """Where there are no corpora, what the kernels call a corpus's place is a neighbour."""
    named = (source & CORPUS_MASK) == CORPUS_MASK
    source[named] = source[named] & ~np.uint32(CORPUS_MASK) | np.uint32(DENSE_MASK)


def temperature_class(temperature: float) -> int:
    """0 to 2; see CLASSES."""
    if temperature <= 0:
        return 0
    return 1 if temperature <= WARM_MAX else 2


class Mix:
    """One namespace's mixer. Several threads may draft and teach: a torn update costs a bad draft."""

    name = "mix"

    def __init__(self, prior: State | None = None, *, is_dense: bool = False) -> None:
        """With `is_dense` sights may have neighbours (`Sight.near`)."""
        state = {k: v.copy() for k, v in (shipped_prior() if prior is None else prior).items()}
        self._is_dense = is_dense
        if is_dense:
            _expect_dense(state)
        self._state = state
        stretch = stretch_of(state["worth"][..., 0])
        common = np.zeros((CLASSES, 2, COMMON_KEPT + 1), np.int32)
        common[:, 0] = -1
        empty = fresh()
        self._fusing = Fusing(empty["path_worth"], empty["path_scale"])
        # Views by temperature class and shape, made once: a step takes them hundreds of times a second.
        self._common = list(common)
        self._skill = list(zip(state["worth"], stretch, state["weights"], strict=True))
        self._paths = [
            list(zip(worth, scale, strict=True))
            for worth, scale in zip(state["path_worth"], state["path_scale"], strict=True)
        ]

    def state(self) -> dict[str, Float32Array]:
        """Copies of what was learned of the sources, by name: a prior for others. No token is in it."""
        return {name: array.copy() for name, array in self._state.items()}

    def follow(
        self, sight: Sight, tokens: Int32Array, teaching_from: int, temperature: float
    ) -> None:
        """Append `tokens` to the context, whose ring has room; from index `teaching_from` on they teach.

        `sight.root` becomes the root of what comes next. O(tokens).
        """
        kind, root = temperature_class(temperature), sight.root
        context, learned, stand = sight.context, sight.learned, sight.expected
        follow(
            context.tokens,
            context.table,
            context.head,
            context.prev,
            context.low,
            context.stop,
            learned.tokens,
            learned.table,
            learned.head,
            learned.prev,
            learned.low,
            learned.stop,
            root.corpus,
            sight.recycling.successors,
            sight.recycling.logprobs,
            stand.keys,
            stand.visits,
            stand.tokens,
            stand.shares,
            self._common[kind],
            root.tails,
            root.places,
            root.segments,
            *self._skill[kind],
            tokens,
            teaching_from,
        )
        context.advance(len(tokens))

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(nodes), whatever has been learned."""
        kind, shape = temperature_class(limits.temperature), int(limits.chain)
        root, n = sight.root, max(limits.nodes_max, SHADOW_NODES)
        if sight.segments or sight.near is not None:
            sight.stand_in(n + 1)
        token, parent, bins = np.empty(n, INT32), np.empty(n, INT32), np.empty(n, INT32)
        probability, source = np.empty(n, FLOAT32), np.empty(n, UINT32)
        context, learned, stand = sight.context, sight.learned, sight.expected
        size = grow(
            context.tokens,
            context.table,
            context.stop,
            learned.tokens,
            learned.table,
            learned.stop,
            root.corpus,
            sight.recycling.successors,
            sight.recycling.logprobs,
            stand.keys,
            stand.visits,
            stand.tokens,
            stand.shares,
            self._common[kind],
            root.tails,
            root.places,
            root.segments,
            *self._skill[kind],
            *self._paths[kind][shape],
            n,
            limits.depth_max,
            limits.children_max,
            shape,
            limits.floor,
            limits.end_tokens,
            token,
            parent,
            probability,
            source,
            bins,
        )
        if size < n:
            token, parent, bins = token[:size], parent[:size], bins[:size]
            probability, source = probability[:size], source[:size]
        if self._is_dense and not sight.segments:
            _name_dense(source)
        tree = grown = DraftTree(token, parent, probability, source)
        if len(sight.model_tree) and limits.nodes_max > 0:
            tree, fused = self._fusing.fuse(sight.model_tree, grown, limits, kind)
            return Draft(tree, Grown(grown, bins, (kind, shape)), fused)
        if size > limits.nodes_max:
            # In the order of growth every prefix is a tree.
            most = limits.nodes_max
            tree = DraftTree(token[:most], parent[:most], probability[:most], source[:most])
        return Draft(tree, Grown(grown, bins, (kind, shape)))

    def teach(self, draft: Draft, committed: Int32Array) -> None:
        """`committed` followed where the draft was made, whatever was verified: the path map learns."""
        if draft.fused is not None:
            self._fusing.teach(draft.fused, committed)
        grown = draft.grown
        if grown is None or not len(grown.tree):
            return
        paths.teach_paths(
            grown.tree.token,
            grown.tree.parent,
            grown.tree.probability,
            grown.bins,
            committed,
            *self._paths[grown.kind[0]][grown.kind[1]],
        )
