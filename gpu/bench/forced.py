"""Trace-forced decoding: a model of noise does the real work, a recorded output decides what is kept.

Where no real weights are at hand. The forward, the draws over the whole vocabulary and the moving of
keys and values are all done; only the token that a draw gives is replaced by the recorded one at that
position. Prompts are not computed: the cache holds noise as long as they are. Nothing may be observed:
what a model of noise predicts would only mislead.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.running import Prefill
from retrieval_draft.gpu.verify import Draws
from retrieval_draft.tree import DraftTree


class ForcedDraws:
    """Draws that do their work and then answer with `output`, whose first token the root precedes."""

    def __init__(self, draws: Draws, parents: Sequence[int], output: Sequence[int]) -> None:
        self._draws, self._parents, self._output = draws, parents, output

    def __call__(self, node: int) -> int:
        self._draws(node)
        depth = 0
        while node >= 0:
            node = self._parents[node]
            depth += 1
        return self._output[depth]

    def chances(self, node: int, tokens: list[int]) -> list[float]:
        return [float(token == self(node)) for token in tokens]

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        return chance >= 1.0

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        return self(node)


class ForcedDecoder(Decoder):
    """A decoder whose sequences all continue as `outputs` say, by sequence id."""

    outputs: Mapping[str, Sequence[int]]

    def _draws(self, logits: Tensor, trees: Sequence[DraftTree]) -> list[Draws]:
        forced: list[Draws] = []
        real = super()._draws(logits, trees)
        for sequence, tree, draws in zip(self._running, trees, real, strict=True):
            request = sequence.request
            at = sequence.cached + 1 - len(request.prompt)
            output = self.outputs[request.sequence_id][at:]
            forced.append(ForcedDraws(draws, tree.parent.tolist(), output))
        return forced

    def _prefill_chunk(self, begun: Prefill) -> Tensor:
        request = begun.sequence.request
        begun.at = len(request.prompt)
        logits = torch.zeros((1, self.model.vocab_size), device=self.model.device)
        logits[0, self.outputs[request.sequence_id][0]] = 1.0
        return logits
