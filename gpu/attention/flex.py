"""Tree attention by torch's FlexAttention: the mask as a function, and only the blocks that a slot has.

Lengths are read on the device here too: the block mask is made of them within the step.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from retrieval_draft.gpu.attention.tree_view import NODES_MAX, TreeView

KEYS_BLOCK = 128
ROWS_BLOCK = 128
"""More than a tree has nodes: one block of rows."""
COMPILED_SHAPES_MAX = 256
"""Of one function, where torch's own limit is 8."""
ATTEND = cast(Callable[..., Tensor], flex_attention)


def block_mask(tree: TreeView, length: int) -> BlockMask:
    """For attention over slots of `length` entries; made of device operations only."""
    positions, sees, horizons = tree.positions, tree.sees, tree.horizons
    batch, n = positions.shape

    def is_seen(b: Tensor, head: Tensor, row: Tensor, entry: Tensor) -> Tensor:
        node = entry - positions[b, 0]
        bit = (sees[b, row] >> (node - 1).clamp(0, NODES_MAX - 1)) & 1
        stands = torch.where(node >= 0, positions[b, node.clamp(0, n - 1)], entry)
        in_tree = (node <= 0) | ((bit == 1) & (node < n))
        return in_tree & (stands >= horizons[b, row])

    blocks = -(-length // KEYS_BLOCK)
    first = horizons[:, :1].clamp(min=0) // KEYS_BLOCK
    end = (positions[:, :1] + n + KEYS_BLOCK - 1) // KEYS_BLOCK
    column = torch.arange(blocks, device=positions.device)
    indices = (first + column).clamp(max=blocks - 1).to(torch.int32)
    return BlockMask.from_kv_blocks(
        (end - first).to(torch.int32).view(batch, 1, 1),
        indices.view(batch, 1, 1, blocks),
        BLOCK_SIZE=(ROWS_BLOCK, KEYS_BLOCK),
        mask_mod=is_seen,
        seq_lengths=(n, length),
        compute_q_blocks=False,
    )


def flex_tree_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: BlockMask, scale: float
) -> Tensor:
    """[B, n, query heads, width] as of `kernel.tree_attention`; compiled anew for every shape on a GPU."""
    batch, heads = query.shape[:2]
    attend = ATTEND
    if _is_eager(query):
        allow_many_shapes()
        attend = _compiled()
    found: Tensor = attend(
        query,
        keys[:batch],
        values[:batch],
        block_mask=mask,
        scale=scale,
        enable_gqa=heads != keys.shape[1],
    )
    return found.transpose(1, 2).contiguous()


def _is_eager(query: Tensor) -> bool:
    """Whether nobody compiles this for us; on the CPU torch's own reference does."""
    return query.device.type == "cuda" and not torch.compiler.is_compiling()


def allow_many_shapes() -> None:
    """Call it where the compiled function is called: every thread has settings of its own. Some µs."""
    if torch._dynamo.config.recompile_limit < COMPILED_SHAPES_MAX:
        torch._dynamo.config.recompile_limit = COMPILED_SHAPES_MAX


@lru_cache
def _compiled() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(ATTEND, fullgraph=True, dynamic=False)
    return compiled
