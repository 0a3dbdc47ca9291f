"""What a step costs by sequences, nodes and context, measured on the loaded model.

A drafter that knows this can price its budget: a node is worth drafting while the tokens it gains
outweigh the time it adds. Entry 0 is a step without drafts; host time is included.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retrieval_draft.gpu.buckets import NODE_COUNTS
from retrieval_draft.gpu.buckets import ROWS_MAX as STATIC_ROWS_MAX
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.sampling import likeliest
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.tree_mask import binary
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree, Float32Array, Int32Array, int32s

BATCHES = (1, 4, 16)
CONTEXT_TOKENS = 256
CONTEXT_TOKENS_LONG = 2048
ROWS_MAX = 96
"""Of one forward, beyond batch 1: what lies above goes on with the last slope. Static steps are measured
as far as they go: on a GPU the slope only begins where the rows are many."""
NODES_FINE = (3, 5, 6, 7, 10, 12)
"""At batch 1, beside `NODE_COUNTS`: on a CPU the price rises where rows fill another block of a product."""
SECONDS_MAX = 2.0
QUANTILE = 0.25
"""Of the times measured: whatever else the machine does only adds to them."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchCost:
    """Milliseconds of a step of `sequences` by the nodes that each of them verifies."""

    sequences: int
    nodes: Int32Array
    milliseconds: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class StepCosts:
    """Measured at `context_tokens` a sequence; every further one costs each sequence as much as its
    neighbour. `per_token` [n] is that price in milliseconds, by the nodes of batches[0], which is of 1.
    """

    batches: tuple[BatchCost, ...]
    context_tokens: int
    per_token: Float32Array

    def at(self, sequences: int, context_tokens: float) -> VerifyCost:
        """For a step of so many sequences with so many cached tokens each, on average.

        Nodes are those of all sequences, shared out evenly. Between two measured batches, and beyond the
        last, the cost goes on in a straight line. Some µs.
        """
        cost = self.by_width(sequences, context_tokens)
        return VerifyCost(int32s(cost.nodes * sequences), cost.milliseconds)

    def by_width(self, sequences: int, context_tokens: float) -> VerifyCost:
        """The same by the nodes of the largest tree: the others are filled up to it. Some µs."""
        found = self._by_batch(sequences)
        beyond = context_tokens - self.context_tokens
        priced = found + np.float32(beyond * sequences) * self.per_token
        # Far below the measured context the straight line may not go to nothing.
        floor = found[0] / 2
        return VerifyCost(self.batches[0].nodes, rising(np.maximum(priced, floor)))

    def _by_batch(self, sequences: int) -> Float32Array:
        nodes = self.batches[0].nodes
        above = next(
            (i for i, one in enumerate(self.batches) if one.sequences >= sequences),
            len(self.batches) - 1,
        )
        high = self.batches[above]
        if above == 0 or high.sequences == sequences:
            costs = _extended(high, nodes)
            return np.asarray(costs * max(1.0, sequences / high.sequences), np.float32)
        low = self.batches[above - 1]
        share = (sequences - low.sequences) / (high.sequences - low.sequences)
        line = (1 - share) * _extended(low, nodes) + share * _extended(high, nodes)
        return np.asarray(line, np.float32)


def measure_step_costs(runner: Runner, *, seconds_max: float = SECONDS_MAX) -> StepCosts:
    """Low quantiles over about `seconds_max`, or over one round if that takes longer, after a warm-up.

    Batch 1 is measured for 0 to nodes_max nodes, at a short context and for what a long one adds; larger
    batches as far as slots go, up to ROWS_MAX rows a forward. Writes over the slots from 0 on.
    """
    length = max(1, min(CONTEXT_TOKENS, runner.length_max // 2))
    longer = max(length, min(CONTEXT_TOKENS_LONG, runner.length_max - 1))
    is_static = runner.static is not None
    fine = set() if is_static else set(NODES_FINE)
    rows_max = STATIC_ROWS_MAX if is_static else ROWS_MAX
    counts = sorted({n for n in {*NODE_COUNTS, *fine} if n < runner.nodes_max} | {runner.nodes_max})
    sizes = sorted({b for b in BATCHES if b < runner.slots} | {runner.slots})
    points = [
        (sequences, length, n)
        for sequences in sizes
        for n in counts
        if sequences == 1 or n < 2 or (n not in fine and sequences * (n + 1) <= rows_max)
    ]
    ends = (counts[0], counts[-1])
    points += [(1, longer, n) for n in sorted(set(ends)) if longer > length]
    found = dict(zip(points, _times(runner, points, seconds_max), strict=True))
    batches = []
    for sequences in sizes:
        some = [n for n in counts if (sequences, length, n) in found]
        costs = np.array([found[sequences, length, n] for n in some], np.float32)
        batches.append(BatchCost(sequences, int32s(some), rising(costs)))
    per_token = np.zeros(len(counts), np.float32)
    if longer > length:
        added = [max(0.0, found[1, longer, n] - found[1, length, n]) for n in ends]
        per_token = np.interp(counts, ends, added).astype(np.float32) / np.float32(longer - length)
    return StepCosts(tuple(batches), length, per_token)


def _times(
    runner: Runner, points: Sequence[tuple[int, int, int]], seconds_max: float
) -> list[float]:
    milliseconds: list[list[float]] = [[] for _ in points]
    with torch.inference_mode():
        runner.scramble()
        for _ in _timed(runner, points):
            pass
        end = time.perf_counter() + seconds_max
        # Rounds over all points, so that a passing load falls on all of them.
        while not milliseconds[0] or time.perf_counter() < end:
            for found, ms in zip(milliseconds, _timed(runner, points), strict=True):
                found.append(ms)
    return [float(np.quantile(found, QUANTILE)) for found in milliseconds]


def _timed(runner: Runner, points: Sequence[tuple[int, int, int]]) -> Iterator[float]:
    clock = step_clock(runner.model)
    for sequences, cached, nodes in points:
        tree = DraftTree(int32s(np.arange(nodes) % runner.model.vocab_size), binary(nodes))
        start = clock()
        logits = runner.step([cached] * sequences, [0] * sequences, [tree] * sequences)
        likeliest(logits[0, :1])  # waits for the device too
        yield (clock() - start) * 1e3


def step_clock(model: TargetModel) -> Callable[[], float]:
    """Seconds, for measuring what a forward of this model and what is around it cost."""
    alone = model.device.type == "cpu" and torch.get_num_threads() == 1
    # What one thread does has no other time than that thread's, whatever else the machine does.
    return time.thread_time if alone else time.perf_counter


def _extended(batch: BatchCost, nodes: Int32Array) -> Float32Array:
    """Its costs at these nodes; beyond what was measured its last slope goes on."""
    within = np.interp(nodes, batch.nodes, batch.milliseconds)
    if len(batch.nodes) < 2:
        return within.astype(np.float32)
    span = batch.nodes[-1] - batch.nodes[-2]
    slope = (batch.milliseconds[-1] - batch.milliseconds[-2]) / span
    beyond = np.maximum(nodes - batch.nodes[-1], 0) * slope
    return np.asarray(within + beyond, np.float32)


def rising(costs: Float32Array) -> Float32Array:
    """Midway between the lowest rising line above and the highest below: itself, where it rises."""
    above = np.maximum.accumulate(costs)
    below = np.minimum.accumulate(costs[::-1])[::-1]
    return np.asarray((above + below) / 2, np.float32)
