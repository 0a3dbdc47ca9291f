"""The worker's plain decoding beside transformers' own `generate` with a static cache."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from retrieval_draft.gpu.acceleration import accelerate
from retrieval_draft.gpu.bench.shapes import SHAPES, noise_module
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import Int32Array, int32s

PROMPT_TOKENS = 32


class _Stamps(BaseStreamer):
    """When each token came; the prompt comes first."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def put(self, value: object) -> None:
        self.at.append(time.perf_counter())

    def end(self) -> None:
        pass


def generate_ratio(
    model: TargetModel,
    tokens_max: int,
    rounds: int,
    *,
    has_graphs: bool = True,
    is_compiled: bool = False,
) -> tuple[float, float, float]:
    """Tokens per second of the worker and of `generate`, medians of rounds in turn, and their ratio.

    Both are timed from the first token to the last, greedy, at batch 1. `generate` has a model of its own,
    as transformers loads it: nothing that the worker does to a model at load speeds it up. On CUDA it
    compiles its forward and records graphs of its own accord; the worker does as it is told.
    """
    module = _loaded_by_transformers(model)
    generator = np.random.default_rng(0)
    prompt = int32s(generator.integers(0, model.vocab_size, PROMPT_TOKENS))
    length = PROMPT_TOKENS + tokens_max + 1
    runner = Runner(model, slots=1, length_max=length, nodes_max=0)
    accelerate(runner, has_graphs=has_graphs, is_compiled=is_compiled)
    decoder = Decoder(model, slots=1, length_max=length, nodes_max=0, runner=runner)
    pairs = []
    for number in range(rounds + 1):
        pair = (_worker(decoder, prompt, tokens_max), _generate(module, prompt, tokens_max))
        if number:  # the first is a warm-up
            pairs.append(pair)
    ours, theirs = zip(*pairs, strict=True)
    return median(ours), median(theirs), median(a / b for a, b in pairs)


def _worker(decoder: Decoder, prompt: Int32Array, tokens_max: int) -> float:
    decoder.admit(Request("x", prompt, tokens_max, ignore_end=True))
    began = time.perf_counter()
    while decoder.active:
        decoder.step()
    return (tokens_max - 1) / (time.perf_counter() - began)


def _loaded_by_transformers(model: TargetModel) -> PreTrainedModel:
    if model.name in SHAPES:
        return noise_module(model.name, model.dtype, model.device)
    module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        model.name, local_files_only=Path(model.name).exists(), dtype=model.dtype
    )
    torch.nn.Module.to(module, model.device)
    module.train(False)
    return module


def _generate(module: PreTrainedModel, prompt: Int32Array, tokens_max: int) -> float:
    ids = torch.from_numpy(prompt.astype(np.int64)).to(module.device)[None]
    stamps = _Stamps()
    generate = cast(Callable[..., torch.Tensor], module.generate)
    with torch.inference_mode():
        generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=tokens_max,
            max_new_tokens=tokens_max,
            cache_implementation="static",
            streamer=stamps,
        )
    return (len(stamps.at) - 2) / (stamps.at[-1] - stamps.at[1])
