"""Runs the target over slots: prompts in chunks, and one ragged forward for all sequences' trees.

Sequences stand densely in slots 0..B-1. The runner knows slots, cached lengths and trees; it knows
nothing of requests, sampling or drafters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.slot_cache import LayerShape, Move, SlotCache
from retrieval_draft.gpu.static_steps import StaticInputs, StaticSteps
from retrieval_draft.gpu.target import SUITABLE, TargetModel
from retrieval_draft.gpu.tree_mask import MaskMaker, Masks, batched, rooted
from retrieval_draft.tree import DraftTree, Int32Array

PREFILL_TOKENS_MAX = 512
PREFILL_LOGITS_BYTES_MAX = 256 << 20

OnChunk = Callable[[Tensor, int], None]  # logits [c, V] and the position of their first token


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Of one forward: tokens and positions int64[B, n], and the masks of its trees."""

    tokens: Tensor
    positions: Tensor
    masks: Masks


class Runner:
    """A target and its slots. Positions 0..length_max-1; trees of up to nodes_max nodes.

    With `static`, steps that fit its shapes are left to it (`acceleration.accelerate` sets it). Call
    everything under `torch.inference_mode()`.
    """

    def __init__(self, model: TargetModel, *, slots: int, length_max: int, nodes_max: int) -> None:
        """Raises InvalidInput."""
        if slots < 1:
            raise InvalidInput("slots", slots, "1 or more")
        if nodes_max < 0:
            raise InvalidInput("nodes_max", nodes_max, "0 or more")
        self.model, self.slots = model, slots
        self.length_max, self.nodes_max = length_max, nodes_max
        # A tree's nodes stand behind the committed tokens, and so do the fillers of a ragged batch.
        length = length_max + nodes_max + 1
        self.static: StaticSteps | None = None
        self.is_first = False
        """Whether the newest step was the first of its shape, and took longer than it will again."""
        self.states: Tensor | None = None
        """Hidden states [B, n, width] of the newest step, if it was static: nobody can watch that."""
        self.cache = SlotCache(layer_shapes(model), slots, length, model.dtype, model.device)
        self._masks = MaskMaker(length, nodes_max, model.window, model.dtype, model.device)
        self._positions = torch.arange(length, device=model.device)[None]
        self._chunk = min(
            PREFILL_TOKENS_MAX, max(1, PREFILL_LOGITS_BYTES_MAX // (4 * model.vocab_size))
        )

    def prefill(self, slot: int, tokens: Int32Array, on_chunk: OnChunk | None = None) -> Tensor:
        """Cache a prompt in a slot; logits [1, V] after its last token.

        In chunks of at most 512 tokens. With `on_chunk` every position's logits are computed, a
        chunk at a time; without it only the last one's.
        """
        logits, start = torch.empty(0), 0
        while start < len(tokens):
            logits, start = self.prefill_chunk(slot, tokens, start, on_chunk)
        return logits

    def prefill_chunk(
        self, slot: int, tokens: Int32Array, start: int, on_chunk: OnChunk | None = None
    ) -> tuple[Tensor, int]:
        """Cache the next chunk of a prompt, from `start` on; the logits after it, and where it ends."""
        part = tokens[start : start + self._chunk].astype(np.int64)
        n = len(part)
        self.cache.aim_one(slot, start, n)
        logits = self.model.forward(
            torch.from_numpy(part).to(self.model.device)[None],
            self._positions[:, start : start + n],
            self._masks.chain(start, n),
            self.cache,
            last_only=on_chunk is None,
        )
        if on_chunk is not None:
            on_chunk(logits[0], start)
        return logits[0, -1:], start + n

    def step(
        self, cached: Sequence[int], roots: Sequence[int], trees: Sequence[DraftTree]
    ) -> Tensor:
        """Logits [B, n, V] of each slot's root, the token at position cached[b], and its tree.

        Valid until the next step. Row 0 is the root's, row i + 1 that of node i; rows behind a shorter
        tree are filler. The target writes its entries behind the cached ones: call `keep` with what is
        accepted.
        """
        return self.forward(self.prepare(cached, roots, trees))

    def prepare(
        self, cached: Sequence[int], roots: Sequence[int], trees: Sequence[DraftTree]
    ) -> Inputs | StaticInputs:
        """The first half of `step`: inputs on the device, and the cache aimed at them."""
        if self.static is not None:
            inputs = self.static.prepare(cached, roots, trees)
            if inputs is not None:
                return inputs
        return self._prepare_ragged(cached, roots, trees)

    def forward(self, inputs: Inputs | StaticInputs) -> Tensor:
        """The second half: the newest inputs, once."""
        self.states, self.is_first = None, False
        if isinstance(inputs, StaticInputs):
            assert self.static is not None
            logits = self.static.forward(inputs)
            self.is_first = self.static.is_first
            if logits is not None:
                self.states = self.static.states
                return logits
            inputs = self._prepare_ragged(inputs.cached, inputs.roots, inputs.trees)
        return self.model.forward(inputs.tokens, inputs.positions, inputs.masks, self.cache)

    def keep(self, cached: Sequence[int], paths: Sequence[Sequence[int]]) -> None:
        """Make the accepted paths contiguous behind the roots; free where they already are."""
        moves: list[Move] = []
        for slot, (length, path) in enumerate(zip(cached, paths, strict=True)):
            first = next((i for i, node in enumerate(path) if node != i), None)
            if first is not None:
                sources = [length + 1 + node for node in path[first:]]
                moves.append(Move(slot, sources, length + 1 + first))
        self.cache.keep(moves)

    def copy_slot(self, source: int, target: int, cached: int) -> None:
        """Give slot `target` the first `cached` tokens of slot `source`."""
        self.cache.copy_slot(source, target, cached)

    def scramble(self) -> None:
        """Noise in every slot, as if each were full: for measurements without prompts."""
        self.cache.scramble()

    def _prepare_ragged(
        self, cached: Sequence[int], roots: Sequence[int], trees: Sequence[DraftTree]
    ) -> Inputs:
        if len(cached) == 1:
            return self._prepare_one(cached[0], roots[0], trees[0])
        return self._prepare_many(cached, roots, trees)

    def _prepare_one(self, cached: int, root: int, tree: DraftTree) -> Inputs:
        n = len(tree) + 1
        self.cache.aim_one(0, cached, n)
        if n == 1:
            tokens = torch.tensor([[root]], device=self.model.device)
            positions = self._positions[:, cached : cached + 1]
            masks = self._masks.one(cached, None, None)
        else:
            sees, depth = rooted(tree)
            row = np.empty((2, 1, n), np.int64)
            row[0, 0, 0] = root
            row[0, 0, 1:] = tree.token
            row[1, 0] = depth + cached
            tokens, positions = torch.from_numpy(row).to(self.model.device).unbind(0)
            masks = self._masks.one(cached, sees, depth)
        return Inputs(tokens, positions, masks)

    def _prepare_many(
        self, cached: Sequence[int], roots: Sequence[int], trees: Sequence[DraftTree]
    ) -> Inputs:
        device = self.model.device
        cached_max = max(cached)
        lengths = np.array(cached, np.int64)
        n = 1 + max(len(tree) for tree in trees)
        sees, depth = batched([rooted(tree) for tree in trees]) if n > 1 else (None, None)
        row = np.zeros((2, len(cached), n), np.int64)
        row[0, :, 0] = roots
        for b, tree in enumerate(trees):
            row[0, b, 1 : 1 + len(tree)] = tree.token
        row[1] = lengths[:, None] if depth is None else lengths[:, None] + depth
        tokens, positions = torch.from_numpy(row).to(device).unbind(0)
        at = positions[:, 0].contiguous()
        masks = self._masks.many(at, cached_max, sees, positions - at[:, None])
        self.cache.aim_many(len(cached), at, n, cached_max + n)
        return Inputs(tokens, positions, masks)


def layer_shapes(model: TargetModel) -> list[LayerShape]:
    """Shapes of every layer's keys and values, from a forward of one token."""
    cache = DynamicCache()
    with torch.inference_mode():
        model.module(
            input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device),
            past_key_values=cache,
            use_cache=True,
        )
    shapes: list[LayerShape] = []
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not (isinstance(keys, Tensor) and isinstance(values, Tensor)):
            reason = f"a layer keeps a {type(layer).__name__} in place of keys and values"
            raise InvalidInput("model", model.name, SUITABLE, reason)
        shapes.append(LayerShape(keys.shape[1], keys.shape[-1], values.shape[-1]))
    return shapes
