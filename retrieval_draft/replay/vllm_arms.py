"""vLLM on this machine's CPU, with one drafter or another, for measuring them in one process.

All engines live in this process, so that arms alternate within seconds and no start is measured; an arm
begins every run with a drafter that has learned nothing. Needs the environment of `make vllm-env`.
"""

import os
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_draft.adapters.settings import IN_PROCESS, SIDECAR
from retrieval_draft.adapters.vllm.proposer import SETTINGS_KEY
from retrieval_draft.errors import FailedPrecondition

PROPOSER = "retrieval_draft.adapters.vllm.Proposer"
PLAIN, DEFAULT, NGRAM, SUFFIX, OURS = "plain", "default", "ngram", "suffix", "ours"
LENGTH_MAX = 1024
_UNHURRIED: dict[str, object] = {"step_ms_max": 1000}
"""vLLM's own drafters have no deadline: with ours a busy machine would measure itself."""
CACHE_BYTES = 1 << 28
READY_SECONDS_MAX = 300.0
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
"""One thread: vLLM's ngram starts as many as numba may, and with them torch's of every engine here; two
that wait for each other on a busy machine cost twenty times the CPU of one.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What decoding all prompts once came to."""

    tokens: int
    sequences: int
    seconds: float
    cpu_seconds: float
    """Of this process, all its threads: what a busy machine changes least."""
    steps: int
    """Rows of all decoding steps, drafted or not."""
    drafts: int
    drafted: int
    accepted: int
    """What vLLM counts: beyond a request's last token too, where a draft went on behind it."""
    digest: str
    """MD5 of all output tokens."""
    outputs: list[list[int]] = field(default_factory=list[list[int]], repr=False)
    propose_us: list[int] = field(default_factory=list[int])

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def tokens_per_cpu_second(self) -> float:
        return self.tokens / self.cpu_seconds

    @property
    def mat(self) -> float:
        """Tokens gained per step over all steps, those without drafts too; prefill's token left out."""
        return (self.tokens - self.sequences) / max(1, self.steps)

    @property
    def accepted_length(self) -> float:
        """vLLM's mean accepted length: over drafted steps, the bonus token included."""
        return 1 + self.accepted / max(1, self.drafts)

    def added_us(self, percent: float) -> float:
        """A step's time in the drafter."""
        return float(np.percentile(self.propose_us or [0], percent))


@dataclass(slots=True)
class Counts:
    """What vLLM's scheduler counts, and the drafter's part of every step."""

    rows: int = 0
    """Of all decoding steps that a drafter was asked for, drafted or not."""
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    propose_us: list[int] = field(default_factory=list[int])


class VllmEngine:
    """One engine; `kind` is plain, default, ngram, suffix or ours."""

    def __init__(
        self, kind: str, model: Path, tokens_max: int, sequences_max: int, seed: int = 0
    ) -> None:
        os.environ.update(ENVIRONMENT)
        if kind != DEFAULT:
            os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
        else:
            os.environ.pop("VLLM_USE_V2_MODEL_RUNNER", None)
        try:
            vllm = import_module("vllm")
        except ImportError as error:
            raise FailedPrecondition(f"vLLM is not installed: `make vllm-env` ({error})") from error
        options: dict[str, object] = {} if kind == DEFAULT else {"async_scheduling": False}
        self.kind = kind
        self._parameters = vllm.SamplingParams
        self._llm: Any = vllm.LLM(
            str(model),
            skip_tokenizer_init=True,
            dtype="float32",
            enforce_eager=True,
            max_model_len=LENGTH_MAX,
            max_num_seqs=sequences_max,
            kv_cache_memory_bytes=CACHE_BYTES,
            enable_prefix_caching=False,
            disable_log_stats=False,
            distributed_executor_backend="uni",
            speculative_config=_speculative(kind, tokens_max),
            additional_config={SETTINGS_KEY: {"off": True}} if kind == OURS else {},
            seed=seed,
            **options,
        )
        _register_kernels_once()
        worker = self._llm.llm_engine.model_executor.driver_worker.worker
        self._runner: Any = worker.model_runner
        self.counts = Counts()
        self._begun = 0
        self._count()

    def renew(self, settings: dict[str, object] | None = None, *, is_absent: bool = False) -> None:
        """A drafter that has learned nothing yet; ours with these settings, ready when this returns.

        What the engine's steps cost is the engine's, and ours goes on knowing it. With `is_absent` there is
        nothing at the address that they name.
        """
        if self.kind not in (SUFFIX, OURS):
            return
        before = self._serving()
        self.close_drafter()
        config = self.config(settings)
        self._runner.drafter = type(self._runner.drafter)(config)
        serving = self._serving()
        if serving is None or settings is None:
            return
        if before is not None and before.times is not None and serving.times is not None:
            serving.times = before.times
        if not is_absent:
            self._wait_for(serving)

    def config(self, settings: dict[str, object] | None) -> Any:
        """vLLM's configuration, with these settings of ours."""
        found = self._runner.vllm_config
        if self.kind == OURS:
            found.additional_config = {SETTINGS_KEY: settings or {"off": True}}
        return found

    @property
    def drafter(self) -> object:
        """What proposes in this engine."""
        return self._runner.drafter

    def counter(self, name: str) -> int:
        """What vLLM itself exports as vllm:spec_decode_NAME: of the newest engine of a process alone."""
        found = [one for one in self._llm.get_metrics() if one.name == f"vllm:spec_decode_{name}"]
        return int(found[0].value)

    def close_drafter(self) -> None:
        """What ours has learned is flushed."""
        if (serving := self._serving()) is not None:
            serving.close()

    def begin(self, prompt: list[int], tokens: int, temperature: float, seed: int) -> str:
        """From the next step on; its id. Without a temperature the seed is not used."""
        self._begun += 1
        name = f"request-{self._begun}"
        self._llm.llm_engine.add_request(
            name,
            {"prompt_token_ids": prompt},
            self._parameters(
                temperature=temperature,
                seed=seed if temperature else None,
                max_tokens=tokens,
                ignore_eos=True,
                detokenize=False,
            ),
        )
        return name

    def step(self) -> dict[str, list[int]]:
        """One step; the outputs of the requests that ended with it."""
        return {
            one.request_id: list(one.outputs[0].token_ids)
            for one in self._llm.llm_engine.step()
            if one.finished
        }

    def pause(self) -> None:
        """Others have the machine now: what passes until the next step is not what a step takes."""
        if (serving := self._serving()) is not None:
            serving.step([])

    def count_anew(self) -> None:
        """From here on `counts` counts, and the drafter's part of every step is timed."""
        self.counts = Counts()
        if getattr(self._runner, "drafter", None) is not None:
            self._time()

    def close(self) -> None:
        self.close_drafter()
        self._llm.llm_engine.engine_core.shutdown()

    def _wait_for(self, serving: Any) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while serving.observation_width == 0:
            if time.monotonic() > deadline:
                raise FailedPrecondition("the drafter does not come up")
            time.sleep(0.02)

    def _serving(self) -> Any:
        """Ours, if this engine has it and it is not switched off."""
        drafter = getattr(self._runner, "drafter", None)
        return getattr(drafter, "drafter", None) if self.kind == OURS else None

    def _time(self) -> None:
        # Not the drafter's own: ours is left out of steps while its sidecar is away.
        vars(self._runner).pop("propose_draft_token_ids", None)
        propose, counts = self._runner.propose_draft_token_ids, self.counts

        def timed(*args: object, **kwargs: object) -> object:
            began = time.perf_counter()
            found = propose(*args, **kwargs)
            counts.propose_us.append(int(1e6 * (time.perf_counter() - began)))
            given = (*args, *kwargs.values())
            sampled = next(one for one in given if isinstance(one, list))
            counts.rows += sum(len(row) > 0 for row in sampled)
            return found

        self._runner.propose_draft_token_ids = timed

    def _count(self) -> None:
        """Count what vLLM's scheduler counts: its exported counters are of the newest engine alone."""
        scheduler = self._llm.llm_engine.engine_core.engine_core.scheduler
        counted = scheduler.make_spec_decoding_stats

        def counting(
            stats: object, num_draft_tokens: int, num_accepted_tokens: int, *args: Any, **more: Any
        ) -> object:
            if num_draft_tokens:
                self.counts.drafts += 1
                self.counts.drafted += num_draft_tokens
                self.counts.accepted += num_accepted_tokens
            return counted(stats, num_draft_tokens, num_accepted_tokens, *args, **more)

        scheduler.make_spec_decoding_stats = counting


def ours_in_process(namespace: str, redis: str = "none") -> dict[str, object]:
    return {**_UNHURRIED, "transport": IN_PROCESS, "redis": redis, "namespace": namespace}


def ours_by_sidecar(namespace: str, target: str) -> dict[str, object]:
    return {**_UNHURRIED, "transport": SIDECAR, "sidecar": target, "namespace": namespace}


def _speculative(kind: str, tokens_max: int) -> dict[str, object] | None:
    if kind in (PLAIN, DEFAULT):
        return None
    found: dict[str, object] = {"method": kind, "num_speculative_tokens": tokens_max}
    if kind == NGRAM:
        # vLLM's documented example.
        found |= {"prompt_lookup_max": 5, "prompt_lookup_min": 2}
    if kind == OURS:
        found |= {"method": "custom_class", "model": PROPOSER}
    return found


def _register_kernels_once() -> None:
    """vLLM registers its CPU kernels per engine, and its second search trips over modules of numba's."""
    platform = import_module("vllm.platforms").current_platform
    type(platform).register_triton_kernel_overrides = classmethod(lambda _: None)
