"""Attention of a few queries over many keys on the CPU, heads that share keys folded into rows.

Grouped queries (Ainslie et al., arXiv 2305.13245) share a head's keys: transformers' own path repeats the
keys for each of them as soon as there is more than one query, which a tree always has. Here the queries of
a group are rows of one matrix, and keys and values are read where they lie. In bfloat16 three products of
torch's matrix kernels are faster than its fused attention, if the large operand, the keys, comes first:
it then needs no repacking. Scores are rounded to the dtype, as transformers' eager attention rounds them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

Attention = Callable[..., tuple[Tensor, None]]
"""`transformers.AttentionInterface`'s contract."""

NAME = "retrieval_draft_folded"
sdpa: Attention = sdpa_attention_forward
# What changes the result and is not computed here: such calls are left to transformers.
OTHER = ("softcap", "position_bias", "s_aux", "cache", "head_mask")


def folded_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """[B, n, H, D] for queries [B, H, n, D], keys and values [B, G, K, D], mask float[B or 1, 1, n, K].

    `transformers.AttentionInterface`'s contract. Without an additive mask, or with an option that this does
    not know, transformers' sdpa does it.
    """
    if attention_mask is None or not _is_plain(query, attention_mask, dropout, others):
        return sdpa(module, query, key, value, attention_mask, dropout, scaling, **others)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _by_products if query.dtype == torch.bfloat16 else _fused
    return attend(query, key, value, attention_mask, scale), None


def use_folded_attention(module: PreTrainedModel) -> bool:
    """Let a model that attends by sdpa on the CPU attend by this. False: it stays as it is."""
    if module.device.type != "cpu" or module.config._attn_implementation != "sdpa":
        return False
    attend_by(module, NAME, folded_attention)
    return True


def attend_by(module: PreTrainedModel, name: str, attention: Attention) -> None:
    """Let a model attend by a function of ours, which transformers then knows by this name.

    It is given the masks that a model makes for sdpa, and 4D ones as they are.
    """
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    module.set_attn_implementation(name)


def _is_plain(query: Tensor, mask: Tensor, dropout: float, others: dict[str, object]) -> bool:
    return (
        not dropout
        and mask.dtype == query.dtype
        and mask.shape[1] == 1
        and all(others.get(name) is None for name in OTHER)
    )


def _by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    batch, heads, n, width = query.shape
    groups, length = key.shape[1], key.shape[2]
    shared = heads // groups
    rows = (query * scale).reshape(batch * groups, shared * n, width)
    scores = torch.bmm(key.reshape(-1, length, width), rows.transpose(1, 2))
    by_row = scores.transpose(1, 2).contiguous()
    by_row.view(batch, groups, shared, n, length).add_(mask[:, :, None])
    weights = by_row.softmax(-1)
    found = torch.bmm(weights, value.reshape(-1, length, value.shape[-1]))
    return found.view(batch, heads, n, -1).transpose(1, 2)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    batch, heads, n, width = query.shape
    groups = key.shape[1]
    shared = heads // groups
    rows = query.reshape(batch, groups, shared * n, width)
    by_row = mask if shared == 1 else mask.repeat(1, 1, shared, 1)
    found = scaled_dot_product_attention(rows, key, value, attn_mask=by_row, scale=scale)
    return found.view(batch, heads, n, -1).transpose(1, 2)
