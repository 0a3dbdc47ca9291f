"""Our entry point in `vllm.general_plugins`: tells the proposer whose rows a step has.

vLLM passes no request ids to a `custom_class`, and its rows change places between steps. Where what is
wrapped here is not as expected, nothing is wrapped, and the proposer tells requests by their tokens.

It also sends a step that verifies nothing through its rejection sampler (seen in 0.32), which costs such a
step 0.2 to 0.3 ms on a CPU. Here they are prepared as without drafts. What its sampler does wrong on CPUs is
mended (see `cpu_sampler`).
"""

import dis
import logging
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from retrieval_draft.adapters.vllm import cpu_sampler
from retrieval_draft.adapters.vllm.proposer import SALT_KEY, Bound, Proposer

log = logging.getLogger(__name__)

_MARK = "_retrieval_draft"


def register() -> None:
    """Called by vLLM in each of its processes, perhaps more than once. Never raises."""
    for module, name, methods in (
        ("vllm.v1.worker.gpu_model_runner", "GPUModelRunner", _RUNNER),
        ("vllm.v1.core.sched.output", "NewRequestData", _NEW_REQUEST),
        ("vllm.v1.worker.gpu_model_runner", "GPUModelRunner", _PREPARING),
    ):
        try:
            _wrap(getattr(import_module(module), name), methods)
        except Exception as error:
            log.warning("vLLM is not as expected, going on without %s.%s: %s", module, name, error)
    try:
        _wrap(import_module(cpu_sampler.MODULE), _CPU_SAMPLER)
    except Exception as error:
        # Nothing that versions for other devices need to have.
        log.debug("vLLM's CPU sampler is left alone: %s", error)


def _wrap(kind: Any, methods: dict[str, Callable[..., Any]]) -> None:
    """Of a class or a module, all of these or none."""
    for method in methods:
        if not callable(getattr(kind, method, None)):
            raise AttributeError(f"there is no {method}")
    for method, wrapped in methods.items():
        before = getattr(kind, method)
        if not hasattr(before, _MARK):
            after = wrapped(before)
            setattr(after, _MARK, True)
            is_class_method = getattr(before, "__self__", None) is kind
            setattr(kind, method, staticmethod(after) if is_class_method else after)


def _naming_rows(propose: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(propose)
    def wrapped(
        runner: Any, scheduler_output: Any, sampled_token_ids: Any, *args: Any, **kwargs: Any
    ) -> Any:
        drafter = getattr(runner, "drafter", None)
        if isinstance(drafter, Proposer):
            if drafter.rests():
                return [[] for _ in sampled_token_ids]
            _bind(drafter, runner, scheduler_output)
        return propose(runner, scheduler_output, sampled_token_ids, *args, **kwargs)

    return wrapped


def _bind(drafter: Proposer, runner: Any, scheduler_output: Any) -> None:
    try:
        # Zero in versions that always schedule as many as are configured.
        most = getattr(scheduler_output, "num_spec_tokens_to_schedule", 0)
        ids = runner.input_batch.req_ids
        drafter.bind(Bound(ids, runner.requests, most or runner.num_spec_tokens))
    except Exception as error:
        log.warning("vLLM does not say whose rows a step has: %s", error)


def _noticing_ends(update: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(update)
    def wrapped(runner: Any, *args: Any, **kwargs: Any) -> Any:
        found = update(runner, *args, **kwargs)
        drafter = getattr(runner, "drafter", None)
        if isinstance(drafter, Proposer):
            drafter.ended(runner.requests)
        return found

    return wrapped


def _keeping_salts(from_request: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(from_request)
    def wrapped(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            params, salt = request.sampling_params, getattr(request, "cache_salt", None)
            if params is not None and salt:
                params.extra_args = {**(params.extra_args or {}), SALT_KEY: salt}
        except Exception as error:
            log.warning("a cache salt was lost: %s", error)
        return from_request(request, *args, **kwargs)

    return wrapped


def _without_drafts(prepare: Callable[..., Any]) -> Callable[..., Any]:
    code = getattr(prepare, "__code__", None)
    if code is None or sum(one.argval == _CONFIG for one in dis.get_instructions(code)) != 1:
        # It asks for something else as well, or already for the step's own drafts.
        return prepare

    @wraps(prepare)
    def wrapped(runner: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        drafter = getattr(runner, "drafter", None)
        if (
            not isinstance(drafter, Proposer)
            or drafter.has_state
            or getattr(scheduler_output, "scheduled_spec_decode_tokens", True)
        ):
            return prepare(runner, scheduler_output, *args, **kwargs)
        config, runner.speculative_config = runner.speculative_config, None
        try:
            return prepare(runner, scheduler_output, *args, **kwargs)
        finally:
            runner.speculative_config = config

    return wrapped


_CONFIG = "speculative_config"
_RUNNER = {"propose_draft_token_ids": _naming_rows, "_update_states": _noticing_ends}
_NEW_REQUEST = {"from_request": _keeping_salts}
_PREPARING = {"_prepare_inputs": _without_drafts}
_CPU_SAMPLER = {cpu_sampler.FUNCTION: cpu_sampler.mending}
