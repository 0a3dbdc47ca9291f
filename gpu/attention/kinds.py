"""The ways to compute tree attention, and the masks by which `register.attend` tells them apart."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from retrieval_draft.gpu.attention.flex import block_mask
from retrieval_draft.gpu.attention.tree_view import TreeView
from retrieval_draft.gpu.target import TargetModel

Kind = Literal["sdpa", "triton", "flex"]
KINDS: tuple[Kind, ...] = ("sdpa", "triton", "flex")


@dataclass(frozen=True, slots=True, eq=False)
class TreeMasks:
    """Of full and of sliding attention; one object where the model has but one."""

    full: Tensor | BlockMask
    sliding: Tensor | BlockMask


def available() -> tuple[Kind, ...]:
    """Those that this installation can run."""
    return KINDS if find_spec("triton") else ("sdpa", "flex")


def tree_masks(
    kind: Kind, model: TargetModel, positions: Tensor, sees: Tensor, columns: Tensor
) -> TreeMasks:
    """Of trees int64[B, n], see `TreeView`, over as many entries as `columns`, their arange, has."""
    if model.window is None:
        mask = _mask(kind, TreeView(positions, sees, positions * 0), columns, model.dtype)
        return TreeMasks(mask, mask)
    horizons = positions - (model.window - 1)
    sliding = _mask(kind, TreeView(positions, sees, horizons), columns, model.dtype)
    if not model.has_layer_types:
        return TreeMasks(sliding, sliding)
    everything = TreeView(positions, sees, positions * 0)
    return TreeMasks(_mask(kind, everything, columns, model.dtype), sliding)


def _mask(kind: Kind, tree: TreeView, columns: Tensor, dtype: torch.dtype) -> Tensor | BlockMask:
    match kind:
        case "sdpa":
            return tree.additive(columns, dtype)
        case "triton":
            return tree.packed()
        case "flex":
            return block_mask(tree, len(columns))
    assert_never(kind)
