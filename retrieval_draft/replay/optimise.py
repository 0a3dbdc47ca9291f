"""STAND's data-driven static tree (arXiv 2506.04708, its tree optimisation).

A wide tree drafts over recorded outputs; how often each of its nodes is accepted decides which stay. A
node is accepted only with its parent, so that the most accepted nodes, earlier ones first among equals,
are a tree, and so is every prefix of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_draft.drafting.sight import Draft, Limits, Sight
from retrieval_draft.drafting.stand import StandMethod
from retrieval_draft.drafting.templates import WIDE_ACCEPTANCE, Template
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.play import play
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.step import DraftOptions, Rows
from retrieval_draft.tree import DraftTree, Int32Array, Int64Array, int32s

METHOD = "stand"


@dataclass(frozen=True, slots=True)
class Optimised:
    """The kept tree; MAT of the wide one, of the kept one and of the one that ships, on the recordings."""

    template: Template
    accepted: tuple[int, ...]
    """How often each kept node was accepted in the wide tree."""
    wide_mat: float
    mat: float
    shipped_mat: float


class CountingStand:
    """`stand` with a template of ours, that remembers which template node each drafted node is."""

    name = METHOD

    def __init__(self, template: Template) -> None:
        self.index: Int32Array = int32s([])
        self._stand = StandMethod(template)

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        tree, self.index = self._stand.fill(sight, limits)
        return Draft(tree)


def optimise(
    files: Sequence[RecordedFile],
    nodes: int,
    wide_nodes: int,
    depth: int,
    advance: Callable[[], None] = lambda: None,
) -> Optimised:
    """Keep the best `nodes` of a tree of `wide_nodes` down to `depth`. `advance` after each sequence.

    The files are replayed three times: with the wide tree, with what is kept, with what ships.
    """
    wide = Template.best_first(wide_nodes, depth, WIDE_ACCEPTANCE)
    counts, wide_mat = accepted_counts(files, wide, advance)
    kept, accepted = best_nodes(wide, counts, nodes)
    _, mat = accepted_counts(files, kept, advance)
    _, shipped_mat = accepted_counts(files, Template.shipped(), advance)
    return Optimised(kept, accepted, wide_mat, mat, shipped_mat)


def best_nodes(
    template: Template, counts: Int64Array, nodes: int
) -> tuple[Template, tuple[int, ...]]:
    """The template of the `nodes` most accepted nodes, best first, and their counts.

    `counts` never rise from a parent to its child. Nodes that were never accepted are left out.
    """
    order = np.argsort(-counts, kind="stable")[:nodes]
    order = order[(counts[order] > 0) | (order == 0)]
    place = {-1: -1} | {int(node): i for i, node in enumerate(order)}
    parents = tuple(place[template.parents[node]] for node in order)
    ranks = tuple(template.ranks[node] for node in order)
    return Template(parents, ranks), tuple(counts[order].tolist())


def accepted_counts(
    files: Sequence[RecordedFile], template: Template, advance: Callable[[], None]
) -> tuple[Int64Array, float]:
    """int64[n]: how often each node of the template is accepted over the files, each cold; and MAT."""
    counts = np.zeros(len(template), np.int64)
    steps = gained = 0
    for file in files:
        options = DraftOptions(nodes_max=len(template), method=METHOD)
        with EngineDrafter(file, Setting(options)) as drafter:
            stand = CountingStand(template)
            drafter.state.methods.use(stand)
            trace = play(_Counting(drafter, stand, counts), file.sequences, advance)
        steps, gained = steps + len(trace.gained), gained + sum(trace.gained)
    return counts, gained / steps


class _Counting:
    """An EngineDrafter that adds up what was accepted of the template."""

    def __init__(self, drafter: EngineDrafter, stand: CountingStand, counts: Int64Array) -> None:
        self._drafter, self._stand, self._counts = drafter, stand, counts
        self._tree: DraftTree | None = None
        self.open, self.close = drafter.open, drafter.close

    @property
    def seconds(self) -> float:
        return self._drafter.seconds

    @property
    def answer_seconds(self) -> float:
        return self._drafter.answer_seconds

    def draft(self) -> DraftTree:
        self._stand.index = int32s([])
        self._tree = self._drafter.draft()
        return self._tree

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        if self._tree is not None and accepted > 0:
            path = self._tree.follow(tokens[:accepted].tolist())
            self._counts[self._stand.index[path]] += 1
        self._drafter.commit(tokens, accepted, rows)
