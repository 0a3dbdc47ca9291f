"""vLLM's part of a step, and what a proposer reads of its configuration and requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from retrieval_draft.adapters.vllm import Proposer, plugin
from retrieval_draft.adapters.vllm import proposer as proposing
from tests.engine.driving import VOCAB

TOKENS_MAX, LENGTH_MAX, ROWS_MAX = 6, 128, 4


@dataclass
class ModelConfig:
    model: str = "models/tiny"
    max_model_len: int = LENGTH_MAX
    is_hybrid: bool = False
    is_attention_free: bool = False
    hf_config: object = field(default_factory=lambda: SimpleNamespace(eos_token_id=0))

    def get_vocab_size(self) -> int:
        return VOCAB


@dataclass
class Speculative:
    num_speculative_tokens: int = TOKENS_MAX


@dataclass
class Config:
    model_config: proposing.ModelConfig = field(default_factory=ModelConfig)
    speculative_config: proposing.SpeculativeConfig = field(default_factory=Speculative)
    additional_config: object = field(default_factory=dict[str, object])


@dataclass
class Params:
    temperature: float = 0.0
    max_tokens: int | None = None
    ignore_eos: bool = False
    stop_token_ids: Sequence[int] | None = None
    all_stop_token_ids: set[int] = field(default_factory=lambda: {0})
    extra_args: Mapping[str, object] | None = None


@dataclass
class Lora:
    lora_name: str


@dataclass
class Request:
    text: list[int]
    num_prompt_tokens: int = 8
    sampling_params: proposing.SamplingParams | None = field(default_factory=Params)
    lora_request: proposing.Lora | None = None


class Worker:
    """A model runner's part of a step: rows that move, and checks of what a proposer returns."""

    def __init__(self, proposer: Proposer, *, is_naming: bool = True) -> None:
        self.drafter, self.is_naming = proposer, is_naming
        self.texts: dict[str, list[int]] = {}
        self.requests: dict[str, proposing.Request] = {}
        self.input_batch = SimpleNamespace(req_ids=[])
        self.num_spec_tokens = TOKENS_MAX
        self.lengths = np.zeros(ROWS_MAX, np.int32)
        self.tokens = np.zeros((ROWS_MAX, LENGTH_MAX), np.int32)
        self.accepted = dict[str, int]()
        self.drafts: dict[str, list[int]] = {}
        self.at = dict[str, int]()

    def add(self, name: str, request: Request) -> None:
        self.requests[name], self.texts[name] = request, request.text
        self.at[name], self.accepted[name], self.drafts[name] = request.num_prompt_tokens, 0, []

    def step(self, *names: str, tokens_max: int = TOKENS_MAX) -> None:
        """Verify every row's draft, commit, and take the next drafts."""
        sampled: list[list[int]] = []
        self.input_batch.req_ids[:] = names
        for row, name in enumerate(names):
            text, at, kept = self.texts[name], self.at[name], 0
            for token in self.drafts[name]:
                if at + kept >= len(text) - 1 or text[at + kept] != token:
                    break
                kept += 1
            sampled.append(text[at : at + kept + 1])
            self.accepted[name] += kept
            self.at[name] = at + len(sampled[-1])
            self.tokens[row, : self.at[name]] = text[: self.at[name]]
            self.lengths[row] = self.at[name]
        propose = plugin._naming_rows(Worker._propose) if self.is_naming else Worker._propose
        step = SimpleNamespace(num_spec_tokens_to_schedule=tokens_max)
        found = propose(self, step, sampled)
        self.take(names, found, tokens_max)

    def _propose(self, scheduler_output: object, sampled: list[list[int]]) -> object:
        return self.drafter.propose(sampled, self.lengths, self.tokens)

    def take(self, names: tuple[str, ...], found: object, tokens_max: int) -> None:
        assert isinstance(found, list)
        assert len(found) == len(names)
        for row, (name, draft) in enumerate(zip(names, found, strict=True)):
            assert type(draft) is list
            assert all(type(token) is int for token in draft)
            assert all(0 <= token < VOCAB for token in draft)
            assert len(draft) <= tokens_max
            assert not draft or self.lengths[row] + len(draft) < LENGTH_MAX
            self.drafts[name] = draft

    def finish(self, *names: str) -> None:
        for name in names:
            del self.requests[name]
        self.drafter.ended(self.requests)

    def run(self, *names: str) -> None:
        while going := [n for n in names if self.at[n] < len(self.texts[n])]:
            self.step(*going)
        self.finish(*names)
