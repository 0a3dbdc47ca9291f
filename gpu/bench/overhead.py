"""What a step costs beside draft and forward: a wide vocabulary, full trees, paths that must be moved."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch

from retrieval_draft.drafter import Opening
from retrieval_draft.gpu.acceleration import accelerate
from retrieval_draft.gpu.bench.arms import Arm, Task
from retrieval_draft.gpu.bench.shapes import noise_model
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.stages import OVERHEAD, StageClock
from retrieval_draft.gpu.tree_mask import binary
from retrieval_draft.step import Rows
from retrieval_draft.tree import DraftTree, Int32Array, int32s

NODES = 64
PROMPT_TOKENS = 256
STEPS = 100
PATH = (1, 5, 13)
"""Nodes of the binary tree below that are right: none stands where it is kept."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Milliseconds a step by stage, of the decoding thread's own time; totals by thread and by clock."""

    nodes: int
    vocab_size: int
    steps: int
    cpu_ms: dict[str, float]
    total_cpu_ms: float
    total_ms: float


class _FullTrees:
    """Trees of NODES nodes, of which PATH is what comes next."""

    observation_width = hidden_width = 0

    def __init__(self, output: Int32Array, vocab_size: int) -> None:
        self._output, self._at = output, 0
        self._tokens = int32s(np.random.default_rng(1).permutation(vocab_size)[:NODES])
        self._parents = binary(NODES)

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        self._at = 0

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        self._at += len(tokens)

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        tokens = self._tokens.copy()
        coming = self._output[self._at : self._at + len(PATH)]
        tokens[list(PATH[: len(coming)])] = coming
        ones = np.ones(NODES, np.float32)
        return {name: DraftTree(tokens, self._parents, ones) for name in nodes_max}

    def finish(self, sequence_id: str) -> None:
        pass


def step_overhead(dtype: str, threads: int, device: str = "cpu") -> Overhead:
    """Over STEPS steps at batch 1, after a warm-up. Takes some seconds; on CUDA read the total by clock."""
    model = noise_model("wide-vocabulary", dtype=dtype, device=device, threads=threads)
    tokens_max = STEPS * (1 + len(PATH))
    runner = Runner(model, slots=1, length_max=PROMPT_TOKENS + tokens_max, nodes_max=NODES)
    accelerate(runner)
    wait = torch.cuda.synchronize if model.device.type == "cuda" else None
    generator = np.random.default_rng(0)
    prompt, output = (
        int32s(generator.integers(0, model.vocab_size, n)) for n in (PROMPT_TOKENS, tokens_max)
    )
    arm = Arm("overhead", runner, _FullTrees(output, model.vocab_size), is_forced=True)
    for name, steps in (("warm-up", STEPS // 10), ("measured", STEPS)):
        arm.decoder.clock = StageClock(wait)
        arm.decode([Task(name, prompt, steps * (1 + len(PATH)), output)])
    clock = arm.decoder.clock
    return Overhead(
        NODES,
        model.vocab_size,
        clock.steps,
        {stage: 1e3 * clock.cpu_seconds[stage] / clock.steps for stage in OVERHEAD},
        clock.cpu_overhead_ms,
        clock.overhead_ms,
    )
