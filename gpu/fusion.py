"""Retrieval and a draft model in one tree of one budget.

Two ways. `rasd` (Quan et al., Findings of ACL 2025, arXiv 2503.03434) fuses here: retrieved paths whose
first token the draft model holds improbable are pruned, and the rest joins the model's tree by longest
prefixes. `mix` sends the model's tree along with the step, and the sidecar fuses: it learns what either
is worth, alone and agreeing. Either may fail: the other goes on alone.
"""

import time
from typing import Protocol, Unpack

from tokenizers import Tokenizer

from retrieval_draft.drafter import Drafter, Opening
from retrieval_draft.gpu.draft_models.causal import (
    CHILDREN_DEFAULT,
    DEPTH_DEFAULT,
    CausalDrafts,
)
from retrieval_draft.gpu.draft_models.draft_model import DraftModel
from retrieval_draft.gpu.draft_models.level_cost import measure_level_costs
from retrieval_draft.gpu.draft_models.opening import open_draft_model
from retrieval_draft.gpu.draft_models.pricing import Pricing, Retrieved
from retrieval_draft.gpu.draft_models.shares import Shares
from retrieval_draft.gpu.guard import Guard
from retrieval_draft.gpu.merging import best, fused, without_model
from retrieval_draft.gpu.step_cost import StepCosts, step_clock
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.width import first_nodes
from retrieval_draft.step import Rows
from retrieval_draft.tree import EMPTY, DraftTree, Float32Array, Int32Array


class Retrieval(Drafter, Protocol):
    """A drafter that is asked first and answers later, takes the worker's own trees, and may be told
    that another one was verified.
    """

    def ask(
        self,
        nodes_max: dict[str, int],
        model_trees: dict[str, DraftTree] | None = None,
        spent_ms: float = 0.0,
    ) -> None:
        """`spent_ms` is what the step has cost before."""
        ...

    def take(self, *, waits: bool = True) -> dict[str, DraftTree] | None:
        """The trees; without `waits` None if they have not come yet."""
        ...

    def commit(
        self,
        sequence_id: str,
        tokens: Int32Array,
        accepted: int,
        rows: Rows | None,
        verified: DraftTree | None = None,
    ) -> None: ...


class NoRetrieval:
    """What there is without a sidecar."""

    observation_width = hidden_width = 0

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None: ...

    def commit(
        self,
        sequence_id: str,
        tokens: Int32Array,
        accepted: int,
        rows: Rows | None,
        verified: DraftTree | None = None,
    ) -> None: ...

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        return {}

    def ask(
        self,
        nodes_max: dict[str, int],
        model_trees: dict[str, DraftTree] | None = None,
        spent_ms: float = 0.0,
    ) -> None: ...

    def take(self, *, waits: bool = True) -> dict[str, DraftTree] | None:
        return {}

    def finish(self, sequence_id: str) -> None: ...


class FusedDrafter:
    """Both drafters as one; `fusion` is "rasd" or "mix".

    With `pricing` the draft model is asked where it pays, and grows as deep as it pays.
    """

    def __init__(
        self, retrieval: Retrieval, model: DraftModel, fusion: str, pricing: Pricing | None = None
    ) -> None:
        self._retrieval, self._model, self._pricing = retrieval, model, pricing
        self._fuse = {"rasd": self._draft_rasd, "mix": self._draft_mix}[fusion]
        self._retrieving, self._modelling = Guard("retrieval"), Guard("draft model")
        self._fusing = Guard("fusion")
        # Trees given to the decoder that are not the sidecar's own, until they are verified.
        self._own: dict[str, DraftTree] = {}
        self._taken: dict[str, DraftTree] | None = None
        self._asking_seconds = 0.0

    @property
    def observation_width(self) -> int:
        return self._retrieving.run(
            "observation_width", lambda: self._retrieval.observation_width, 0
        )

    @property
    def hidden_width(self) -> int:
        return self._retrieving.run("hidden_width", lambda: self._retrieval.hidden_width, 0)

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        if self._pricing is not None:
            self._pricing.open(sequence_id, len(tokens))
        self._modelling.run("open", lambda: self._model.open(sequence_id, tokens, **opening), None)
        self._retrieving.run(
            "open", lambda: self._retrieval.open(sequence_id, tokens, **opening), None
        )

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        if self._pricing is not None:
            self._pricing.gained(sequence_id, tokens.tolist())
        self._modelling.run(
            "commit", lambda: self._model.commit(sequence_id, tokens, accepted, rows), None
        )
        own = self._own.pop(sequence_id, None) if accepted >= 0 else None
        self._retrieving.run(
            "commit",
            lambda: self._retrieval.commit(sequence_id, tokens, accepted, rows, own),
            None,
        )

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        for sequence_id in nodes_max:
            self._own.pop(sequence_id, None)
        self._taken, self._asking_seconds = None, 0.0
        if self._pricing is not None:
            self._pricing.begin(nodes_max)
        return self._fuse(nodes_max)

    def finish(self, sequence_id: str) -> None:
        self._own.pop(sequence_id, None)
        if self._pricing is not None:
            self._pricing.finish(sequence_id)
        self._modelling.run("finish", lambda: self._model.finish(sequence_id), None)
        self._retrieving.run("finish", lambda: self._retrieval.finish(sequence_id), None)

    def _draft_rasd(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        """The sidecar drafts while the model does."""
        self._ask(nodes_max)
        drafted = self._modelled(nodes_max, lambda: self._take(waits=False))
        retrieved = self._take() or {}
        trees = dict(retrieved)
        for name, ours in drafted.items():
            trees[name] = self._own[name] = self._fused(
                name, ours, retrieved.get(name, EMPTY), nodes_max[name]
            )
        return self._cut(trees, drafted, retrieved)

    def _draft_mix(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        drafted = self._modelled(nodes_max, lambda: None)
        spent_ms = 0.0 if self._pricing is None else self._pricing.spent_ms
        self._ask(nodes_max, drafted, spent_ms)
        fused = self._take() or {}
        # The sidecar is late, away or not asked: the model's tree was drawn already.
        alone = {name: tree for name, tree in drafted.items() if name not in fused}
        self._own.update(alone)
        retrieved = fused
        if drafted:
            retrieved = {name: without_model(tree) for name, tree in fused.items()}
        return self._cut({**fused, **alone}, drafted, retrieved)

    def _ask(
        self,
        nodes_max: dict[str, int],
        model_trees: dict[str, DraftTree] | None = None,
        spent_ms: float = 0.0,
    ) -> None:
        began = time.perf_counter()
        self._retrieving.run(
            "ask", lambda: self._retrieval.ask(nodes_max, model_trees, spent_ms), None
        )
        self._asking_seconds += time.perf_counter() - began

    def _take(self, *, waits: bool = True) -> dict[str, DraftTree] | None:
        """The sidecar's trees, however often they are asked for."""
        if self._taken is None:
            began = time.perf_counter()
            none: dict[str, DraftTree] | None = {}
            self._taken = self._retrieving.run(
                "take", lambda: self._retrieval.take(waits=waits), none
            )
            self._asking_seconds += time.perf_counter() - began
        return self._taken

    def _modelled(self, nodes_max: dict[str, int], retrieved: Retrieved) -> dict[str, DraftTree]:
        """The draft model's trees, of those whom it drafts for."""

        def draft() -> dict[str, DraftTree]:
            if (pricing := self._pricing) is None:
                return self._model.draft(nodes_max)
            unread = {name: self._model.unread(name) for name, most in nodes_max.items() if most}
            names = pricing.asked(unread, retrieved)
            if not names:
                return {}
            wanted = {name: nodes_max[name] for name in names}
            return pricing.timed(
                lambda: self._model.draft(
                    wanted, lambda levels, frontier: pricing.goes_on(levels, frontier, retrieved)
                )
            )

        none: dict[str, DraftTree] = {}
        drafted = self._modelling.run("draft", draft, none)
        return {name: tree for name, tree in drafted.items() if len(tree)}

    def _cut(
        self,
        trees: dict[str, DraftTree],
        drafted: dict[str, DraftTree],
        retrieved: dict[str, DraftTree],
    ) -> dict[str, DraftTree]:
        """The trees as far as verifying them pays."""
        if (pricing := self._pricing) is None:
            return trees
        width = self._fusing.run(
            "price",
            lambda: pricing.verifies(trees, drafted, retrieved, 1e3 * self._asking_seconds),
            max(map(len, trees.values()), default=0),
        )
        for name in trees.keys() & self._own.keys():
            trees[name] = self._own[name] = best(trees[name], width)
        return {name: first_nodes(tree, width) for name, tree in trees.items()}

    def _fused(self, name: str, ours: DraftTree, theirs: DraftTree, most: int) -> DraftTree:
        def expects(tokens: Int32Array) -> Float32Array:
            return self._model.expects(name, tokens)

        return self._fusing.run("fuse", lambda: fused(ours, theirs, expects, most), ours)


def with_draft_model(
    retrieval: Retrieval | None,
    target: TargetModel,
    name: str | None,
    fusion: str,
    *,
    slots: int,
    length_max: int,
    costs: StepCosts,
    tokenizer: Tokenizer | None = None,
    depth_max: int = DEPTH_DEFAULT,
    children_max: int = CHILDREN_DEFAULT,
) -> Drafter | None:
    """The drafter of a worker: both fused, or the one that there is. Raises as `open_draft_model`."""
    if name is None:
        return retrieval
    model = open_draft_model(
        name,
        target,
        slots=slots,
        length_max=length_max,
        tokenizer=tokenizer,
        depth_max=depth_max,
        children_max=children_max,
    )
    return priced(retrieval, model, fusion, slots, costs)


def priced(
    retrieval: Retrieval | None, model: CausalDrafts, fusion: str, slots: int, costs: StepCosts
) -> FusedDrafter:
    """A draft model, alone or beside retrieval, that drafts where it pays. Measures for half a second."""
    pricing = Pricing(costs, measure_level_costs(model, slots), step_clock(model.model))
    model.shares = Shares()
    return FusedDrafter(retrieval or NoRetrieval(), model, fusion, pricing)
