"""`mix`: every source in one tree, each candidate at the probability that its evidence has been worth.

Best-first growth by path probability keeps the most accepted tokens a budget can buy, if the
probabilities are right. So they are learned: inputs from every source are mixed logistically (kernels:
evidence, mixing), growth takes the most probable path next (growth), and the path map says what whole
paths have been worth (paths). All of it is taught by the tokens that were committed (following), whatever
was drafted or verified; so it learns as well while nothing is drafted. The worker's own drafts join what
has grown (fusing).
"""

import math
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import IO

import numpy as np

from retrieval_draft.drafting.batch import (
    Following,
    Growing,
    Judging,
    Learned,
    following_rows,
    growing_rows,
    judging_rows,
)
from retrieval_draft.drafting.forest import Forest
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
from retrieval_draft.drafting.kernels.judging import judge
from retrieval_draft.drafting.kernels.mixing import SETS, SETS_USED, WEIGHTS, stretch_of
from retrieval_draft.drafting.names import DEFAULT_METHOD, METHODS
from retrieval_draft.drafting.near import DISAGREED, SHARE_CLASSES
from retrieval_draft.drafting.root import Root
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
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
SHADOW_NODES = 4
"""Grown when nothing may be drafted, so that the path map goes on learning."""

METHOD_INDEX = METHODS.index(DEFAULT_METHOD)
NO_ROOT = Root()

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
        empty = fresh()
        self._fusing = Fusing(empty["path_worth"], empty["path_scale"])

    def state(self) -> dict[str, Float32Array]:
        """Copies of what was learned of the sources, by name: a prior for others. No token is in it."""
        return {name: array.copy() for name, array in self._state.items()}

    # A batch at once.

    def judge(self, batch: Sequence[Judging], counts: Int64Array) -> list[int]:
        """Let the path map see what followed, and count what was verified in `counts` (kernels/tally).

        Returns how many nodes of each tree were kept; -1 if fewer agree than were accepted, or if it was
        not verified. O(nodes + tokens).
        """
        rows, tokens = judging_rows(batch)
        kept = np.empty(len(batch), np.int64)
        judge(rows, tokens, *self._paths, METHOD_INDEX, counts, kept)
        found: list[int] = kept.tolist()
        return found

    def follow_all(self, learned: Learned, batch: Sequence[Following]) -> None:
        """Append what was committed to every context. O(tokens).

        The roots become those of what comes next.
        """
        rows, tokens = following_rows(batch)
        ring, grams = learned.ring, learned.expected
        follow(
            rows,
            ring.tokens,
            ring.table,
            ring.head,
            ring.prev,
            ring.low,
            ring.stop,
            learned.recycling.successors,
            learned.recycling.logprobs,
            grams.keys,
            grams.visits,
            grams.tokens,
            grams.shares,
            self._common,
            *self._skill,
            tokens,
            0,
            len(rows),
        )
        for one in batch:
            one.context.advance(len(one.tokens))

    def grow_all(
        self,
        learned: Learned,
        batch: Sequence[Growing],
        *,
        chain: bool,
        children_max: int = 1 << 16,
        floor: float = 0.0,
        deadline: float = math.inf,
    ) -> Forest:
        """A tree for each, SHADOW_NODES or more of it: a shadow, where less may be drafted, to learn from.

        O(nodes), whatever has been learned. Roots must stand in their corpora already (`Sight.stand_in`).
        Who was not come to by the `deadline` of time.perf_counter has an empty tree.
        """
        rows, end_tokens = growing_rows(batch, SHADOW_NODES)
        room = max(SHADOW_NODES, max(one.nodes_max for one in batch))
        forest = Forest([one.kind for one in batch], int(chain), room)
        ring, grams = learned.ring, learned.expected
        for first in range(0, len(rows), GROWN_AT_ONCE):
            if time.perf_counter() > deadline:
                break
            grow(
                rows,
                ring.tokens,
                ring.table,
                ring.stop,
                learned.recycling.successors,
                learned.recycling.logprobs,
                grams.keys,
                grams.visits,
                grams.tokens,
                grams.shares,
                self._common,
                *self._skill,
                *self._paths,
                children_max,
                int(chain),
                floor,
                end_tokens,
                forest.block,
                forest.sizes,
                first,
                min(first + GROWN_AT_ONCE, len(rows)),
            )
        if self._is_dense:
            for i, one in enumerate(batch):
                if one.neighbours:
                    _name_dense(forest.source(i))
        return forest

    # One sequence as its methods see it.

    def follow(
        self, sight: Sight, tokens: Int32Array, teaching_from: int, temperature: float
    ) -> None:
        """`follow_all` of one: append `tokens` to the context; from index `teaching_from` on they teach."""
        kind = temperature_class(temperature)
        one = Following(sight.context, sight.root, kind, tokens, teaching_from)
        self.follow_all(_learned(sight), (one,))

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """`grow_all` of one, fused with the worker's own draft if there is one. O(nodes)."""
        if sight.segments or sight.near is not None:
            sight.stand_in(max(limits.nodes_max, SHADOW_NODES) + 1)
        kind = temperature_class(limits.temperature)
        one = Growing(
            sight.context,
            sight.root,
            kind,
            limits.nodes_max,
            limits.depth_max,
            limits.end_tokens,
            not sight.segments,
        )
        forest = self.grow_all(
            _learned(sight),
            (one,),
            chain=limits.chain,
            children_max=limits.children_max,
            floor=limits.floor,
        )
        if len(sight.model_tree) and limits.nodes_max > 0:
            tree, fused = self._fusing.fuse(sight.model_tree, forest.tree(0), limits, kind)
            return Draft(tree, forest, 0, fused)
        return Draft(forest.tree(0, limits.nodes_max), forest)

    def teach(self, draft: Draft, committed: Int32Array) -> None:
        """`committed` followed where the draft was made, whatever was verified: the path map learns."""
        self.teach_fused(draft, committed)
        if draft.forest is not None:
            rows, _ = judging_rows((Judging(draft.forest, draft.row, NO_ROOT, committed),))
            judge(rows, committed, *self._paths, METHOD_INDEX, NO_COUNTS, np.empty(1, np.int64))

    def teach_fused(self, draft: Draft, committed: Int32Array) -> None:
        """The same of what was fused with the worker's own draft, if anything was."""
        if draft.fused is not None:
            self._fusing.teach(draft.fused, committed)


NO_COUNTS: Int64Array = np.zeros((0, 0), np.int64)


def _learned(sight: Sight) -> Learned:
    return Learned(sight.learned, sight.recycling, sight.expected)
