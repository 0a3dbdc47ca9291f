"""Our drafts inside vLLM against its own, on the demo model and files that it never saw.

Accepted lengths are functions of texts and drafters alone, as long as drafts come in time; times are this
machine's. Every comparison is of one run, and arms alternate.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from retrieval_draft.errors import Unreachable
from retrieval_draft.replay.vllm_arms import (
    DEFAULT,
    NGRAM,
    OURS,
    PLAIN,
    SUFFIX,
    Run,
    VllmEngine,
    ours_by_sidecar,
    ours_in_process,
)

IN_PROCESS, BY_SIDECAR, ABSENT = "ours, in-process", "ours, sidecar", "ours, no sidecar"
SEQUENCES_MAX = 8
SAMPLES = 3
TEMPERATURE = 0.7
SIDECAR_SECONDS_MAX = 300.0
ALONE_SHARE = 4
"""Of so many prompts one is decoded where sequences go one by one: that takes the longest."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`samples` of each prompt; greedy ones are decoded once."""

    prompts: list[list[int]]
    tokens: int
    concurrency: int
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Arm:
    """Medians over rounds of one arm on one workload."""

    arm: str
    tokens_max: int
    concurrency: int
    samples: int
    rounds: int
    tokens_per_second: float
    accepted_length: float
    """vLLM's: over drafted steps."""
    mat: float
    """Over all steps."""
    drafts: int
    added_us_p50: float
    added_us_p99: float
    sidecar_cpu_share: float
    digest: str
    """Of the first round; "differs" if another round's was another."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """B on its half of the prompts, alone and after A has decoded the other half."""

    through: str
    tokens_max: int
    suffix: float
    alone: float
    after: float
    suffix_mat: float
    alone_mat: float
    after_mat: float
    digests_equal: bool


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A process of its own, on no Redis."""

    target: str
    process: int

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def sidecar() -> Iterator[Sidecar]:
    with tempfile.TemporaryDirectory(prefix="rd-") as folder:
        command = [sys.executable, "-m", "retrieval_draft", "serve", "--data", folder]
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--redis", "none", "--log-level", "ERROR"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                raise Unreachable("the sidecar did not start")
            yield Sidecar(line.split()[2], process.pid)
        finally:
            process.terminate()
            process.wait(SIDECAR_SECONDS_MAX)


class Bench:
    """Engines that are made once, at first use, and what they came to."""

    def __init__(self, model: Path, sidecar: Sidecar, told: Callable[[str], None]) -> None:
        self._model, self._sidecar, self._told = model, sidecar, told
        self._engines: dict[tuple[str, int], VllmEngine] = {}
        self._namespaces = 0

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()

    def race(self, arms: list[tuple[str, int]], workload: Workload, rounds: int) -> list[Arm]:
        """Every arm (name, tokens drafted at most) on the workload, in turn, so many times."""
        runs: dict[tuple[str, int], list[tuple[Run, float]]] = {arm: [] for arm in arms}
        for round_ in range(rounds):
            for arm in arms if round_ % 2 == 0 else arms[::-1]:
                self._told(f"{arm[0]} {arm[1]}, {workload.concurrency} at once, round {round_ + 1}")
                runs[arm].append(self._run(*arm, workload))
        return [_arm(arm, workload, found) for arm, found in runs.items()]

    def sharing(self, prompts: list[list[int]], tokens: int, tokens_max: int) -> list[Sharing]:
        """Of disjoint halves, through one sidecar and through one Redis."""
        first, second = prompts[::2], prompts[1::2]
        found: list[Sharing] = []
        suffix = self._decoded(SUFFIX, tokens_max, {}, second, tokens)
        for through in ("one sidecar", "one Redis"):
            with ExitStack() as stack:
                redis = _redis(stack) if through == "one Redis" else ""

                def settings(namespace: str, redis: str = redis) -> dict[str, object]:
                    if redis:
                        return ours_in_process(namespace, redis)
                    return ours_by_sidecar(namespace, self._sidecar.target)

                self._told(f"sharing through {through}")
                alone = self._decoded(OURS, tokens_max, settings(self._fresh()), second, tokens)
                shared = settings(self._fresh())
                # A's drafter is closed, and what it learned kept, before B's comes up.
                self._decoded(OURS, tokens_max, shared, first, tokens)
                self._engine(OURS, tokens_max).renew(None)
                after = self._decoded(OURS, tokens_max, shared, second, tokens)
                self._engine(OURS, tokens_max).renew(None)
            found.append(
                Sharing(
                    through,
                    tokens_max,
                    suffix.accepted_length,
                    alone.accepted_length,
                    after.accepted_length,
                    suffix.mat,
                    alone.mat,
                    after.mat,
                    alone.digest == after.digest == suffix.digest,
                )
            )
        return found

    def _decoded(
        self,
        kind: str,
        tokens_max: int,
        settings: dict[str, object],
        prompts: list[list[int]],
        tokens: int,
    ) -> Run:
        engine = self._engine(kind, tokens_max)
        engine.renew(settings)
        return engine.decode(prompts, tokens, SEQUENCES_MAX)

    def _run(self, arm: str, tokens_max: int, workload: Workload) -> tuple[Run, float]:
        """The run, and the sidecar's share of one core meanwhile."""
        kind = OURS if arm in (IN_PROCESS, BY_SIDECAR, ABSENT) else arm
        engine = self._engine(kind, tokens_max)
        namespace = self._fresh()
        settings = {
            IN_PROCESS: ours_in_process(namespace),
            BY_SIDECAR: ours_by_sidecar(namespace, self._sidecar.target),
            ABSENT: ours_by_sidecar(namespace, "unix:/nonexistent/draft.sock"),
        }
        engine.renew(settings.get(arm), is_absent=arm == ABSENT)
        prompts = [prompt for prompt in workload.prompts for _ in range(workload.samples)]
        spent, began = self._sidecar.cpu_seconds(), time.perf_counter()
        run = engine.decode(
            prompts,
            workload.tokens,
            workload.concurrency,
            TEMPERATURE if workload.samples > 1 else 0.0,
            seed=1,
        )
        share = (self._sidecar.cpu_seconds() - spent) / (time.perf_counter() - began)
        return run, share

    def _engine(self, kind: str, tokens_max: int) -> VllmEngine:
        key = (kind, 0 if kind in (PLAIN, DEFAULT) else tokens_max)
        if key not in self._engines:
            self._told(f"starting vLLM, {kind}")
            self._engines[key] = VllmEngine(kind, self._model, tokens_max, SEQUENCES_MAX)
        return self._engines[key]

    def _fresh(self) -> str:
        self._namespaces += 1
        return f"bench-{self._namespaces}"


def _arm(arm: tuple[str, int], workload: Workload, runs: list[tuple[Run, float]]) -> Arm:
    digests = {run.digest for run, _ in runs}
    return Arm(
        *arm,
        workload.concurrency,
        workload.samples,
        len(runs),
        median(run.tokens_per_second for run, _ in runs),
        median(run.accepted_length for run, _ in runs),
        median(run.mat for run, _ in runs),
        runs[0][0].drafts,
        median(run.added_us(50) for run, _ in runs),
        median(run.added_us(99) for run, _ in runs),
        median(share for _, share in runs),
        runs[0][0].digest if len(digests) == 1 else "differs",
    )


def _redis(stack: ExitStack) -> str:
    """The URL of a Redis that ends with the stack."""
    from retrieval_draft.store.embedded import EmbeddedRedis
    from retrieval_draft.store.folder import DataFolder

    folder = DataFolder(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rd-"))))
    stack.callback(folder.close)
    server = EmbeddedRedis(folder)
    server.start()
    stack.callback(server.stop)
    return server.url


ARMS = (PLAIN, NGRAM, SUFFIX, IN_PROCESS, BY_SIDECAR, ABSENT)
