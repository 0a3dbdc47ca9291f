"""Masks for a tree that grows level by level: new nodes see committed tokens and older nodes of their path.

`tree_mask` builds those of whole trees, where every node is new; here the older ones are in the cache.
"""

import numpy as np
import torch

from retrieval_draft.gpu.tree_mask import Masks
from retrieval_draft.tree import BoolArray, Int64Array


def level_masks(
    cached: Int64Array,
    sees: BoolArray,
    positions: Int64Array,
    window: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Masks:
    """Masks [B, 1, n, max(cached) + m] of the n newest of m entries behind each sequence's cached ones.

    `sees` bool[B, n, m]; `positions` int64[B, m] of all m entries, which differ from their places in the
    cache. A row must see something: itself, if nothing else.
    """
    batch, n, m = sees.shape
    cached_max = int(cached.max())
    lowest = torch.finfo(dtype).min
    columns = torch.arange(cached_max + m, device=device)
    lengths = torch.from_numpy(cached).to(device)
    full = torch.zeros((batch, cached_max + m), dtype=dtype, device=device)
    full = full.masked_fill_(columns >= lengths[:, None], lowest)[:, None].repeat(1, n, 1)
    block = np.where(sees, np.float32(0), np.float32(lowest))
    entries = (lengths[:, None] + columns[:m])[:, None].expand(batch, n, m)
    full.scatter_(2, entries, torch.from_numpy(block).to(device, dtype))
    if window is None or cached_max + m <= window:
        return Masks(full[:, None], full[:, None])
    at = torch.from_numpy(positions).to(device)
    key_position = columns.repeat(batch, 1).scatter_(1, entries[:, 0], at)
    near = at[:, m - n :, None] - key_position[:, None] < window
    return Masks(full[:, None], full.masked_fill(~near, lowest)[:, None])
