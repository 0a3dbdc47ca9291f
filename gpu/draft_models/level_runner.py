"""Runs a draft model over slots: chunks of text, and the new nodes of trees that grow level by level.

The cache is one of its own (`SlotCache`): a slot's first entries are its committed tokens, what stands
behind them is scratch. Lengths are the caller's.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.gpu.draft_models.level_mask import level_masks
from retrieval_draft.gpu.runner import layer_shapes
from retrieval_draft.gpu.slot_cache import Move, SlotCache
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import BoolArray, Int64Array

CHUNK_TOKENS_MAX = 512


class LevelRunner:
    """Up to `slots` sequences of `length` entries each. Call everything under `inference_mode`."""

    def __init__(self, model: TargetModel, slots: int, length: int) -> None:
        self.model = model
        self._cache = SlotCache(layer_shapes(model), slots, length, model.dtype, model.device)

    def read(self, slot: int, tokens: Sequence[int], cached: int) -> int:
        """Cache the next chunk of a slot's text; how many of its tokens are cached then."""
        part = np.array(tokens[cached : cached + CHUNK_TOKENS_MAX], np.int64)[None]
        n = int(part.shape[1])
        self._cache.aim_one(slot, cached, n)
        sees = np.tri(n, dtype=np.bool_)[None]
        positions = np.arange(cached, cached + n)[None]
        self._forward(np.array([cached]), part, positions, sees, last_only=True)
        return cached + n

    def extend(
        self, cached: Int64Array, tokens: Int64Array, positions: Int64Array, sees: BoolArray
    ) -> Tensor:
        """Logits [B, n, V] of the n newest of m entries behind the `cached` ones of slots 0..B-1.

        `tokens` int64[B, n]; `positions` int64[B, m]; `sees` bool[B, n, m], each row itself at least.
        """
        batch, n, m = sees.shape
        older = m - n
        if batch == 1:
            self._cache.aim_one(0, int(cached[0]) + older, n)
        else:
            at = torch.from_numpy(cached + older).to(self.model.device)
            self._cache.aim_many(batch, at, n, int(cached.max()) + m)
        return self._forward(cached, tokens, positions, sees)

    def keep(self, moves: list[Move]) -> None:
        """Make accepted paths contiguous."""
        self._cache.keep(moves)

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Give slot `target` the first entries of slot `source`."""
        self._cache.copy_slot(source, target, length)

    def scramble(self) -> None:
        """Noise in every slot, as if each were full: for measurements without text."""
        self._cache.scramble()

    def _forward(
        self,
        cached: Int64Array,
        tokens: Int64Array,
        positions: Int64Array,
        sees: BoolArray,
        *,
        last_only: bool = False,
    ) -> Tensor:
        model = self.model
        masks = level_masks(cached, sees, positions, model.window, model.dtype, model.device)
        newest = np.ascontiguousarray(positions[:, -tokens.shape[1] :])
        return model.forward(
            torch.from_numpy(tokens).to(model.device),
            torch.from_numpy(newest).to(model.device),
            masks,
            self._cache,
            last_only=last_only,
        )
