"""What the worker does, for Prometheus, under vLLM's names and with its formulas.

acceptance rate        vllm:spec_decode_num_accepted_tokens / vllm:spec_decode_num_draft_tokens
mean accepted length   1 + vllm:spec_decode_num_accepted_tokens / vllm:spec_decode_num_drafts
"""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from retrieval_draft.gpu.decoding_thread import DecodingThread
from retrieval_draft.gpu.request import Figures
from retrieval_draft.tree import DraftTree, Int32Array

POSITIONS_MAX = 64
LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One worker's counters. `verified` fits Decoder.on_step; all may be called from any thread."""

    def __init__(self, model: str, thread: DecodingThread | None = None) -> None:
        self._registry = CollectorRegistry()
        name = {"labelnames": ("model_name",), "registry": self._registry}

        def counter(metric: str, text: str) -> Counter:
            return Counter(f"vllm:{metric}", text, **name).labels(model)  # type: ignore[arg-type]

        self._drafts = counter("spec_decode_num_drafts", "Steps that verified a draft.")
        self._drafted = counter("spec_decode_num_draft_tokens", "Tokens drafted.")
        self._accepted = counter("spec_decode_num_accepted_tokens", "Drafted tokens accepted.")
        per_position = Counter(
            "vllm:spec_decode_num_accepted_tokens_per_pos",
            "Drafted tokens accepted, by depth in the draft.",
            ("model_name", "position"),
            registry=self._registry,
        )
        self._positions = [per_position.labels(model, str(i)) for i in range(POSITIONS_MAX)]
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self._generated = counter("generation_tokens", "Tokens generated.")
        self._ended = Counter(
            "vllm:request_success",
            "Requests that ended, by reason.",
            ("model_name", "finished_reason"),
            registry=self._registry,
        )
        self._model = model
        self._latency = Histogram(
            "vllm:e2e_request_latency_seconds",
            "From arrival to the last token.",
            ("model_name",),
            registry=self._registry,
            buckets=LATENCY_SECONDS,
        ).labels(model)
        self._first_token = Histogram(
            "vllm:time_to_first_token_seconds",
            "From arrival to the first token.",
            ("model_name",),
            registry=self._registry,
            buckets=FIRST_TOKEN_SECONDS,
        ).labels(model)
        if thread is not None:
            self._watch("num_requests_running", "Sequences in slots.", lambda: thread.running)
            self._watch("num_requests_waiting", "Sequences that wait.", lambda: thread.waiting)

    def verified(
        self, sequence_id: str, tree: DraftTree, path: Sequence[int], tokens: Int32Array
    ) -> None:
        """A step had this tree, and kept this path of it."""
        self._drafts.inc()
        self._drafted.inc(len(tree))
        self._accepted.inc(len(path))
        for position in self._positions[: len(path)]:
            position.inc()

    def first_token(self, seconds: float) -> None:
        """A request's first token came."""
        self._first_token.observe(seconds)

    def ended(self, figures: Figures, reason: str, seconds: float) -> None:
        """One sequence is over."""
        self._prompt_tokens.inc(figures.prompt_tokens)
        self._generated.inc(figures.output_tokens)
        self._ended.labels(self._model, reason).inc()
        self._latency.observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def _watch(self, metric: str, text: str, value: Callable[[], int]) -> None:
        gauge = Gauge(f"vllm:{metric}", text, ("model_name",), registry=self._registry)
        gauge.labels(self._model).set_function(value)
