"""`mix`: every source in one tree, each candidate at the probability that its evidence has been worth.

Best-first growth by path probability keeps the most accepted tokens a budget can buy, if the
probabilities are right. So they are learned: inputs from every source are mixed logistically (kernels:
evidence, mixing), growth takes the most probable path next (growth), and the path map says what whole
paths have been worth (paths). All of it is taught by the tokens that were committed (following), whatever
was drafted or verified; so it learns as well while nothing is drafted. The worker's own drafts join what
has grown (fusing).
"""

import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import resources
from typing import IO

import numpy as np

from retrieval_draft.drafting.batch import (
    NO_TOKENS,
    Growing,
    Learned,
    Row,
    addressed,
    judged_row,
    row_of,
)
from retrieval_draft.drafting.forest import INT64, Forest
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
from retrieval_draft.drafting.kernels.contexts import END, FIRST, NODES_MAX, PLANE, VERIFIED
from retrieval_draft.drafting.kernels.growth import SHADOW_NODES
from retrieval_draft.drafting.kernels.judging import judge
from retrieval_draft.drafting.kernels.mixing import SETS, SETS_USED, WEIGHTS, stretch_of
from retrieval_draft.drafting.kernels.stepping import CUT, FOLLOW, GROW, step
from retrieval_draft.drafting.names import DEFAULT_METHOD, METHODS
from retrieval_draft.drafting.near import DISAGREED, SHARE_CLASSES
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.stand import Grams
from retrieval_draft.tree import SOURCES, TIERS, Float32Array, Int32Array, Int64Array, UInt32Array

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
GROWN_AT_ONCE = 16
"""Trees, before the clock is looked at."""
FOLLOWED_AT_ONCE = 128
"""Tokens: after more the clock is looked at before anything grows."""

METHOD_INDEX = METHODS.index(DEFAULT_METHOD)
NOT_GROWING = Growing(chain=True)
NO_COUNTS: Int64Array = np.zeros((0, 0), np.int64)
NO_NODES: Int32Array = np.empty(0, np.int32)
NO_PRICE: Float32Array = np.empty(0, np.float32)

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


def name_neighbours(source: UInt32Array) -> None:
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

    name = DEFAULT_METHOD

    def __init__(self, prior: State | None = None, *, is_dense: bool = False) -> None:
        """With `is_dense` sights may have neighbours (`Sight.near`)."""
        state = {k: v.copy() for k, v in (shipped_prior() if prior is None else prior).items()}
        self._is_dense = is_dense
        if is_dense:
            _expect_dense(state)
        self._state = state
        # By temperature class; the last two by shape as well.
        self._common = np.zeros((CLASSES, 2, COMMON_KEPT + 1), np.int32)
        self._common[:, 0] = -1
        self._skill = state["worth"], stretch_of(state["worth"][..., 0]), state["weights"]
        self._paths = state["path_worth"], state["path_scale"]
        self._learned: Learned | None = None
        empty = fresh()
        self._fusing = Fusing(empty["path_worth"], empty["path_scale"])

    def state(self) -> dict[str, Float32Array]:
        """Copies of what was learned of the sources, by name: a prior for others. No token is in it."""
        return {name: array.copy() for name, array in self._state.items()}

    # A batch at once.

    def learned_of(self, ring: TokenRing, recycling: Recycling, expected: Grams) -> Learned:
        """The learned tier's parts as a step takes them: the same object as long as they are the same."""
        known = self._learned
        if known is None or not known.is_of(ring, recycling, expected):
            self._learned = known = Learned(ring, recycling, expected)
        return known

    def let_go(self, ring: TokenRing, recycling: Recycling, expected: Grams) -> None:
        """The learned tier has these parts now: others are not kept for the next step."""
        if self._learned is not None and not self._learned.is_of(ring, recycling, expected):
            self._learned = None

    def step(
        self,
        parts: int,
        learned: Learned,
        batch: Sequence[Row],
        tokens: Int32Array,
        counts: Int64Array,
        growing: Growing = NOT_GROWING,
    ) -> Forest:
        """These `parts` of a step of all sequences (kernels/stepping), and the trees that were grown.

        FOLLOW: the path map sees what came, of `tokens`, where it stood; what was verified is counted in
        `counts` (kernels/tally); and `tokens` teach and are appended to the contexts, which the caller
        advances. The roots become those of what comes next.

        GROW: a tree for each that asks; a shadow to learn from, of SHADOW_NODES, where fewer are asked
        for. Costs O(nodes), whatever has been learned. Roots must stand in their corpora already
        (`Sight.stand_in`).

        CUT: what of them is worth verifying.
        """
        rows, count = np.array(batch, INT64), len(batch)
        most = SHADOW_NODES
        for row in batch:
            if row[NODES_MAX] > most:
                most = row[NODES_MAX]
        forest = Forest(rows, int(growing.chain), most if parts & GROW else 0)
        call = partial(self._call, forest, learned.row(), tokens, counts, growing)
        if count <= GROWN_AT_ONCE and len(tokens) <= FOLLOWED_AT_ONCE:
            if parts & GROW and time.perf_counter() > growing.deadline:
                parts &= ~GROW
            call(parts, 0, count)
            return forest
        if parts & FOLLOW:
            call(FOLLOW, 0, 0)
        if parts & GROW:
            for first in range(0, count, GROWN_AT_ONCE):
                if time.perf_counter() > growing.deadline:
                    break
                call(GROW, first, min(first + GROWN_AT_ONCE, count))
        if parts & CUT:
            call(CUT, 0, 0)
        return forest

    def _call(
        self,
        forest: Forest,
        learned: Int64Array,
        tokens: Int32Array,
        counts: Int64Array,
        growing: Growing,
        parts: int,
        first: int,
        end: int,
    ) -> None:
        cost = growing.cost
        step(
            parts,
            forest.rows,
            first,
            end,
            learned,
            self._common,
            *self._skill,
            *self._paths,
            tokens,
            METHOD_INDEX,
            counts,
            growing.children_max,
            int(growing.chain),
            growing.floor,
            forest.block,
            forest.numbers,
            growing.sequences,
            growing.nodes_max,
            NO_NODES if cost is None else cost.nodes,
            NO_PRICE if cost is None else cost.milliseconds,
        )

    # One sequence as its methods see it.

    def follow(
        self, sight: Sight, tokens: Int32Array, teaching_from: int, temperature: float
    ) -> None:
        """Append `tokens` to the context; from index `teaching_from` on they teach. O(tokens)."""
        kind = temperature_class(temperature)
        row = row_of(sight.context, sight.root, kind, came=(0, len(tokens), teaching_from))
        self.step(FOLLOW, self._seen(sight), (row,), tokens, NO_COUNTS)
        sight.context.advance(len(tokens))

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """A tree, fused with the worker's own draft if there is one. O(nodes)."""
        if sight.segments or sight.near is not None:
            sight.stand_in(max(limits.nodes_max, SHADOW_NODES) + 1)
        kind = temperature_class(limits.temperature)
        asked = limits.nodes_max, limits.depth_max, *addressed(limits.end_tokens)
        row = row_of(sight.context, sight.root, kind, grown=asked)
        growing = Growing(limits.chain, limits.children_max, limits.floor)
        forest = self.step(GROW, self._seen(sight), (row,), NO_TOKENS, NO_COUNTS, growing)
        if self._is_dense and not sight.segments:
            name_neighbours(forest.source(0))
        if len(sight.model_tree) and limits.nodes_max > 0:
            tree, fused = self._fusing.fuse(sight.model_tree, forest.tree(0), limits, kind)
            return Draft(tree, forest, 0, fused)
        return Draft(forest.tree(0, limits.nodes_max), forest)

    def teach(self, draft: Draft, committed: Int32Array) -> None:
        """`committed` followed where the draft was made, whatever was verified: the path map learns."""
        self.teach_fused(draft, committed)
        if draft.forest is not None:
            rows = draft.forest.rows[draft.row : draft.row + 1].copy()
            rows[0, PLANE : VERIFIED + 1] = judged_row(draft.forest, draft.row, False, -1)
            rows[0, FIRST : END + 1] = 0, len(committed)
            judge(rows, committed, *self._paths, METHOD_INDEX, NO_COUNTS, np.empty(1, INT64))

    def teach_fused(self, draft: Draft, committed: Int32Array) -> None:
        """The same of what was fused with the worker's own draft, if anything was."""
        if draft.fused is not None:
            self._fusing.teach(draft.fused, committed)

    def _seen(self, sight: Sight) -> Learned:
        return self.learned_of(sight.learned, sight.recycling, sight.expected)
