"""Draft chains in TensorRT-LLM: `LLM(..., speculative_config=decoding_config(model))`. Untested on hardware.

The engine's user-provided drafter, of its PyTorch backend. It travels to the executor's process as what
it was made from, and connects there. One rank only: with several each would draft for itself, and two
that verify different drafts wait for each other.
"""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from retrieval_draft.adapters.chain import chain_of
from retrieval_draft.adapters.opening import serving_drafter
from retrieval_draft.adapters.serving import Row, ServedModel, ServingDrafter
from retrieval_draft.tree import int32s

TOKENS_MAX = 8
ERRORS_LOGGED_MAX = 10
log = logging.getLogger(__name__)


class Request(Protocol):
    """Of the engine's LlmRequest what is read and set."""

    request_id: int
    state: Any
    py_orig_prompt_len: int
    py_max_new_tokens: int
    py_draft_tokens: list[int]

    def get_tokens(self, beam: int) -> Sequence[int]: ...


def decoding_config(
    model: str, settings: Mapping[str, object] | None = None, *, tokens_max: int = TOKENS_MAX
) -> Any:
    """A UserProvidedDecodingConfig that drafts for this model, a folder or hub id.

    `settings` are the adapters' (`read_settings`), else the environment's.
    """
    auto: Any = import_module("transformers").AutoConfig
    text = auto.from_pretrained(model).get_text_config()
    ends = text.eos_token_id
    end_tokens = () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)
    served = ServedModel(model, int(text.vocab_size), end_tokens)
    kind: Any = import_module("tensorrt_llm.llmapi").UserProvidedDecodingConfig
    return kind(max_draft_len=tokens_max, drafter=make_drafter(served, settings, tokens_max))


def make_drafter(model: ServedModel, settings: Mapping[str, object] | None, tokens_max: int) -> Any:
    """A Drafter of the engine's; it can be pickled, and connects when it is first asked."""
    return _drafter_class()(model, settings, tokens_max)


class Chains:
    """The chains of an executor's requests. No call raises."""

    def __init__(
        self, drafter: ServingDrafter | None, model: ServedModel, tokens_max: int, complete: Any
    ) -> None:
        """`complete` is the state of a request that has ended."""
        self._drafter, self._model = drafter, model
        self._tokens_max, self._complete = tokens_max, complete
        self._open: dict[int, Request] = {}

    def draft(self, requests: Sequence[Request]) -> list[list[int]]:
        """A chain for each, perhaps an empty one."""
        if self._drafter is None:
            return [[] for _ in requests]
        self._finish({request.request_id for request in requests})
        rows = [self._row(request, self._tokens_max) for request in requests]
        self._open.update({request.request_id: request for request in requests})
        trees = self._drafter.step(rows)
        return [
            chain_of(tree, self._model.vocab_size, row.room)
            for row, tree in zip(rows, trees, strict=True)
        ]

    def _row(self, request: Request, nodes_max: int) -> Row:
        history = int32s(np.asarray(request.get_tokens(0)))
        task, salt = getattr(request, "lora_task_id", None), getattr(request, "cache_salt_id", None)
        return Row(
            str(request.request_id),
            history,
            fresh=max(0, len(history) - request.py_orig_prompt_len),
            nodes_max=nodes_max,
            length_max=request.py_orig_prompt_len + request.py_max_new_tokens,
            adapter="" if task is None else str(task),
            salt="" if salt is None else str(salt),
        )

    def _finish(self, present: set[int]) -> None:
        assert self._drafter is not None
        absent = [request for number, request in self._open.items() if number not in present]
        if not absent:
            return
        ended = [request for request in absent if request.state == self._complete]
        if ended:
            self._drafter.step([self._row(request, 0) for request in ended])
            self._drafter.finish([str(request.request_id) for request in ended])
        # Requests that are dropped while they wait may never be said to have ended.
        kept = set(self._drafter.open_requests())
        for request in absent:
            if str(request.request_id) not in kept:
                del self._open[request.request_id]


@lru_cache
def _drafter_class() -> type:
    base: Any = import_module("tensorrt_llm._torch.speculative.drafter").Drafter

    class RetrievalDrafter(base):  # type: ignore[misc]
        def __init__(
            self, model: ServedModel, settings: Mapping[str, object] | None, tokens_max: int
        ) -> None:
            super().__init__(**_arguments(base, tokens_max))
            self._made_from = (model, settings, tokens_max)
            self._chains: Chains | None = None
            self._errors = 0

        def __reduce__(self) -> tuple[Any, ...]:
            return make_drafter, self._made_from

        def prepare_draft_tokens(
            self, scheduled_requests: Any, resource_manager: object = None
        ) -> None:
            requests = list(scheduled_requests.generation_requests)
            try:
                drafts = self._connected().draft(requests)
            except Exception:
                # The executor dies of what its drafter raises.
                self._errors += 1
                if self._errors <= ERRORS_LOGGED_MAX:
                    log.exception("drafting failed")
                drafts = [[] for _ in requests]
            for request, draft in zip(requests, drafts, strict=True):
                request.py_draft_tokens = draft

        def _connected(self) -> Chains:
            if self._chains is None:
                model, settings, tokens_max = self._made_from
                ranks = int(import_module("tensorrt_llm._utils").mpi_world_size())
                drafter = None
                if ranks == 1:
                    drafter = serving_drafter(model, settings, os.environ)
                else:
                    log.error("no drafts: %d ranks, the limit is 1", ranks)
                states = import_module("tensorrt_llm._torch.pyexecutor.llm_request").LlmRequestState
                complete = states.GENERATION_COMPLETE
                self._chains = Chains(drafter, model, tokens_max, complete)
            return self._chains

    return RetrievalDrafter


def _arguments(base: type, tokens_max: int) -> dict[str, int]:
    """What this version's constructor calls the length of drafts."""
    lengths = ("max_draft_len", "max_total_draft_tokens", "max_draft_tokens")
    known = inspect.signature(base).parameters
    return {name: tokens_max for name in lengths if name in known}
