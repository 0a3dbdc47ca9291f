"""What a Redis that stands still costs a draft: in-process steps, with it well and ill in turn.

The bar: p50 and p99 within 10 % or 50 us, whichever allows more.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import Unreachable
from retrieval_draft.replay.link import Link
from retrieval_draft.step import DraftOptions, SequenceStart, SequenceStep, Status, StepRequest
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.tree import Int32Array

TENANT, NAMESPACE = "local", "stall"
VOCAB, PHRASES, PHRASE_TOKENS = 32_000, 2_000, 12
PROMPT_TOKENS, OUTPUT_TOKENS, COMMITTED = 64, 512, 3
DELAY_SECONDS = 0.5
MODEL_SECONDS = 0.001  # the target's step: without it the drafting thread alone would fill its core
RATIO_MAX, SLOWER_US_MAX = 1.10, 50.0
SETTLE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """One window of steps, in microseconds a step."""

    us_p50: float
    us_p99: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Medians over the pairs of windows; ratios and differences are those of the pairs, not of medians."""

    fault: str
    pairs: int
    steps: int
    well: Window
    ill: Window
    p50_ratio: float
    p99_ratio: float
    p50_us_more: float
    p99_us_more: float
    within: bool
    """Both within RATIO_MAX or SLOWER_US_MAX."""
    errors: int
    dropped: int


def stalls(pairs: int, steps: int, on_pair: Callable[[], None]) -> list[Stall]:
    """Redis paused (SIGSTOP), and slowed by DELAY_SECONDS each way; on an embedded server of its own.

    First, as a control, well against well: what the machine itself makes of two equal windows.

    Raises FailedPrecondition where no Redis server is installed.
    """
    with ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="retrieval-draft-"))
        server = EmbeddedRedis(stack.enter_context(DataFolder(Path(path))))
        server.start()
        stack.callback(server.stop)
        link = Link(str(server.socket)).start()
        stack.callback(link.stop)
        engine = Engine(RedisBackend(f"redis://127.0.0.1:{link.port}?password="))
        engine.start("bench")
        stack.callback(engine.stop, 0.0)
        engine.stores.create(TENANT, NamespaceSpec(NAMESPACE, VOCAB))
        drafting = _Drafting(engine)
        drafting.window(steps)  # warm: kernels, and tables that are not empty
        faults: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "well (control)": nullcontext,
            "paused": lambda: _paused(server),
            "slowed by 500 ms": lambda: _slowed(link),
        }
        return [
            _compared(name, drafting, fault, pairs, steps, on_pair)
            for name, fault in faults.items()
        ]


def _compared(
    name: str,
    drafting: "_Drafting",
    fault: Callable[[], AbstractContextManager[None]],
    pairs: int,
    steps: int,
    on_pair: Callable[[], None],
) -> Stall:
    well: list[Window] = []
    ill: list[Window] = []
    for pair in range(pairs):
        for is_ill in (False, True) if pair % 2 == 0 else (True, False):
            drafting.settle()
            if is_ill:
                with fault():
                    ill.append(drafting.window(steps))
            else:
                well.append(drafting.window(steps))
        on_pair()
    drafting.settle()
    both = list(zip(well, ill, strict=True))
    ratio_50 = median(b.us_p50 / a.us_p50 for a, b in both)
    ratio_99 = median(b.us_p99 / a.us_p99 for a, b in both)
    more_50 = median(b.us_p50 - a.us_p50 for a, b in both)
    more_99 = median(b.us_p99 - a.us_p99 for a, b in both)
    return Stall(
        name,
        pairs,
        steps,
        Window(median(a.us_p50 for a in well), median(a.us_p99 for a in well)),
        Window(median(b.us_p50 for b in ill), median(b.us_p99 for b in ill)),
        ratio_50,
        ratio_99,
        more_50,
        more_99,
        (ratio_50 <= RATIO_MAX or more_50 <= SLOWER_US_MAX)
        and (ratio_99 <= RATIO_MAX or more_99 <= SLOWER_US_MAX),
        drafting.errors,
        drafting.dropped(),
    )


class _Drafting:
    """Sequences of recurring phrases, one step after the other, each timed from send to answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._client = engine, EngineClient(engine)
        self._key = engine.stores.state(TENANT, NAMESPACE).key
        self._steps = self._steps_for_ever()
        self._step_id = self.errors = 0

    def window(self, steps: int) -> Window:
        took = np.empty(steps)
        for index in range(steps):
            part = next(self._steps)
            self._step_id += 1
            options = DraftOptions(nodes_max=32)
            request = StepRequest(self._step_id, NAMESPACE, "bench", [part], options)
            began = time.perf_counter_ns()
            self._client.send(request)
            answer = self._client.receive(self._step_id, 1.0)
            took[index] = (time.perf_counter_ns() - began) / 1e3
            self.errors += answer is None or answer.statuses != [Status.OK]
            time.sleep(MODEL_SECONDS)
        return Window(float(np.percentile(took, 50)), float(np.percentile(took, 99)))

    def settle(self) -> None:
        """Wait until all that was learned came back, so that no window pays for the one before."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while self._engine.stores.backend.figures(self._key).lag_records:
            if time.monotonic() > deadline:
                raise Unreachable("the embedded Redis does not come back")
            time.sleep(0.02)

    def dropped(self) -> int:
        return self._engine.stores.backend.figures(self._key).dropped

    def _steps_for_ever(self) -> Iterator[SequenceStep]:
        dice = np.random.default_rng(1)
        phrases = dice.integers(0, VOCAB, (PHRASES, PHRASE_TOKENS), dtype=np.int32)
        count = -(-(PROMPT_TOKENS + OUTPUT_TOKENS) // PHRASE_TOKENS)
        number = 0
        while True:
            number += 1
            tokens: Int32Array = phrases[dice.integers(0, PHRASES, count)].ravel()
            name, at = f"s{number}", PROMPT_TOKENS
            yield SequenceStep(name, 0, tokens[:at], SequenceStart(prompt_length=at))
            while at + COMMITTED < PROMPT_TOKENS + OUTPUT_TOKENS:
                yield SequenceStep(name, at, tokens[at : at + COMMITTED])
                at += COMMITTED
            yield SequenceStep(name, at, tokens[at : at + 1], finished=True)


@contextmanager
def _paused(server: EmbeddedRedis) -> Iterator[None]:
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _slowed(link: Link) -> Iterator[None]:
    link.delay_seconds = DELAY_SECONDS
    try:
        yield
    finally:
        link.delay_seconds = 0.0
