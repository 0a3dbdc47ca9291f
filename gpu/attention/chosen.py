"""Which way of attending is the fastest, measured on this machine for the shapes in use.

A few buckets are measured over the real cache; any other goes by the nearest of them. What differs from SDPA
in its result is left out, as is what fails.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from statistics import median

import torch
from torch import Tensor, nn

from retrieval_draft.gpu.attention.kinds import KINDS, Kind, available
from retrieval_draft.gpu.attention.register import attend
from retrieval_draft.gpu.buckets import Bucket
from retrieval_draft.gpu.graphs import Graphs
from retrieval_draft.gpu.static_steps import StaticSteps, first_line
from retrieval_draft.gpu.tree_mask import binary
from retrieval_draft.tree import DraftTree, int32s

ROUNDS = 5
CALLS = 10
SECONDS_MAX = 20.0
"""Once they are over nothing more is measured. FlexAttention, which compiles every shape anew, comes last."""
PASSES: tuple[tuple[Kind, ...], ...] = (("sdpa", "triton"), ("sdpa", "flex"))
DIFFERENCE_MAX = {torch.float32: 1e-3, torch.float16: 0.01, torch.bfloat16: 0.03}
"""Root mean square, as a part of SDPA's own."""
FLEX_GAIN = 1.1
"""To all others: it halts the worker for seconds where a shape first comes up, and more must follow."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """Microseconds of one layer's attention in a bucket, of every way that was right."""

    bucket: Bucket
    microseconds: dict[Kind, float]

    def __str__(self) -> str:
        times = ", ".join(f"{kind} {us:.1f}" for kind, us in self.microseconds.items())
        one = self.bucket
        return f"batch={one.batch} nodes={one.nodes} entries={one.length} us: {times}"

    @property
    def fastest(self) -> Kind:
        gains: dict[Kind, float] = {"flex": FLEX_GAIN}
        return min(
            self.microseconds, key=lambda kind: self.microseconds[kind] * gains.get(kind, 1.0)
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The table; without rows everything is SDPA's."""

    rows: tuple[Measured, ...]

    def kind_of(self, bucket: Bucket) -> Kind:
        """The fastest in the nearest bucket, by the ratios of batch, nodes and entries. Some µs."""
        if not self.rows:
            return "sdpa"
        return min(self.rows, key=lambda row: _distance(row.bucket, bucket)).fastest


class _Layer(nn.Module):
    """What `attend` asks of a layer."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups


def choose(
    steps: StaticSteps, new_graphs: Callable[[], Graphs], *, seconds_max: float = SECONDS_MAX
) -> Chosen:
    """Measure what is available: the smallest and largest batches, trees and contexts, and between.

    Writes over the slots; under `inference_mode`.
    """
    sizes = steps.buckets
    nodes = sorted({sizes.nodes[0], sizes.nodes[-1]})
    points = product(_spread(sizes.batches), nodes, _spread(sizes.lengths))
    buckets = [bucket for point in points if (bucket := sizes.of(*point)) is not None]
    end = time.perf_counter() + seconds_max
    found: dict[Bucket, Measured] = {}
    for kinds, bucket in product(PASSES, buckets):
        if time.perf_counter() < end:
            row = measure(steps, bucket, new_graphs(), kinds)
            before = found[bucket].microseconds if bucket in found else {}
            found[bucket] = Measured(bucket, row.microseconds | before)
    for row in found.values():
        logger.info("attention %s", row)
    return Chosen(tuple(row for row in found.values() if row.microseconds))


def measure(
    steps: StaticSteps, bucket: Bucket, graphs: Graphs, kinds: Sequence[Kind] = KINDS
) -> Measured:
    """These ways in this bucket, on binary trees behind as long a context as it holds."""
    n = bucket.nodes
    tree = DraftTree(int32s([0] * (n - 1)), binary(n - 1))
    context = min(bucket.length, steps.cache.length) - n
    steps.prepare([context] * bucket.batch, [0] * bucket.batch, [tree] * bucket.batch)
    found: dict[Kind, float] = {}
    expected: Tensor | None = None
    for kind in kinds:
        if kind not in available():
            continue
        try:
            output, microseconds = _timed(steps, bucket, kind, graphs)
        except Exception as error:  # whatever a compiler raises: this way is not taken
            logger.warning(
                "attention failed kind=%s bucket=%s: %s", kind, bucket, first_line(error)
            )
            continue
        expected = output if expected is None else expected
        off = float((output - expected).square().mean().sqrt() / expected.square().mean().sqrt())
        if off <= DIFFERENCE_MAX[steps.model.dtype]:
            found[kind] = microseconds
        else:
            logger.warning("attention differs kind=%s bucket=%s by=%.3g", kind, bucket, off)
    return Measured(bucket, found)


def _timed(steps: StaticSteps, bucket: Bucket, kind: Kind, graphs: Graphs) -> tuple[Tensor, float]:
    shape = bucket if kind == "sdpa" else Bucket(bucket.batch, bucket.nodes, steps.cache.length)
    _, _, masks = steps.aim(shape, kind)
    layer = steps.cache.slot_layers[0]
    keys, values = layer.keys, layer.values
    assert keys is not None
    assert values is not None
    heads = int(steps.model.module.config.get_text_config().num_attention_heads)
    module = _Layer(heads // keys.shape[1])
    generator = torch.Generator().manual_seed(0)
    query = torch.randn((bucket.batch, heads, bucket.nodes, keys.shape[3]), generator=generator)
    query = query.to(keys.device, keys.dtype)
    output = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)

    def call() -> None:
        output.copy_(attend(module, query, keys, values, masks.full)[0])

    def calls() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            graphs.run((bucket, kind), call)
        _wait(keys.device)
        return (time.perf_counter() - began) / CALLS * 1e6

    graphs.run((bucket, kind), call)
    _wait(keys.device)
    return output.float(), median(calls() for _ in range(ROUNDS))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _spread(sizes: tuple[int, ...]) -> list[int]:
    return sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]})


def _distance(a: Bucket, b: Bucket) -> float:
    pairs = ((a.batch, b.batch), (a.nodes, b.nodes), (a.length, b.length))
    return sum(abs(log(x / y)) for x, y in pairs)
