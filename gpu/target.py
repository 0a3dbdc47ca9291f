"""The target model as decoding sees it: a forward over tokens, positions, masks, slot cache."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from retrieval_draft.gpu.slot_cache import SlotCache

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

SUITABLE = "a causal language model whose attention takes a 4D mask"


class AttentionMasks(Protocol):
    """Of full and of sliding attention, in whatever form the model's attention takes."""

    @property
    def full(self) -> "Tensor | BlockMask": ...

    @property
    def sliding(self) -> "Tensor | BlockMask": ...


@dataclass(frozen=True, slots=True, eq=False)
class TargetModel:
    """A model that may verify trees, and what decoding must know of it.

    `window` is the sliding window of some or all layers, None if all attend to everything.
    """

    module: PreTrainedModel
    name: str
    vocab_size: int
    context_tokens_max: int
    end_tokens: tuple[int, ...]
    window: int | None
    has_layer_types: bool
    takes_logits_to_keep: bool
    device: torch.device
    dtype: torch.dtype

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        masks: AttentionMasks,
        cache: SlotCache,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Logits [B, n, V] of tokens int64[B, n]; `cache` must be aimed at them.

        `last_only` lets the model skip all but the last token's logits: [B, 1, V].
        """
        mask: object = masks.full
        if self.window is not None:
            mask = masks.sliding
            if self.has_layer_types:
                mask = {"full_attention": masks.full, "sliding_attention": masks.sliding}
        extra = {"logits_to_keep": 1} if last_only and self.takes_logits_to_keep else {}
        logits: Tensor = self.module(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **extra,
        ).logits
        return logits[:, -1:] if last_only else logits
