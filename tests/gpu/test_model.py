"""Models that cannot verify trees are refused by name and reason; others load without a network."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    FalconConfig,
    MambaConfig,
    PretrainedConfig,
    Qwen3NextConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from retrieval_draft.errors import DraftError, FailedPrecondition, InvalidInput
from retrieval_draft.gpu.model import adopt_model, load_model
from retrieval_draft.gpu.probe import probe
from tests.gpu.models import END_TOKEN, FAMILIES, VOCAB_SIZE, built, config, tiny

SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("unsuitable", "reason"),
    [
        (MambaConfig(**SMALL), "recurrent state"),
        (Qwen3NextConfig(**SMALL, num_attention_heads=4, num_key_value_heads=2), "recurrent state"),
        (BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4), "ALiBi"),
        (FalconConfig(**SMALL, num_attention_heads=4, alibi=True), "ALiBi"),
    ],
)
def test_unsuitable_architectures_are_refused(unsuitable: PretrainedConfig, reason: str) -> None:
    module = built(unsuitable)
    with pytest.raises(InvalidInput, match=reason) as refused:
        adopt_model(module, name="mine")
    assert refused.value.field == "model"
    assert refused.value.value == "'mine'"
    assert unsuitable.model_type in refused.value.reason


def test_an_encoder_decoder_is_refused_before_its_weights_load(tmp_path: Path) -> None:
    small = T5Config(
        vocab_size=64, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, is_decoder=False
    )
    small.save_pretrained(tmp_path)  # there are no weights at all
    with pytest.raises(InvalidInput, match="encoder-decoder"):
        load_model(tmp_path)
    with pytest.raises(InvalidInput, match="encoder-decoder"):
        adopt_model(T5ForConditionalGeneration(small))


def test_the_probe_notices_a_window_that_is_left_out() -> None:
    model = dataclasses.replace(tiny("mistral"), window=None)
    with pytest.raises(InvalidInput, match="differ from its paths"):
        probe(model)


def test_the_probe_notices_a_model_that_ignores_positions() -> None:
    module = built(config("gpt2"))
    forward = module.forward

    def without_positions(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: object = None,
        **rest: object,
    ) -> object:
        return forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **rest,
        )

    module.forward = without_positions
    with pytest.raises(InvalidInput, match="differ from its paths"):
        adopt_model(module)


def test_a_forward_that_fails_in_the_probe_is_a_refusal() -> None:
    module = built(config("llama"))
    forward = module.forward

    def no_masks(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: object = None,
        **rest: object,
    ) -> object:
        if attention_mask is not None:
            raise RuntimeError("too many values to unpack")
        return forward(input_ids=input_ids, past_key_values=past_key_values, **rest)

    module.forward = no_masks
    with pytest.raises(InvalidInput, match="too many values to unpack"):
        adopt_model(module)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_loads_with_its_end_tokens_and_limits(family: str, tmp_path: Path) -> None:
    tiny(family).module.save_pretrained(tmp_path)
    settings = tmp_path / "generation_config.json"
    changed = json.loads(settings.read_text()) | {"eos_token_id": [END_TOKEN, 7]}
    settings.write_text(json.dumps(changed))
    model = load_model(tmp_path, device="cpu", threads=1)
    assert model.end_tokens == (END_TOKEN, 7)
    assert model.vocab_size == VOCAB_SIZE
    assert model.context_tokens_max == 256
    assert model.window == tiny(family).window
    assert model.name == str(tmp_path)


def test_half_precision_passes_the_probe(tmp_path: Path) -> None:
    tiny("llama").module.save_pretrained(tmp_path)
    assert load_model(tmp_path, dtype="bfloat16", device="cpu").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("field", "value"),
    [("dtype", "int8"), ("device", "abacus"), ("threads", 0), ("model", "./nowhere")],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, field: str, value: str) -> None:
    settings: dict[str, object] = {"path_or_id": tmp_path, "device": "cpu"}
    settings["path_or_id" if field == "model" else field] = value
    with pytest.raises(InvalidInput) as refused:
        load_model(**settings)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_model(tmp_path, device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_a_model_passes_the_probe_on_cuda(tmp_path: Path) -> None:
    tiny("llama").module.save_pretrained(tmp_path)
    try:
        assert load_model(tmp_path, device="cuda").device.type == "cuda"
    except DraftError as error:
        pytest.fail(str(error))
