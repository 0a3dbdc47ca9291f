"""Linear layers whose weights lie as the CPU's matrix kernels read them.

torch brings a weight matrix into that order in every call, which reads and writes all of it: with the
few rows of a decoding step that is as much work as the product. Here it happens once.
"""

import torch
from torch import Tensor, nn

DTYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Module):
    """x [..., in] -> x W^T + b [..., out], as `linear` computes it. For inference on the CPU alone."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # oneDNN's own layout: not a parameter, as nothing may read or save it as a matrix.
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self.bias, "none", [], ""
        )
        return found

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def pack_linears(module: nn.Module) -> int:
    """Replace the linear layers in `module`; how many. Nothing, where torch lacks the kernels.

    Costs a second read of the weights, and memory for those that are tied to an embedding. Weights
    that only a linear layer held are freed one by one.
    """
    if not _has_kernels():
        return 0
    with torch.no_grad():
        return _pack(module)


def _pack(module: nn.Module) -> int:
    packed = 0
    for name, child in list(module.named_children()):
        # Not its subclasses: they may compute something else.
        if type(child) is nn.Linear and child.weight.dtype in DTYPES and child.weight.is_cpu:
            setattr(module, name, PackedLinear(child))
            packed += 1
        else:
            packed += _pack(child)
    return packed


def _has_kernels() -> bool:
    """torch keeps these under a private name, for its compiler: they may move."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and all(hasattr(torch.ops.mkldnn, name) for name in names)
