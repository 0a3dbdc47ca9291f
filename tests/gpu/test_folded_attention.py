"""Folded attention against transformers' eager attention, and where it leaves a call to transformers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from retrieval_draft.gpu import folded_attention as folded
from retrieval_draft.gpu.folded_attention import folded_attention, use_folded_attention

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


class _Layer(nn.Module):
    """What transformers' functions read of an attention layer."""

    is_causal = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.train(False)


def _reference(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """In float64, a head at a time."""
    shared = query.shape[1] // key.shape[1]
    heads = []
    for head in range(query.shape[1]):
        keys, values = key[:, head // shared].double(), value[:, head // shared].double()
        scores = query[:, head].double() @ keys.transpose(1, 2) * scale + mask[:, 0].double()
        heads.append(scores.softmax(-1) @ values)
    return torch.stack(heads, 2)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    shared=st.integers(1, 4),
    n=st.integers(1, 12),
    cached=st.integers(0, 40),
    width=st.sampled_from([4, 8, 16]),
    seed=st.integers(0, 99),
)
def test_as_the_definition(
    dtype: torch.dtype,
    batch: int,
    groups: int,
    shared: int,
    n: int,
    cached: int,
    width: int,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    length = cached + n
    # Keys and values are windows of a longer cache, and tensors of their own where `value` is wider.
    pool = normal(batch, groups, length + 5, width)
    key, value = pool[:, :, :length], normal(batch, groups, length, width + 4)
    query = normal(batch, groups * shared, n, width)
    hidden = torch.rand((batch, 1, n, length), generator=generator) < 0.3
    hidden[..., torch.arange(n), cached + torch.arange(n)] = False
    mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)
    with torch.inference_mode():
        found, weights = folded_attention(_Layer(shared), query, key, value, mask, scaling=0.3)
    assert weights is None
    expected = _reference(query, key, value, mask, 0.3)
    off = TOLERANCES[dtype]
    torch.testing.assert_close(found.double(), expected, atol=off, rtol=off)


def test_the_scale_is_that_of_the_width_where_none_is_given() -> None:
    query, key, value = torch.randn(3, 1, 2, 4, 16).unbind()
    mask = torch.zeros(1, 1, 4, 4)
    found, _ = folded_attention(_Layer(1), query, key, value, mask)
    reference = _reference(query, key, value, mask, 16**-0.5)
    torch.testing.assert_close(found.double(), reference, rtol=1e-5, atol=1e-6)


def test_what_it_does_not_know_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def left(*args: object, **others: object) -> tuple[Tensor, None]:
        asked.append(",".join(name for name, value in others.items() if value is not None))
        return torch.zeros(0), None

    monkeypatch.setattr(folded, "sdpa", left)
    query, key, value = torch.randn(3, 1, 2, 4, 16).unbind()
    mask = torch.zeros(1, 1, 4, 4)
    folded_attention(_Layer(1), query, key, value, None)
    folded_attention(_Layer(1), query, key, value, mask, dropout=0.1)
    folded_attention(_Layer(1), query, key, value, mask > 0)
    folded_attention(_Layer(1), query, key, value, mask.repeat(1, 2, 1, 1))
    folded_attention(_Layer(1), query, key, value, mask, softcap=30.0)
    folded_attention(_Layer(1), query, key, value, mask, position_bias=mask)
    assert asked == ["", "", "", "", "softcap", "position_bias"]
    folded_attention(_Layer(1), query, key, value, mask, softcap=None)
    assert len(asked) == 6


def test_a_model_uses_it_only_in_place_of_sdpa() -> None:
    config = Qwen3Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    model = Qwen3ForCausalLM(config)
    model.set_attn_implementation("eager")
    use_folded_attention(model)
    assert model.config._attn_implementation == "eager"
    model.set_attn_implementation("sdpa")
    use_folded_attention(model)
    assert model.config._attn_implementation == folded.NAME
