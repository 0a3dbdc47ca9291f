"""Packed linear layers compute what torch's own do, whatever the rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrieval_draft.gpu.packed_linear import PackedLinear, pack_linears

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


class _Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def _linear(inner: int, outer: int, has_bias: bool, dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(inner * 1000 + outer)
    linear = nn.Linear(inner, outer, bias=has_bias)
    nn.init.normal_(linear.weight, std=inner**-0.5)
    return linear.to(dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@settings(max_examples=25, deadline=None)
@given(
    inner=st.integers(1, 70),
    outer=st.integers(1, 70),
    rows=st.integers(1, 20),
    has_bias=st.booleans(),
)
def test_as_torch_computes_it(
    dtype: torch.dtype, inner: int, outer: int, rows: int, has_bias: bool
) -> None:
    linear = _linear(inner, outer, has_bias, dtype)
    x = torch.randn(2, rows, inner).to(dtype)
    with torch.inference_mode():
        torch.testing.assert_close(
            PackedLinear(linear)(x), linear(x), atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype]
        )


def test_a_row_does_not_depend_on_its_neighbours_in_float32() -> None:
    packed = PackedLinear(_linear(96, 200, False, torch.float32))
    x = torch.randn(40, 96)
    with torch.inference_mode():
        together = packed(x)
        for rows in (1, 3, 9, 17):
            torch.testing.assert_close(packed(x[:rows]), together[:rows], atol=1e-6, rtol=0)


def test_packs_what_it_can_and_nothing_else() -> None:
    module = nn.ModuleDict(
        {
            "plain": nn.Linear(4, 4),
            "inside": nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
            "doubled": _Doubled(4, 4),
            "narrow": nn.Linear(4, 4, dtype=torch.float16),
        }
    )
    assert pack_linears(module) == 2
    inside = module["inside"]
    assert isinstance(inside, nn.Sequential)
    assert isinstance(module["plain"], PackedLinear)
    assert isinstance(inside[0], PackedLinear)
    assert type(module["doubled"]) is _Doubled
    assert type(module["narrow"]) is nn.Linear


def test_nothing_is_packed_where_torch_lacks_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    module = nn.Sequential(nn.Linear(4, 4))
    assert pack_linears(module) == 0
    assert type(module[0]) is nn.Linear
