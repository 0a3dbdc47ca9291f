"""What a step costs by the number of nodes it verifies, measured on the loaded model.

A drafter that knows this can price its budget: a node is worth drafting while the tokens it gains
outweigh the time it adds.
"""

import time

import numpy as np
import torch

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import DraftTree, Float32Array, int32s

NODE_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64)
CONTEXT_TOKENS = 256
SECONDS_MAX = 1.0


def measure_step_cost(decoder: Decoder, *, seconds_max: float = SECONDS_MAX) -> VerifyCost:
    """Median milliseconds of one sequence's step, host time included, for 0 to nodes_max nodes.

    Takes about `seconds_max`, or a warm-up and one round of all counts if those take longer. The
    costs never fall as nodes rise. Raises FailedPrecondition while sequences run: it uses slot 0.
    """
    if decoder.active:
        raise FailedPrecondition(f"{decoder.active} sequences are being decoded")
    counts = [n for n in NODE_COUNTS if n < decoder.nodes_max] + [decoder.nodes_max]
    counts = sorted(set(counts))
    cached = max(1, min(CONTEXT_TOKENS, decoder.length_max // 2))
    generator = np.random.default_rng(0)
    milliseconds: list[list[float]] = [[] for _ in counts]
    with torch.inference_mode():
        prompt = int32s(generator.integers(0, decoder.model.vocab_size, cached))
        decoder.runner.prefill(0, prompt)
        for n in counts:
            _step_ms(decoder, cached, n)
        end = time.perf_counter() + seconds_max
        # Rounds over all counts, so that a passing load falls on all of them.
        while not milliseconds[0] or time.perf_counter() < end:
            for n, found in zip(counts, milliseconds, strict=True):
                found.append(_step_ms(decoder, cached, n))
    medians = np.array([np.median(found) for found in milliseconds])
    return VerifyCost(int32s(counts), _rising(medians.astype(np.float32)))


def _step_ms(decoder: Decoder, cached: int, nodes: int) -> float:
    parents = [-1 if i < 2 else i // 2 - 1 for i in range(nodes)]
    tree = DraftTree(int32s(np.arange(nodes) % decoder.model.vocab_size), int32s(parents))
    start = time.perf_counter()
    logits = decoder.runner.step([cached], [0], [tree])
    logits.argmax(-1).tolist()
    return (time.perf_counter() - start) * 1e3


def _rising(costs: Float32Array) -> Float32Array:
    return np.maximum.accumulate(costs)
