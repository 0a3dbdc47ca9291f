"""Tree attention inside transformers: an attention of ours that tells by its mask what to do.

A float mask is SDPA's, as ever. An integer one is a `TreeView` and goes to the kernel, a block mask to
FlexAttention. So which of them is used is up to whoever makes the masks of a forward, forward by forward.
"""

from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from retrieval_draft.gpu.attention.flex import flex_tree_attention
from retrieval_draft.gpu.attention.tree_view import TreeView
from retrieval_draft.gpu.folded_attention import NAME as FOLDED
from retrieval_draft.gpu.folded_attention import attend_by, folded_attention, sdpa
from retrieval_draft.gpu.target import TargetModel

NAME = "retrieval_draft_tree"
NOT_SERVED = ("softcap", "s_aux", "position_bias")


def register(model: TargetModel) -> bool:
    """Let this model attend so, if it uses SDPA; one that attends in its own way stays as it is."""
    if model.module.config._attn_implementation not in ("sdpa", FOLDED, NAME):
        return False
    attend_by(model.module, NAME, attend)
    return bool(model.module.config._attn_implementation == NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """[B, n, heads, width] of `query` [B, heads, n, width]. Raises ValueError for what trees have not."""
    if attention_mask is None or (
        isinstance(attention_mask, Tensor) and attention_mask.is_floating_point()
    ):
        leave = folded_attention if query.device.type == "cpu" else sdpa
        return leave(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if asked := [name for name in NOT_SERVED if kwargs.get(name) is not None]:
        raise ValueError(f"tree attention has no {', '.join(asked)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(attention_mask, BlockMask):
        return flex_tree_attention(query, key, value, attention_mask, scale), None
    # Needs Triton, which not every torch brings along.
    from retrieval_draft.gpu.attention.operator import tree_attention_operator

    tree = TreeView.of(attention_mask)
    return tree_attention_operator(
        query, key, value, tree.positions, tree.sees, tree.horizons, scale
    ), None
