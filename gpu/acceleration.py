"""Making a runner's steps as fast as the device lets them be: static shapes, graphs, the fastest attention.

It is checked against the ragged path before it is used, and left out where it is wrong or does not work: the
worker then decodes as it would have without.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.attention.chosen import Chosen, choose
from retrieval_draft.gpu.attention.flex import allow_many_shapes
from retrieval_draft.gpu.attention.kinds import TreeMasks
from retrieval_draft.gpu.attention.register import register
from retrieval_draft.gpu.graphs import CudaGraphs, EagerGraphs, Graphs
from retrieval_draft.gpu.probe import TOLERANCES
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.slot_cache import SlotCache
from retrieval_draft.gpu.static_steps import Forward, StaticSteps, first_line
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import DraftTree, int32s

SDPA_ONLY = Chosen(())
CONTEXTS_CHECKED = (7, 40, 0, 300)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Acceleration:
    """What was switched on, and what attention was measured to take."""

    has_graphs: bool
    is_compiled: bool
    attention: Chosen

    def __str__(self) -> str:
        graphs = ["CUDA graphs"] if self.has_graphs else []
        compiled = ["compiled"] if self.is_compiled else []
        kinds = sorted({row.fastest for row in self.attention.rows}) or ["sdpa"]
        return ", ".join(["static shapes", *graphs, *compiled, *kinds])


def accelerate(
    runner: Runner, *, has_graphs: bool = True, is_compiled: bool = False
) -> Acceleration | None:
    """Give a runner on CUDA static steps; None if it is better left as it is, as on the CPU it is.

    Chooses how to attend by measurement, and compares the logits of a few steps with the ragged path's.
    Writes over the slots. Takes seconds; with `is_compiled` some more for every shape that first comes up.
    Raises InvalidInput if the CPU shall compile, whose linear layers are packed instead.
    """
    model = runner.model
    if model.device.type != "cuda":
        if is_compiled:
            raise InvalidInput("compile", f"on {model.device}", "on a CUDA device alone")
        return None

    def new_graphs() -> Graphs:
        return CudaGraphs(model.device) if has_graphs else EagerGraphs()

    forwards = [compiled_forward(model)] if is_compiled else []
    forward, attention = use_static_steps(runner, new_graphs, [*forwards, model.forward])
    if runner.static is None:
        return None
    done = Acceleration(has_graphs, forward is not model.forward, attention)
    logger.info("steps: %s", done)
    return done


def use_static_steps(
    runner: Runner, new_graphs: Callable[[], Graphs], forwards: Sequence[Forward]
) -> tuple[Forward | None, Chosen]:
    """Let a runner use the first of these forwards that works and is right, and how it attends.

    Sets `runner.static`, or leaves it and returns None.
    """

    def steps_with(forward: Forward) -> StaticSteps:
        lengths = {"length_max": runner.length_max, "nodes_max": runner.nodes_max}
        return StaticSteps(runner.model, runner.cache, new_graphs(), forward=forward, **lengths)

    with torch.inference_mode():
        runner.scramble()
        choices = [SDPA_ONLY]
        try:
            if register(runner.model):
                choices.insert(0, choose(steps_with(forwards[-1]), new_graphs))
        except Exception as error:  # all of this would only have saved time
            logger.warning("attention cannot be chosen: %s", first_line(error))
        for forward, choice in product(forwards, choices):
            try:
                steps = steps_with(forward)
                steps.kind_of = choice.kind_of
                check(runner, steps)
            except Exception as error:
                logger.warning("static steps are not used: %s", first_line(error))
            else:
                runner.static = steps
                return forward, choice
    return None, SDPA_ONLY


def check(runner: Runner, steps: StaticSteps) -> None:
    """Raises RuntimeError unless the logits of static steps are those of ragged ones."""
    off = difference(runner, steps)
    if not off <= TOLERANCES.get(runner.model.dtype, 1e-3):
        raise RuntimeError(f"logits differ from ragged steps' by {off:.2g} of their deviation")


def compiled_forward(
    model: TargetModel, backend: str | Callable[..., object] = "inductor"
) -> Forward:
    """The model's forward as one compiled graph a shape, never one for several; what cannot be raises."""

    def forward(tokens: Tensor, positions: Tensor, masks: TreeMasks, cache: SlotCache) -> Tensor:
        return model.forward(tokens, positions, masks, cache)

    compiled: Callable[..., Tensor] = torch.compile(
        forward, fullgraph=True, dynamic=False, backend=backend
    )

    def compiled_here(
        tokens: Tensor, positions: Tensor, masks: TreeMasks, cache: SlotCache
    ) -> Tensor:
        allow_many_shapes()
        return compiled(tokens, positions, masks, cache)

    return compiled_here


def difference(runner: Runner, steps: StaticSteps) -> float:
    """How far the logits of static steps are from ragged ones at most, as a part of their deviation.

    Of single sequences and ragged batches, with trees and without.
    """
    generator = np.random.default_rng(0)
    off = 0.0
    for batch in sorted({1, min(3, runner.slots)}):
        for nodes in sorted({0, min(7, runner.nodes_max)}):
            trees = [_random_tree(generator, nodes, runner.model.vocab_size) for _ in range(batch)]
            trees[-1] = trees[-1] if batch == 1 else _random_tree(generator, nodes // 2, 2)
            cached = [min(n, runner.length_max - 1) for n in CONTEXTS_CHECKED[:batch]]
            roots = [1] * batch
            inputs = steps.prepare(cached, roots, trees)
            found = None if inputs is None else steps.forward(inputs)
            if found is None:
                raise RuntimeError(f"no static step of {batch} sequences and {nodes} nodes")
            found = found.float().clone()
            expected = runner.step(cached, roots, trees).float()
            for b, tree in enumerate(trees):
                rows = slice(0, len(tree) + 1)
                rms = (found[b, rows] - expected[b, rows]).square().mean().sqrt()
                off = max(off, float(rms / expected[b, rows].std().clamp_min(1e-6)))
    return off


def _random_tree(generator: np.random.Generator, nodes: int, vocab_size: int) -> DraftTree:
    tokens = generator.integers(0, vocab_size, nodes)
    parents = [int(generator.integers(-1, i)) if i else -1 for i in range(nodes)]
    return DraftTree(int32s(tokens), int32s(parents))
