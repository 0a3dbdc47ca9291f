"""Architectures of published models, filled with noise: real work for measurements without weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)
from transformers.initialization import no_init_weights

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.model import DTYPES, adopt_model, device_named
from retrieval_draft.gpu.packed_linear import pack_linears
from retrieval_draft.gpu.target import TargetModel

NOISE_SCALE = 0.02
NOISE_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only transformer's sizes, as its published configuration has them."""

    family: str
    vocab_size: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head_width: int
    positions: int
    is_tied: bool

    def config(self) -> PretrainedConfig:
        made = {"qwen3": Qwen3Config, "llama": LlamaConfig}
        config: Callable[..., PretrainedConfig] = made[self.family]
        return config(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            head_dim=self.head_width,
            max_position_embeddings=self.positions,
            tie_word_embeddings=self.is_tied,
            bos_token_id=None,
            eos_token_id=None,
        )


SHAPES = {
    "qwen3-0.6b": Shape("qwen3", 151_936, 1024, 3072, 28, 16, 8, 128, 40_960, True),
    "llama-3.1-8b": Shape("llama", 128_256, 4096, 14_336, 32, 32, 8, 128, 131_072, False),
    "smoke": Shape("qwen3", 1024, 32, 64, 2, 4, 2, 8, 4096, True),
    "wide-vocabulary": Shape("qwen3", 151_936, 32, 64, 2, 4, 2, 8, 40_960, True),
}
"""Qwen/Qwen3-0.6B and meta-llama/Llama-3.1-8B; a tiny one for tests, and one whose cost is all overhead."""


def noise_model(
    name: str, *, dtype: str = "bfloat16", device: str = "cpu", threads: int | None = None
) -> TargetModel:
    """A model of this shape whose weights are noise; prepared and checked like any. Raises InvalidInput."""
    if dtype not in DTYPES:
        raise InvalidInput("dtype", dtype, ", ".join(DTYPES))
    if threads is not None:
        torch.set_num_threads(threads)
    module = noise_module(name, DTYPES[dtype], device_named(device))
    pack_linears(module)
    return adopt_model(module, name=name)


def noise_module(name: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The same as transformers makes it. Raises InvalidInput.

    The weights repeat a block of normal numbers, which costs a second where drawing all takes many.
    """
    if name not in SHAPES:
        raise InvalidInput("shape", name, ", ".join(SHAPES))
    with no_init_weights():
        module: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            SHAPES[name].config(), dtype=dtype, attn_implementation="sdpa"
        )
    _fill(module)
    torch.nn.Module.to(module, device)
    module.train(False)
    return module


def _fill(module: PreTrainedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(NOISE_ELEMENTS, generator=generator) * NOISE_SCALE
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:  # norms
                parameter.fill_(1.0)
                continue
            values = block.to(parameter.dtype)
            flat = parameter.view(-1)
            for start in range(0, len(flat), NOISE_ELEMENTS):
                part = flat[start : start + NOISE_ELEMENTS]
                part.copy_(values[: len(part)])
            # Repeated blocks would make rows of the output layer equal, and every token a tie.
        output = module.get_output_embeddings()  # type: ignore[no-untyped-call]
        assert output is not None, "a causal LM has an output layer"
        rows = torch.arange(len(output.weight), dtype=torch.float32)
        output.weight[:, 0] = (NOISE_SCALE * torch.sin(rows)).to(output.weight.dtype)
