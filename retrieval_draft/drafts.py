"""A batch's drafts: every sequence's tree is grown alone, then all are cut to what is worth verifying."""

import math
import time
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from retrieval_draft.drafting.batch import NO_TOKENS, Growing, Learned, Row, row_of
from retrieval_draft.drafting.budget import cut, probability_floor
from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.kernels.growth import SHADOW_NODES
from retrieval_draft.drafting.kernels.stepping import CUT, GROW
from retrieval_draft.drafting.mix import NO_COUNTS, name_neighbours
from retrieval_draft.drafting.names import DEFAULT_METHOD
from retrieval_draft.drafting.near import Near
from retrieval_draft.drafting.sight import WINDOW_TOKENS, Draft, Limits, Sight
from retrieval_draft.feedback import Taken
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.sequence import Held, Sequence
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.tree import EMPTY, DraftTree

NOTHING = Draft(EMPTY)


class Terms:
    """On what a step's trees are grown: options without blanks, and what they come to."""

    def __init__(self, options: DraftOptions) -> None:
        self.options = options
        self._floor = probability_floor(options.verify_cost, 1)
        self._seconds_max = options.draft_us_max / 1e6 if options.draft_us_max else math.inf

    def growing(self, sequences: int, began: float) -> Growing:
        """For so many sequences, in a step that began at this time of time.perf_counter."""
        options = self.options
        return Growing(
            options.shape == TreeShape.CHAIN,
            options.children_max,
            self._floor * sequences,
            began + self._seconds_max,
            sequences,
            options.batch_nodes_max,
            options.verify_cost,
        )


class Asked(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A sequence of the batch is to be given at most so many nodes; 0 grows a shadow to learn from."""

    index: int
    sequence: Sequence
    nodes_max: int
    row: int
    """Where it stands among those whose tokens were taken."""

    def grown_row(self, options: DraftOptions, stop: int) -> Row:
        """Columns NODES_MAX to ENDS_COUNT of its row; `stop` is the position of what comes next."""
        depth_max = _depth_max(self.sequence, options, stop)
        return (self.nodes_max, max(0, depth_max), *self.sequence.ends)


One = TypeVar("One", Taken, Asked)


def asked_of(batch: Iterable[Taken], request: DraftOptions, options: DraftOptions) -> list[Asked]:
    """Who goes on is drafted for: up to its own cap, within what the request asks for, or else to the
    server's default in `options`.
    """
    asked: list[Asked] = []
    for row, one in enumerate(batch):
        if not one.part.finished:
            nodes_max = one.part.nodes_max
            if nodes_max is None:
                nodes_max = options.nodes_max
            elif request.nodes_max:
                nodes_max = min(nodes_max, request.nodes_max)
            asked.append(Asked(one.index, one.sequence, nodes_max, row))
    return asked


def grows_at_once(batch: list[Taken], options: DraftOptions) -> bool:
    """Whether nothing has to happen between what came and what may come: all are of one namespace, no
    corpus is searched, no neighbour found, and no draft of the worker's fused.
    """
    if not batch or options.method != DEFAULT_METHOD:
        return False
    state = batch[0].sequence.state
    if state.dense is not None or state.has_corpora:
        return False
    return all(one.sequence.state is state and not one.part.model_tree for one in batch)


def by_namespace(batch: Iterable[One]) -> list[list[One]]:
    """Mostly all are the request's own; adapters and cache salts have others."""
    groups: dict[int, list[One]] = {}
    for one in batch:
        groups.setdefault(id(one.sequence.state), []).append(one)
    return list(groups.values())


def draft_batch(
    step_id: int,
    count: int,
    asked: list[Asked],
    options: DraftOptions,
    growing: Growing,
    grown_before: Forest | None = None,
) -> tuple[list[DraftTree], float]:
    """The trees of a batch of `count`, EMPTY for who did not ask; also the clock before they were cut.

    `grown_before` has them all already. Growing ends at the deadline with what there is.
    """
    drafts: list[tuple[Asked, Draft]] = []
    if grown_before is not None:
        forests = [(grown_before, [(one.row, one) for one in asked])]
    else:
        forests, drafts = _grown_all(asked, options, growing)
    grown = time.perf_counter()
    trees = [EMPTY] * count
    is_whole = len(forests) == 1 and len(forests[0][1]) == len(asked)
    for forest, group in forests:
        for row, one in group:
            trees[one.index] = forest.left(row) if is_whole else forest.tree(row, one.nodes_max)
    if not is_whole:
        for one, draft in drafts:
            trees[one.index] = draft.tree
        trees = cut(trees, options.batch_nodes_max, options.verify_cost)
    for forest, group in forests:
        for row, one in group:
            tree = trees[one.index]
            _hold(step_id, one, options, Draft(tree, forest, row), tree, is_whole)
    for one, draft in drafts:
        _hold(step_id, one, options, draft, trees[one.index], False)
    return trees, grown


def draft_one(sequence: Sequence, nodes_max: int, floor: float, options: DraftOptions) -> Draft:
    """One sequence's draft by any method."""
    depth_max = _depth_max(sequence, options, sequence.stop)
    if depth_max <= 0:
        return NOTHING
    limits = Limits(
        nodes_max=nodes_max,
        depth_max=depth_max,
        children_max=options.children_max,
        chain=options.shape == TreeShape.CHAIN,
        end_tokens=sequence.end_tokens,
        floor=floor,
        temperature=sequence.temperature or 0.0,
        seed=options.seed,
        draws=sequence.draws,
    )
    similar = sequence.similar
    near = None if similar is None else similar.near(sequence.ring)
    return sequence.state.methods.draft(options.method, sight_of(sequence, near), limits)


def sight_of(sequence: Sequence, near: Near | None = None) -> Sight:
    """The sequence as its methods see it."""
    learned = sequence.state.learned
    return Sight(
        context=sequence.ring,
        learned=learned.ring,
        recycling=learned.recycling,
        segments=sequence.state.segments(sequence.corpora),
        stand=learned.stand,
        model_tree=sequence.model_tree,
        root=sequence.root,
        near=near,
    )


def learned_of(state: NamespaceState) -> Learned:
    """What its models have produced, for one batch: a snapshot that is loaded brings another."""
    return state.methods.mix.learned_of(*state.learned.parts)


_Forests = list[tuple[Forest, list[tuple[int, Asked]]]]


def _grown_all(
    asked: list[Asked], options: DraftOptions, growing: Growing
) -> tuple[_Forests, list[tuple[Asked, Draft]]]:
    """What `mix` grew together, a forest for each namespace, and what was drafted one by one."""
    forests: _Forests = []
    drafts: list[tuple[Asked, Draft]] = []
    for group in by_namespace(asked):
        alone = group
        if options.method == DEFAULT_METHOD:
            # What the worker drafted itself is fused one by one.
            alone = [one for one in group if len(one.sequence.model_tree.token)]
            together = [one for one in group if not len(one.sequence.model_tree.token)]
            if together:
                is_whole = len(together) == len(asked)
                parts = GROW | CUT if is_whole else GROW
                forest = _grown(parts, together, options, growing)
                forests.append((forest, list(enumerate(together))))
        for one in alone:
            if time.perf_counter() > growing.deadline:
                break
            drafts.append((one, draft_one(one.sequence, one.nodes_max, growing.floor, options)))
    return forests, drafts


def _grown(
    parts: int,
    group: list[Asked],
    options: DraftOptions,
    growing: Growing,
) -> Forest:
    state = group[0].sequence.state
    rows: list[Row] = []
    neighbours: list[int] = []
    for row, one in enumerate(group):
        sequence = one.sequence
        searches = sequence.similar is not None or state.segments(sequence.corpora)
        if searches and _stand(sequence, max(one.nodes_max, SHADOW_NODES) + 1):
            neighbours.append(row)
        grown = one.grown_row(options, sequence.stop)
        rows.append(row_of(sequence.ring, sequence.root, sequence.kind, grown=grown))
    mix, learned = state.methods.mix, learned_of(state)
    forest = mix.step(parts, learned, rows, NO_TOKENS, NO_COUNTS, growing)
    for row in neighbours:
        name_neighbours(forest.source(row))
    return forest


def _stand(sequence: Sequence, depth: int) -> bool:
    """Let the root stand in the sequence's corpora, or among its neighbours; whether those are neighbours."""
    similar = sequence.similar
    sight = sight_of(sequence, None if similar is None else similar.near(sequence.ring))
    sight.stand_in(depth)
    return not sight.segments


def _depth_max(sequence: Sequence, options: DraftOptions, stop: int) -> int:
    if stop == sequence.first:
        return 0
    if sequence.length_max:
        # Verification adds a token of its own to what it keeps.
        return min(options.depth_max, WINDOW_TOKENS, sequence.length_max - stop - 1)
    return min(options.depth_max, WINDOW_TOKENS)


def _hold(
    step_id: int,
    one: Asked,
    options: DraftOptions,
    draft: Draft,
    tree: DraftTree,
    in_forest: bool,
) -> None:
    sequence = one.sequence
    sequence.held = Held(step_id, sequence.stop, options.method, draft, tree, in_forest)
