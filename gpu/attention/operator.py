"""The kernel as an operator of torch's, so that a compiled forward holds it as one opaque call."""

import torch
from torch import Tensor

from retrieval_draft.gpu.attention.kernel import tree_attention
from retrieval_draft.gpu.attention.tree_view import TreeView


@torch.library.custom_op("retrieval_draft::tree_attention", mutates_args=())
def tree_attention_operator(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    sees: Tensor,
    horizons: Tensor,
    scale: float,
) -> Tensor:
    """`tree_attention` of the parts of a `TreeView`."""
    # Triton launches on the thread's current device, wherever the tensors are.
    with torch.cuda.device(query.get_device()):
        return tree_attention(query, keys, values, TreeView(positions, sees, horizons), scale)


@tree_attention_operator.register_fake
def _shape(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    sees: Tensor,
    horizons: Tensor,
    scale: float,
) -> Tensor:
    batch, heads, nodes, width = query.shape
    return query.new_empty((batch, nodes, heads, width))
