"""What vLLM calls each step for drafts.

An engine dies of an exception, a draft that is too long, an id outside the vocabulary, an array or None:
what leaves `propose` is always one list of Python ints per row, each of the vocabulary, none too long.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.util import Finalize
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrieval_draft.adapters.chain import chain_of
from retrieval_draft.adapters.opening import serving_drafter
from retrieval_draft.adapters.serving import Row, ServedModel, ServingDrafter
from retrieval_draft.adapters.tracking import Tracker
from retrieval_draft.tree import Int32Array

SETTINGS_KEY = "retrieval_draft"
"""Of vLLM's additional_config."""
SALT_KEY = "retrieval_draft_salt"
"""Of a request's extra_args: those reach the worker, its cache salt does not (see `plugin`)."""
UNNAMED_SECONDS_MAX = 60.0
"""Requests that vLLM does not name end when they have not been seen for so long."""
ERRORS_LOGGED_MAX = 10

log = logging.getLogger(__name__)


class ModelConfig(Protocol):
    """What is read of vLLM's."""

    model: str
    max_model_len: int
    is_hybrid: bool
    is_attention_free: bool

    def get_vocab_size(self) -> int: ...


class SpeculativeConfig(Protocol):
    num_speculative_tokens: int


class VllmConfig(Protocol):
    model_config: ModelConfig
    speculative_config: SpeculativeConfig
    additional_config: object


class SamplingParams(Protocol):
    temperature: float
    max_tokens: int | None
    ignore_eos: bool
    stop_token_ids: Sequence[int] | None
    all_stop_token_ids: set[int]
    extra_args: Mapping[str, object] | None


class Lora(Protocol):
    lora_name: str


class Request(Protocol):
    """A request as the worker keeps it from its first step to its end, preempted or not."""

    num_prompt_tokens: int
    sampling_params: SamplingParams | None
    lora_request: Lora | None


@dataclass(frozen=True, slots=True)
class Bound:
    """What the plugin tells of a step: its rows' ids, every request that is not over, how much to draft."""

    request_ids: Sequence[str]
    requests: Mapping[str, Request]
    tokens_max: int


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a request asked for, read once: it is the same in every step."""

    params: SamplingParams | None
    length_max: int
    temperature: float | None
    end_tokens: tuple[int, ...] | None
    adapter: str
    salt: str


class Proposer:
    """Drafts for vLLM's `custom_class` method. Nothing that it is called for raises or waits for long."""

    def __init__(self, vllm_config: VllmConfig) -> None:
        self._drafter: ServingDrafter | None = None
        self._bound: Bound | None = None
        self._is_named = False
        self._terms: dict[str, _Terms] = {}
        self._tracker = Tracker(UNNAMED_SECONDS_MAX)
        self._errors = 0
        self._tokens_max = self._length_max = self._vocab_size = 0
        self.has_state = True
        """Recurrent layers, or nothing known of them: vLLM must hear that it speculates in every step."""
        try:
            self._drafter = self._started(vllm_config)
        except Exception:
            log.exception("no drafts, drafting failed to start")
        if self._drafter is not None:
            # Runs where a process of multiprocessing ends, and in any other.
            Finalize(None, self._drafter.close, exitpriority=10)

    @property
    def drafter(self) -> ServingDrafter | None:
        """None where this process has nothing to draft: by its settings, its rank or its model."""
        return self._drafter

    def load_model(self, *args: object, **kwargs: object) -> None:
        """There is none to load."""

    def rests(self) -> bool:
        """Whether the coming step needs neither `bind` nor `propose`: it would get no drafts."""
        try:
            return self._drafter is None or self._drafter.rests()
        except Exception:
            self._failed()
            return False

    def bind(self, bound: Bound) -> None:
        """Of the step whose `propose` is next."""
        self._bound = bound

    def ended(self, requests: Mapping[str, Request]) -> None:
        """These are the requests that are not over: close the others."""
        try:
            if self._drafter is not None and self._is_named:
                self._drafter.finish_all_but(requests)
                for name in self._terms.keys() - requests.keys():
                    del self._terms[name]
        except Exception:
            self._failed()

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: npt.NDArray[np.integer],
        token_ids_cpu: Int32Array,
        slot_mappings: object = None,
    ) -> list[list[int]]:
        """A chain per row of the batch, [] where there is none.

        sampled_token_ids: what this step committed per row, [] for an unfinished prefill;
        token_ids_cpu int32[rows, max_model_len]: every row's tokens, of which the first
        num_tokens_no_spec are committed.
        """
        bound, self._bound = self._bound, None
        self._is_named = bound is not None
        drafts: list[list[int]] = [[] for _ in sampled_token_ids]
        if self._drafter is None:
            return drafts
        try:
            at = [i for i, fresh in enumerate(sampled_token_ids) if len(fresh)]
            fresh = [len(sampled_token_ids[i]) for i in at]
            histories = [token_ids_cpu[i, : int(num_tokens_no_spec[i])] for i in at]
            rows = self._rows(bound, at, histories, fresh)
            trees = self._drafter.step(rows, others=len(drafts) - len(at))
            chains = [
                chain_of(tree, self._vocab_size, row.room)
                for row, tree in zip(rows, trees, strict=True)
            ]
        except Exception:
            self._failed()
            return drafts
        for i, chain in zip(at, chains, strict=True):
            drafts[i] = chain
        return drafts

    def _started(self, vllm_config: VllmConfig) -> ServingDrafter | None:
        model = vllm_config.model_config
        self.has_state = model.is_hybrid or model.is_attention_free
        if not _is_leader():
            return None
        said = vllm_config.additional_config
        mapping = said.get(SETTINGS_KEY) if isinstance(said, Mapping) else None
        if mapping is not None and not isinstance(mapping, Mapping):
            log.error("no drafts: additional_config[%r] is not a mapping", SETTINGS_KEY)
            return None
        self._tokens_max = vllm_config.speculative_config.num_speculative_tokens
        self._length_max = model.max_model_len
        self._vocab_size = model.get_vocab_size()
        served = ServedModel(
            model.model,
            self._vocab_size,
            _end_tokens(getattr(model, "hf_config", None)),
            has_state=self.has_state,
        )
        return serving_drafter(served, mapping, os.environ)

    def _rows(
        self, bound: Bound | None, at: list[int], histories: list[Int32Array], fresh: list[int]
    ) -> list[Row]:
        most = self._tokens_max
        if bound is None:
            now = time.monotonic()
            names = self._tracker.names(histories, fresh, now)
            if self._drafter is not None:
                self._drafter.finish(self._tracker.gone(now))
            return [
                Row(name, history, new, most, self._length_max)
                for name, history, new in zip(names, histories, fresh, strict=True)
            ]
        most = min(most, bound.tokens_max)
        rows: list[Row] = []
        for i, history, new in zip(at, histories, fresh, strict=True):
            name = bound.request_ids[i]
            request = bound.requests[name]
            # Steps may have been left out since it began.
            output = max(new, len(history) - request.num_prompt_tokens)
            rows.append(self._row(name, request, history, output, most))
        return rows

    def _row(self, name: str, request: Request, history: Int32Array, output: int, most: int) -> Row:
        terms = self._terms.get(name)
        if terms is None or terms.params is not request.sampling_params:
            terms = self._terms[name] = _terms(request, self._length_max)
        return Row(
            name,
            history,
            output,
            most,
            terms.length_max,
            terms.temperature,
            terms.end_tokens,
            terms.adapter,
            terms.salt,
        )

    def _failed(self) -> None:
        self._errors += 1
        if self._errors <= ERRORS_LOGGED_MAX:
            log.exception("drafting failed")


def _terms(request: Request, length_max: int) -> _Terms:
    params, lora = request.sampling_params, request.lora_request
    adapter = "" if lora is None else lora.lora_name
    if params is None:
        return _Terms(None, length_max, None, None, adapter, "")
    if params.max_tokens is not None:
        length_max = min(length_max, request.num_prompt_tokens + params.max_tokens)
    stops = params.stop_token_ids if params.ignore_eos else params.all_stop_token_ids
    salt = str((params.extra_args or {}).get(SALT_KEY, ""))
    end_tokens = tuple(sorted(stops or ()))
    return _Terms(params, length_max, params.temperature, end_tokens, adapter, salt)


def _is_leader() -> bool:
    """Whether vLLM takes drafts from this process: the first of its tensor-parallel ranks.

    All of them propose, the last pipeline stage's, and one is heard.
    """
    state = import_module("vllm.distributed.parallel_state")
    rank: int = state.get_tp_group().rank_in_group
    return rank == 0


def _end_tokens(hf_config: object) -> tuple[int, ...]:
    found = getattr(hf_config, "eos_token_id", None)
    if isinstance(found, int):
        return (found,)
    return tuple(found) if isinstance(found, list) else ()
