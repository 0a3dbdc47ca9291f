"""Loading a target: a causal LM of transformers that takes a tree's mask, checked before use.

A model that keeps state beside keys and values (Mamba, linear attention, hybrids), builds its own
position bias (ALiBi) or has an encoder cannot verify trees and is refused; so is any model that
fails the probe of `probe.py`, rather than being silently wrong.
"""

import inspect
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from retrieval_draft.errors import FailedPrecondition, InvalidInput
from retrieval_draft.gpu.folded_attention import use_folded_attention
from retrieval_draft.gpu.packed_linear import pack_linears
from retrieval_draft.gpu.probe import probe
from retrieval_draft.gpu.target import SUITABLE, TargetModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYER_TYPES = ("full_attention", "sliding_attention")
ALIBI_TYPES = ("bloom", "mpt")
CONTEXT_TOKENS_UNSTATED = 4096  # context of a model whose config names none


def load_model(
    path_or_id: str | Path,
    *,
    dtype: str = "float32",
    device: str = "auto",
    threads: int | None = None,
) -> TargetModel:
    """Load and check a model from a folder, without touching the network, or from a hub by its id.

    `device` "auto" is CUDA where there is one. `threads` sets torch's for the whole process.
    Raises InvalidInput for a bad setting or an unsuitable model, else FailedPrecondition.
    """
    if dtype not in DTYPES:
        raise InvalidInput("dtype", dtype, ", ".join(DTYPES))
    target_device = device_named(device)
    if threads is not None:
        if threads < 1:
            raise InvalidInput("threads", threads, "1 or more")
        torch.set_num_threads(threads)
    source = str(path_or_id)
    is_local = Path(source).exists()
    if not is_local and (isinstance(path_or_id, Path) or source.startswith((".", "/", "~"))):
        raise InvalidInput("model", source, "a folder that exists, or a hub id")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=is_local)
        refuse_unsuitable(config, source)
        module = _load(source, is_local, DTYPES[dtype], target_device)
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(f"model {source} cannot be loaded: {error}") from error
    if pack_linears(module):
        try:
            return adopt_model(module, name=source)
        except InvalidInput:
            # Its code may look into its layers, so it is tried as transformers made it before it is refused.
            module = _load(source, is_local, DTYPES[dtype], target_device)
    return adopt_model(module, name=source)


def adopt_model(module: PreTrainedModel, *, name: str = "") -> TargetModel:
    """Check a model in memory, in evaluation mode from here. Raises InvalidInput if unsuitable."""
    config = module.config
    name = name or type(module).__name__
    refuse_unsuitable(config, name)
    parameters = inspect.signature(module.forward).parameters
    for needed in ("position_ids", "past_key_values", "attention_mask"):
        if needed not in parameters:
            raise InvalidInput("model", name, SUITABLE, f"its forward takes no {needed}")
    if getattr(module, "_is_stateful", False):
        raise InvalidInput("model", name, SUITABLE, "it keeps recurrent state")
    _use_maskable_attention(module)
    text = config.get_text_config()
    layer_types = getattr(text, "layer_types", None)
    window = getattr(text, "sliding_window", None)
    if layer_types is not None and "sliding_attention" not in layer_types:
        window = None
    model = TargetModel(
        module=module.train(False),
        name=name,
        vocab_size=int(text.vocab_size),
        context_tokens_max=_context_tokens_max(text),
        end_tokens=_end_tokens(module),
        window=window,
        has_layer_types=layer_types is not None,
        takes_logits_to_keep="logits_to_keep" in parameters,
        device=module.device,
        dtype=module.dtype,
    )
    if use_folded_attention(module):
        try:
            probe(model)
        except InvalidInput:
            module.set_attn_implementation("sdpa")
        else:
            return model
    probe(model)
    return model


def refuse_unsuitable(config: PretrainedConfig, name: str) -> None:
    """Raises InvalidInput for architectures known not to verify trees, before weights load."""
    text = config.get_text_config()

    def refuse(reason: str) -> None:
        raise InvalidInput("model", name, SUITABLE, f"{config.model_type}: {reason}")

    if config.is_encoder_decoder:
        refuse("it is an encoder-decoder")
    if text.model_type in ALIBI_TYPES or getattr(text, "alibi", False):
        refuse("its position bias (ALiBi) leaves no room for a tree's mask")
    layer_types = getattr(text, "layer_types", None) or ()
    if other := sorted({str(kind) for kind in layer_types} - set(LAYER_TYPES)):
        refuse(f"layers of type {', '.join(other)} keep recurrent state or their own mask")
    if (model_class := _causal_class(config)) is None:
        refuse("transformers has no causal language model of this type")
    elif getattr(model_class, "_is_stateful", False):
        refuse("it keeps recurrent state, which a tree would need once per branch")


def _causal_class(config: PretrainedConfig) -> type | None:
    try:
        found = AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError:
        return None
    return found if isinstance(found, type) else None


def _load(source: str, is_local: bool, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """With sdpa, or eagerly where the architecture refuses sdpa (gemma2, gpt-oss)."""
    try:
        module = _from_pretrained(source, is_local, dtype, "sdpa")
    except (ValueError, ImportError):
        module = _from_pretrained(source, is_local, dtype, "eager")
    nn.Module.to(module, device)
    return module


def _from_pretrained(
    source: str, is_local: bool, dtype: torch.dtype, attention: str
) -> PreTrainedModel:
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, local_files_only=is_local, dtype=dtype, attn_implementation=attention
    )
    return module


def _use_maskable_attention(module: PreTrainedModel) -> None:
    """Flash attention takes no tree mask: change to sdpa, else to eager."""
    if module.config._attn_implementation in ("sdpa", "eager"):
        return
    try:
        module.set_attn_implementation("sdpa")
    except (ValueError, ImportError):
        module.set_attn_implementation("eager")


def _context_tokens_max(text: PretrainedConfig) -> int:
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return CONTEXT_TOKENS_UNSTATED


def _end_tokens(module: PreTrainedModel) -> tuple[int, ...]:
    generation = getattr(module, "generation_config", None)
    value = getattr(generation, "eos_token_id", None)
    if value is None:
        value = module.config.get_text_config().eos_token_id
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def device_named(device: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises InvalidInput for one that is not here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput("device", device, "auto, cpu, cuda or cuda:N") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device", device, "auto or cpu", "torch finds no CUDA device here")
    return found
