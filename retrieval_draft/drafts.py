"""A batch's drafts: every sequence's tree is grown alone, then all are cut to what is worth verifying."""

import math
import time
from collections.abc import Iterable

import msgspec

from retrieval_draft.drafting.batch import Growing, Learned
from retrieval_draft.drafting.budget import cut, probability_floor
from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.mix import SHADOW_NODES
from retrieval_draft.drafting.names import DEFAULT_METHOD
from retrieval_draft.drafting.near import Near
from retrieval_draft.drafting.sight import WINDOW_TOKENS, Draft, Limits, Sight
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.sequence import Held, Sequence
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.tree import EMPTY, DraftTree

NOTHING = Draft(EMPTY)


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A sequence of the batch is to be given at most so many nodes; 0 grows a shadow to learn from."""

    index: int
    sequence: Sequence
    nodes_max: int


def draft_batch(
    step_id: int, count: int, asked: list[Asked], options: DraftOptions, began: float
) -> tuple[list[DraftTree], float]:
    """The trees of a batch of `count`, EMPTY for who did not ask; also the clock before they were cut.

    `began` is when the step did: growing ends when options.draft_us_max are over, with what there is.
    """
    forests, drafts = _grown_all(asked, options, began)
    grown = time.perf_counter()
    trees = [EMPTY] * count
    is_whole = len(forests) == 1 and not drafts
    if is_whole:
        forest, group = forests[0]
        most = [one.nodes_max for one in group]
        kept = forest.cut(most, options.batch_nodes_max, options.verify_cost)
        for one, tree in zip(group, kept, strict=True):
            trees[one.index] = tree
    else:
        for forest, group in forests:
            for row, one in enumerate(group):
                trees[one.index] = forest.tree(row, one.nodes_max)
        for one, draft in drafts:
            trees[one.index] = draft.tree
        trees = cut(trees, options.batch_nodes_max, options.verify_cost)
    for forest, group in forests:
        for row, one in enumerate(group):
            _hold(step_id, one, options, Draft(trees[one.index], forest, row), trees, is_whole)
    for one, draft in drafts:
        _hold(step_id, one, options, draft, trees, False)
    return trees, grown


def draft_one(sequence: Sequence, nodes_max: int, floor: float, options: DraftOptions) -> Draft:
    """One sequence's draft by any method."""
    depth_max = _depth_max(sequence, options)
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
    tier = state.learned
    return Learned(tier.ring, tier.recycling, tier.stand.expected)


def _grown_all(
    asked: list[Asked], options: DraftOptions, began: float
) -> tuple[list[tuple[Forest, list[Asked]]], list[tuple[Asked, Draft]]]:
    """What `mix` grew together, a forest for each namespace, and what was drafted one by one."""
    floor = probability_floor(options.verify_cost, len(asked))
    deadline = began + options.draft_us_max / 1e6 if options.draft_us_max else math.inf
    forests: list[tuple[Forest, list[Asked]]] = []
    drafts: list[tuple[Asked, Draft]] = []
    for state, group in _by_namespace(asked):
        alone = group
        if options.method == DEFAULT_METHOD:
            # What the worker drafted itself is fused one by one.
            alone = [one for one in group if len(one.sequence.model_tree.token)]
            together = [one for one in group if not len(one.sequence.model_tree.token)]
            if together:
                forests.append((_grown(state, together, floor, options, deadline), together))
        for one in alone:
            if time.perf_counter() > deadline:
                break
            drafts.append((one, draft_one(one.sequence, one.nodes_max, floor, options)))
    return forests, drafts


def _by_namespace(asked: list[Asked]) -> Iterable[tuple[NamespaceState, list[Asked]]]:
    """Adapters and cache salts have namespaces of their own; mostly there is one."""
    groups: dict[int, tuple[NamespaceState, list[Asked]]] = {}
    for one in asked:
        state = one.sequence.state
        group = groups.get(id(state))
        if group is None:
            groups[id(state)] = group = state, []
        group[1].append(one)
    return groups.values()


def _grown(
    state: NamespaceState,
    group: list[Asked],
    floor: float,
    options: DraftOptions,
    deadline: float,
) -> Forest:
    batch: list[Growing] = []
    for one in group:
        sequence, neighbours = one.sequence, False
        if sequence.similar is not None or state.segments(sequence.corpora):
            neighbours = _stand(sequence, max(one.nodes_max, SHADOW_NODES) + 1)
        batch.append(
            Growing(
                sequence.ring,
                sequence.root,
                sequence.kind,
                one.nodes_max,
                max(0, _depth_max(sequence, options)),
                sequence.end_tokens,
                neighbours,
            )
        )
    return state.methods.mix.grow_all(
        learned_of(state),
        batch,
        chain=options.shape == TreeShape.CHAIN,
        children_max=options.children_max,
        floor=floor,
        deadline=deadline,
    )


def _stand(sequence: Sequence, depth: int) -> bool:
    """Let the root stand in the sequence's corpora, or among its neighbours; whether those are neighbours."""
    similar = sequence.similar
    sight = sight_of(sequence, None if similar is None else similar.near(sequence.ring))
    sight.stand_in(depth)
    return not sight.segments


def _depth_max(sequence: Sequence, options: DraftOptions) -> int:
    depth_max = min(options.depth_max, WINDOW_TOKENS)
    if not sequence.ring.stop:
        return 0
    if sequence.length_max:
        # Verification adds a token of its own to what it keeps.
        depth_max = min(depth_max, sequence.length_max - sequence.stop - 1)
    return depth_max


def _hold(
    step_id: int,
    one: Asked,
    options: DraftOptions,
    draft: Draft,
    trees: list[DraftTree],
    in_forest: bool,
) -> None:
    sequence = one.sequence
    sequence.held = Held(step_id, sequence.stop, options.method, draft, trees[one.index], in_forest)
