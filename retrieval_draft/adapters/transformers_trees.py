"""Draft trees in transformers' `generate`, verified in one forward a step.

Every token is drawn as `generate` draws it: the same logits processors over the same prefix, the same
argmax or multinomial, once for each committed token and in order. So greedy output equals plain
`generate`, and for one sequence a sampled output equals what plain sampling gives after the same
`torch.manual_seed`, up to the rounding of a forward over several tokens. Processors and stopping
criteria see no token that plain decoding would not show them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.generation.utils import GenerateDecoderOnlyOutput

from retrieval_draft.adapters.serving import ServingDrafter
from retrieval_draft.adapters.transformers import (
    Drafted,
    SharedDrafter,
    Streamer,
    temperature_of,
)
from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.observe import Observed, joined, observe_prompt, observe_step
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.verify import Verified
from retrieval_draft.step import Rows, TreeShape
from retrieval_draft.tree import DraftTree

NODES_MAX = 16
NO_SCORES: Any = None
"""What criteria hear where no scores are asked for."""
INPUTS = {"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
"""What `generate` passes on for a model of text; anything else would be left out of the forwards."""
OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


class TreeGenerate:
    """Pass it to `generate(custom_generate=...)`; any batch size, greedy or sampled.

    `settings` are the adapters' (`read_settings`), else the environment's. The model's attention must
    take a 4D mask: InvalidInput says which do not. Keys and values of a call take 2 x layers x batch x
    max_length entries, at once. A drafter may fail in any way: it costs drafts, never a token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Mapping[str, object] | None = None,
        *,
        nodes_max: int = NODES_MAX,
        drafter: ServingDrafter | None = None,
    ) -> None:
        self.drafter = SharedDrafter(model, settings, TreeShape.TREE, drafter)
        self._target = adopt_model(model)
        self._nodes_max = nodes_max

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        token_streamer: Streamer | None = None,
        **inputs: object,
    ) -> Tensor | GenerateDecoderOnlyOutput:
        """As `generate` calls it. `token_streamer` is a streamer, which it does not pass on itself.

        Raises InvalidInput for what trees cannot do: beams, inputs that are not text, a filled cache,
        scores and hidden states as output.
        """
        if model is not self._target.module:
            raise InvalidInput("model", type(model).__name__, "the model it was made for")
        _refuse(generation_config, inputs)
        rows = _rows(input_ids, inputs.get("attention_mask"), generation_config)
        runner = Runner(
            self._target,
            slots=len(rows),
            length_max=int(generation_config.max_length),
            nodes_max=self._nodes_max,
        )
        drawing = Drawing(logits_processor, stopping_criteria, bool(generation_config.do_sample))
        decoding = Decoding(self._target, runner, self.drafter, drawing, self._nodes_max)
        if token_streamer is not None:
            token_streamer.put(input_ids.cpu())
        try:
            for tokens in decoding.run(rows):
                if token_streamer is not None:
                    token_streamer.put(torch.tensor(tokens))
        finally:
            self.drafter.finish([row.drafted for row in rows])
        if token_streamer is not None:
            token_streamer.end()
        sequences = _padded(rows, generation_config)
        if generation_config.return_dict_in_generate:
            return GenerateDecoderOnlyOutput(sequences=cast(torch.LongTensor, sequences))
        return sequences


@dataclass(slots=True)
class Row:
    """One sequence: `ids` as `generate` sees it, padding included; its last token stands at `cached`."""

    ids: Tensor
    drafted: Drafted
    cached: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """How `generate` was told to draw and to stop."""

    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    is_sampling: bool

    def draw(self, row: Row, logits: Tensor) -> int:
        """The token after the row's last, of raw logits [1, V]; the row has it then."""
        ids = cast(torch.LongTensor, row.ids)
        raw = logits.to(row.ids.device, torch.float32, copy=True)
        scores: Tensor = self.processors(ids, cast(torch.FloatTensor, raw))
        if self.is_sampling:
            drawn = torch.multinomial(scores.softmax(-1), num_samples=1)
        else:
            drawn = scores.argmax(-1, keepdim=True)
        token = int(drawn)
        row.ids = torch.cat((row.ids, drawn), -1)
        row.drafted.append(token)
        row.ended = bool(self.criteria(cast(torch.LongTensor, row.ids), NO_SCORES).all())
        return token

    def descend(self, row: Row, tree: DraftTree, logits: Tensor) -> Verified:
        """Go down while a child carries the token drawn, to the first other token or the row's end."""
        edges = zip(tree.parent.tolist(), tree.token.tolist(), strict=True)
        children = {edge: i for i, edge in enumerate(edges)}
        path: list[int] = []
        tokens: list[int] = []
        node: int | None = -1
        while node is not None and not row.ended:
            tokens.append(self.draw(row, logits[node + 1 : node + 2]))
            node = children.get((node, tokens[-1]))
            if node is not None:
                path.append(node)
        return Verified(tuple(path), tuple(tokens))


class Decoding:
    """The rows of one call, in slots of a runner; one that has ended leaves its slot to the last."""

    def __init__(
        self,
        target: TargetModel,
        runner: Runner,
        drafter: SharedDrafter,
        drawing: Drawing,
        nodes_max: int,
    ) -> None:
        self._target, self._runner, self._drafter = target, runner, drafter
        self._drawing, self._nodes_max = drawing, nodes_max

    def run(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Decode all rows to their ends; yields what the first running one gains, step by step."""
        running: list[Row] = []
        for row in rows:
            yield [self._prefill(len(running), row)]
            if not row.ended:
                running.append(row)
        while running:
            yield self._step(running)

    def _prefill(self, slot: int, row: Row) -> int:
        width = self._drafter.observation_width
        seen: list[Rows] = []

        def observe(chunk: Tensor, start: int) -> None:
            seen.append(observe_prompt(chunk, start, width))

        prompt = row.drafted.history
        logits = self._runner.prefill(slot, prompt, observe if width > 0 else None)
        row.drafted.rows = joined(seen) if seen else None
        return self._drawing.draw(row, logits)

    def _step(self, running: list[Row]) -> list[int]:
        trees = self._drafter.step([row.drafted for row in running], self._nodes_max)
        cached = [row.cached for row in running]
        roots = [int(row.drafted.history[-1]) for row in running]
        logits = self._runner.step(cached, roots, trees)
        verified = [
            self._drawing.descend(row, tree, logits[slot])
            for slot, (row, tree) in enumerate(zip(running, trees, strict=True))
        ]
        self._runner.keep(cached, [one.path for one in verified])
        self._observe(running, trees, verified, logits)
        for slot in range(len(running) - 1, -1, -1):
            running[slot].cached += len(verified[slot].tokens)
            if running[slot].ended:
                self._drafter.finish([running[slot].drafted])
                last = running.pop()
                if slot < len(running):
                    self._runner.copy_slot(len(running), slot, last.cached)
                    running[slot] = last
        return list(verified[0].tokens)

    def _observe(
        self,
        running: Sequence[Row],
        trees: Sequence[DraftTree],
        verified: Sequence[Verified],
        logits: Tensor,
    ) -> None:
        width = self._drafter.observation_width
        if width <= 0:
            return
        observed = [
            Observed(slot, row.cached, len(trees[slot]), verified[slot].path)
            for slot, row in enumerate(running)
        ]
        for row, seen in zip(running, observe_step(logits, observed, width), strict=True):
            row.drafted.rows = seen


def _refuse(settings: GenerationConfig, inputs: Mapping[str, object]) -> None:
    """Raises InvalidInput for what would be left out silently."""
    if (beams := settings.num_beams or 1) > 1:
        raise InvalidInput("num_beams", beams, "1 with draft trees")
    for name in OUTPUTS:
        if settings.return_dict_in_generate and getattr(settings, name, False):
            raise InvalidInput(name, True, "False with draft trees")
    for name in sorted(inputs):
        if inputs[name] is not None and name not in INPUTS:
            raise InvalidInput(name, "given", "left out: draft trees decode text alone")
    cache = inputs.get("past_key_values")
    if isinstance(cache, Cache) and (seen := int(cache.get_seq_length())):
        raise InvalidInput("past_key_values", f"of {seen} tokens", "empty or left out")


def _rows(input_ids: Tensor, mask: object, settings: GenerationConfig) -> list[Row]:
    """A row for each prompt, without the padding to its left. Raises InvalidInput for other padding."""
    rows: list[Row] = []
    for i, ids in enumerate(input_ids):
        start = 0
        if isinstance(mask, Tensor):
            kept = mask[i].bool().cpu().numpy()
            start = int(kept.argmax())
            if not kept[start:].all():
                raise InvalidInput("attention_mask", "with a gap", "padding on the left alone")
        prompt = ids[start:].cpu().numpy().astype(np.int32)
        drafted = Drafted(prompt, int(settings.max_length) - start, temperature_of(settings))
        rows.append(Row(ids[None], drafted, len(prompt)))
    return rows


def _padded(rows: Sequence[Row], settings: GenerationConfig) -> Tensor:
    """int64[B, L]: shorter rows are filled up on the right, as `generate` does."""
    pad = settings._pad_token_tensor
    filler = 0 if pad is None else int(pad)
    length = max(row.ids.shape[1] for row in rows)
    return torch.cat(
        [
            torch.nn.functional.pad(row.ids, (0, length - row.ids.shape[1]), value=filler)
            for row in rows
        ]
    )
