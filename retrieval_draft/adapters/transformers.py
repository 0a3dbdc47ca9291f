"""Draft chains in transformers' assisted decoding; trees are in `transformers_trees`.

`generate` has no argument for a candidate generator of one's own, but it calls a `custom_generate`
with all that it has prepared. Ours hands that to the model's own assisted decoding, so greedy output
equals plain `generate`, and sampled output has its law. It takes one sequence at a time.
"""

import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.candidate_generator import CandidateGenerator
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteriaList

from retrieval_draft.adapters.chain import chain_of
from retrieval_draft.adapters.opening import serving_drafter
from retrieval_draft.adapters.serving import Row, ServedModel, ServingDrafter
from retrieval_draft.step import Rows, TreeShape
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array

TOKENS_MAX = 8


class Streamer(Protocol):
    """As transformers' streamers are."""

    def put(self, value: Tensor) -> None: ...

    def end(self) -> None: ...


class Drafted:
    """A sequence as its drafter hears of it: tokens without padding, up to `length_max` positions."""

    def __init__(self, prompt: Int32Array, length_max: int, temperature: float) -> None:
        self.name = uuid.uuid4().hex
        self.length_max = length_max
        self.temperature = temperature
        self.rows: Rows | None = None
        """What the target predicted since the last step."""
        self._tokens = np.empty(max(length_max, len(prompt) + 1), np.int32)
        self._tokens[: len(prompt)] = prompt
        self._length = len(prompt)
        self._told = len(prompt)

    @property
    def history(self) -> Int32Array:
        """Prompt and output; a view."""
        return self._tokens[: self._length]

    def append(self, token: int) -> None:
        if self._length == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._length] = token
        self._length += 1

    def row(self, nodes_max: int) -> Row:
        """What is new since the last call, for a step of the drafter."""
        row = Row(
            self.name,
            self.history,
            fresh=self._length - self._told,
            nodes_max=nodes_max,
            length_max=self.length_max,
            temperature=self.temperature,
            rows=self.rows,
        )
        self._told, self.rows = self._length, None
        return row


class SharedDrafter:
    """A model's drafter, for calls of `generate` from any number of threads. No call raises."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Mapping[str, object] | None,
        shape: TreeShape,
        drafter: ServingDrafter | None,
    ) -> None:
        """`drafter`, or one of these settings; without any if they are wrong, which is logged."""
        self.serving = drafter or serving_drafter(served_model(model), settings, os.environ, shape)
        self._lock = threading.Lock()

    @property
    def observation_width(self) -> int:
        if self.serving is None:
            return 0
        with self._lock:
            return self.serving.observation_width

    def step(self, sequences: Sequence[Drafted], nodes_max: int) -> list[DraftTree]:
        """A draft for each, EMPTY where there is none."""
        rows = [sequence.row(nodes_max) for sequence in sequences]
        if self.serving is None:
            return [EMPTY] * len(rows)
        with self._lock:
            return self.serving.step(rows)

    def finish(self, sequences: Sequence[Drafted]) -> None:
        """They are over; what they gained last is learned too."""
        rows = [sequence.row(0) for sequence in sequences]
        if self.serving is None:
            return
        with self._lock:
            open_requests = set(self.serving.open_requests())
            known = [row for row in rows if row.request_id in open_requests]
            if known:
                self.serving.step(known)
                self.serving.finish([row.request_id for row in known])

    def close(self) -> None:
        """Let what is learned be learned, and leave the drafter."""
        if self.serving is not None:
            with self._lock:
                self.serving.close()


class Candidates(CandidateGenerator):
    """One sequence's drafts, as assisted decoding asks for them."""

    def __init__(
        self, drafter: SharedDrafter, settings: GenerationConfig, vocab_size: int, tokens_max: int
    ) -> None:
        self._drafter = drafter
        self._vocab_size, self._tokens_max = vocab_size, tokens_max
        self._length_max = int(settings.max_length)
        self._temperature = temperature_of(settings)
        self._sequence: Drafted | None = None

    # The base class says tensors alone; assisted decoding takes None for no logits.
    def get_candidates(  # type: ignore[override]
        self, input_ids: Tensor, **kwargs: object
    ) -> tuple[Tensor, None]:
        """`input_ids` [1, L] with a drafted continuation, perhaps an empty one."""
        self._note(input_ids)
        assert self._sequence is not None
        room = min(self._tokens_max, self._length_max - input_ids.shape[1] - 1)
        (tree,) = self._drafter.step([self._sequence], max(0, room))
        chain = chain_of(tree, self._vocab_size, room)
        if not chain:
            return input_ids, None
        drafted = torch.tensor([chain], dtype=input_ids.dtype, device=input_ids.device)
        return torch.cat((input_ids, drafted), -1), None

    def update_candidate_strategy(
        self, input_ids: Tensor, scores: Tensor, num_matches: int
    ) -> None:
        """Verification made `input_ids` [1, L] of it."""
        self._note(input_ids)

    def finish(self) -> None:
        if self._sequence is not None:
            self._drafter.finish([self._sequence])

    def _note(self, input_ids: Tensor) -> None:
        if self._sequence is None:
            prompt = input_ids[0].cpu().numpy().astype(np.int32)
            self._sequence = Drafted(prompt, self._length_max, self._temperature)
        for token in input_ids[0, len(self._sequence.history) :].tolist():
            self._sequence.append(token)


class ChainGenerate:
    """Pass it to `generate(custom_generate=...)`; one sequence at a time, greedy or sampled.

    `settings` are the adapters' (`read_settings`), else the environment's. A drafter may fail in any
    way: it costs drafts, never a token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Mapping[str, object] | None = None,
        *,
        tokens_max: int = TOKENS_MAX,
        drafter: ServingDrafter | None = None,
    ) -> None:
        self.drafter = SharedDrafter(model, settings, TreeShape.CHAIN, drafter)
        self._vocab_size = served_model(model).vocab_size
        self._tokens_max = tokens_max

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        token_streamer: Streamer | None = None,
        **inputs: object,
    ) -> object:
        """As `generate` calls it, and with its result. `token_streamer` is a streamer, which it does not
        pass on itself. Raises ValueError for several sequences, as assisted decoding does.
        """
        candidates = Candidates(self.drafter, generation_config, self._vocab_size, self._tokens_max)
        if token_streamer is not None:
            token_streamer.put(input_ids.cpu())
        try:
            return cast(Any, type(model))._assisted_decoding(
                _Assisted(model, candidates),
                input_ids,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
                generation_config=generation_config,
                streamer=token_streamer,
                **inputs,
            )
        finally:
            candidates.finish()


class _Assisted:
    """The model, but for where its candidates come from: nothing is patched, threads do not meet."""

    def __init__(self, model: PreTrainedModel, candidates: Candidates) -> None:
        self._model, self._candidates = model, candidates

    def _get_candidate_generator(self, **kwargs: object) -> Candidates:
        return self._candidates

    def __call__(self, **inputs: object) -> object:
        return self._model(**inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def served_model(model: PreTrainedModel) -> ServedModel:
    """What its drafter must know of it."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    end_tokens = () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)
    name = str(model.config.name_or_path or type(model).__name__)
    return ServedModel(name, int(model.config.get_text_config().vocab_size), end_tokens)


def temperature_of(settings: GenerationConfig) -> float:
    """0 is greedy."""
    return float(settings.temperature or 1.0) if settings.do_sample else 0.0
