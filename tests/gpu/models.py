"""Tiny random targets, built from configs: no network, float32, a millisecond a forward."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import Int32Array, int32s

VOCAB_SIZE = 64
WINDOW = 8
END_TOKEN = 2
FAMILIES = ("llama", "qwen2", "gpt2", "mistral", "gemma3")

torch.set_num_threads(1)


def config(family: str, vocab_size: int = VOCAB_SIZE) -> PretrainedConfig:
    """Weights are drawn wide, so that logits are far apart and outputs do not repeat at once."""
    shape: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": END_TOKEN,
    }
    match family:
        case "llama":
            return LlamaConfig(**shape)
        case "qwen2":
            return Qwen2Config(**shape)
        case "mistral":
            return MistralConfig(**shape, sliding_window=WINDOW)
        case "gemma3":
            return Gemma3TextConfig(**shape, head_dim=8, sliding_window=WINDOW)
        case "gpt2":
            return GPT2Config(
                vocab_size=vocab_size,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=256,
                initializer_range=0.4,
                tie_word_embeddings=False,
                bos_token_id=1,
                eos_token_id=END_TOKEN,
            )
    raise ValueError(family)


@lru_cache
def tiny(family: str, vocab_size: int = VOCAB_SIZE) -> TargetModel:
    torch.manual_seed(5)
    return adopt_model(built(config(family, vocab_size)), name=family)


def built(settings: PretrainedConfig) -> PreTrainedModel:
    """A model of random weights."""
    module: PreTrainedModel = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
    return module


def prompts(count: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> list[Int32Array]:
    """Ragged prompts of 3 to 30 tokens."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 31, count)
    return [int32s(generator.integers(3, vocab_size, length)) for length in lengths]


def plain_logits(model: TargetModel, tokens: list[int]) -> torch.Tensor:
    """Logits [V] after these tokens: the model's own forward, its own mask, no cache."""
    with torch.inference_mode():
        logits: torch.Tensor = model.module(
            input_ids=torch.tensor([tokens]), use_cache=False
        ).logits
    return logits[0, -1]


def generated(model: TargetModel, prompt: Int32Array, tokens_max: int) -> list[int]:
    """The output of transformers' own greedy decoding."""
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    generate = cast(Callable[..., torch.Tensor], model.module.generate)
    output = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=tokens_max,
        eos_token_id=list(model.end_tokens),
        pad_token_id=model.end_tokens[0],
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens
