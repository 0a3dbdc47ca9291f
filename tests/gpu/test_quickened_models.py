"""What the worker does to a model for the CPU, and that a model which does not bear it loads all the same."""

from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, LlamaForCausalLM

from retrieval_draft.gpu import folded_attention as folded
from retrieval_draft.gpu.model import adopt_model, load_model
from retrieval_draft.gpu.packed_linear import PackedLinear
from tests.gpu.models import built, config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("llama")
    torch.manual_seed(5)
    built(config("llama")).save_pretrained(found)
    return found


def _packed(module: nn.Module) -> bool:
    return any(isinstance(part, PackedLinear) for part in module.modules())


def test_a_model_is_quickened(folder: Path) -> None:
    module = load_model(folder, device="cpu").module
    assert _packed(module)
    assert module.config._attn_implementation == folded.NAME


def test_a_model_that_reads_its_head_is_loaded_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = cast("Callable[..., object]", LlamaForCausalLM.forward)

    def reading(self: LlamaForCausalLM, *args: object, **others: object) -> object:
        assert isinstance(self.lm_head.weight, torch.Tensor)
        return forward(self, *args, **others)

    update_wrapper(reading, forward)
    monkeypatch.setattr(LlamaForCausalLM, "forward", reading)
    model = load_model(folder, device="cpu")
    assert not _packed(model.module)
    tokens = torch.arange(5)[None]
    with torch.inference_mode():
        model.module(input_ids=tokens)


def test_a_model_that_attends_wrongly_when_folded_keeps_sdpa(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attend = folded.folded_attention

    def wrong(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **others: object,
    ) -> tuple[torch.Tensor, None]:
        mask = None if attention_mask is None else torch.zeros_like(attention_mask)
        return attend(module, query, key, value, mask)

    monkeypatch.setattr(folded, "folded_attention", wrong)
    # Registered for the whole process: the right one has to come back for the models of other tests.
    monkeypatch.setitem(AttentionInterface._global_mapping, folded.NAME, attend)
    module = built(config("llama"))
    adopt_model(module)
    assert module.config._attn_implementation == "sdpa"
