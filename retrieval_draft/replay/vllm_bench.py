"""Our drafts inside vLLM against its own, on the demo model and files that it never saw.

Accepted lengths are functions of texts and drafters alone, as long as drafts come in time; times are this
machine's. Every comparison is of one run, and arms alternate.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
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
from retrieval_draft.replay.vllm_sharing import Pair, Sharing
from retrieval_draft.replay.vllm_turns import Decoding, in_turns

IN_PROCESS, BY_SIDECAR, ABSENT = "ours, in-process", "ours, sidecar", "ours, no sidecar"
SWITCHED_OFF = "ours, off"
"""Proposes nothing: what vLLM itself does more for any `custom_class`, as far as our plugin leaves it."""
PLAIN_AGAIN = "plain, again"
"""A second engine like the first: what it differs by is chance, and so is as much of any other ratio."""
OURS_ARMS = (IN_PROCESS, BY_SIDECAR, ABSENT, SWITCHED_OFF)
SEQUENCES_MAX = 8
SAMPLES = 3
TEMPERATURE = 0.7
SIDECAR_SECONDS_MAX = 300.0
WARMING_TOKENS = 64


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
    tokens_per_cpu_second: float
    """Of the engine's process."""
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
class Ratio:
    """One arm over the best of others that took turns with it: tokens per second, of all rounds together.

    No median of rounds: of the better of two arms in a round, chance picks one.
    """

    arm: str
    over: str
    tokens_max: int
    concurrency: int
    samples: int
    by_clock: float
    by_cpu: float
    """Of the engines' processes: a sidecar's is its own."""


@dataclass(frozen=True, slots=True)
class Race:
    """Arms that took turns, and what is claimed of them."""

    arms: list[Arm]
    ratios: list[Ratio]


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

    def __init__(
        self,
        model: Path,
        sidecar: Sidecar,
        warming: list[list[int]],
        told: Callable[[str], None],
    ) -> None:
        """Engines are warmed with these prompts."""
        self._model, self._sidecar, self._warming, self._told = model, sidecar, warming, told
        self._engines: dict[tuple[str, int], VllmEngine] = {}
        self._namespaces = 0

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()

    def race(self, arms: list[tuple[str, int]], workload: Workload, rounds: int) -> Race:
        """Every arm (name, tokens drafted at most) on the workload, so many times, in turns of some steps."""
        runs: dict[tuple[str, int], list[tuple[Run, float]]] = {arm: [] for arm in arms}
        for round_ in range(rounds):
            self._told(f"{workload.concurrency} at once, round {round_ + 1}")
            for arm, run in self._round(arms, workload, round_).items():
                runs[arm].append(run)
        found = [_arm(arm, workload, one) for arm, one in runs.items()]
        alone = {arm: [run for run, _ in one] for arm, one in runs.items()}
        return Race(found, _ratios(alone, workload))

    def sharing(self, prompts: list[list[int]], tokens: int, tokens_max: int) -> Iterator[Sharing]:
        """Of disjoint halves, through one sidecar and through one Redis."""
        halves = prompts[::2], prompts[1::2]
        with ExitStack() as stack:
            self._told(f"starting two vLLM processes, {tokens_max}")
            pair = Pair(self._model, tokens_max, SEQUENCES_MAX, stack)
            suffix = self._engine(SUFFIX, tokens_max)
            suffix.renew()
            theirs = Decoding(suffix, halves[1], tokens, SEQUENCES_MAX).to_end()
            redis = _redis(stack)
            for through, settings in (
                ("one sidecar", lambda name: ours_by_sidecar(name, self._sidecar.target)),
                ("one Redis", lambda name: ours_in_process(name, redis)),
            ):
                self._told(f"sharing through {through}")
                yield pair.shared(
                    through, halves, tokens, theirs, partial(_named, settings, self._fresh)
                )

    def _round(
        self, arms: list[tuple[str, int]], workload: Workload, first: int
    ) -> dict[tuple[str, int], tuple[Run, float]]:
        """Every arm's run, and the sidecar's share of one core while its arm had the machine."""
        prompts = [prompt for prompt in workload.prompts for _ in range(workload.samples)]
        temperature = TEMPERATURE if workload.samples > 1 else 0.0
        # Every round draws anew: arms decode different texts there, and one text says little.
        seed = 1 + first * len(prompts)
        decodings: dict[tuple[str, int], Decoding] = {}
        for arm, tokens_max in arms:
            engine = self._engine(arm, tokens_max)
            engine.renew(self._settings(arm), is_absent=arm == ABSENT)
            decodings[arm, tokens_max] = Decoding(
                engine, prompts, workload.tokens, workload.concurrency, temperature, seed
            )
        spent = self._sidecar.cpu_seconds()
        in_turns(decodings, first)
        spent = self._sidecar.cpu_seconds() - spent
        runs = {arm: decoding.run() for arm, decoding in decodings.items()}
        return {
            arm: (run, spent / run.seconds if arm[0] == BY_SIDECAR else 0.0)
            for arm, run in runs.items()
        }

    def _settings(self, arm: str) -> dict[str, object] | None:
        namespace = self._fresh()
        settings = {
            IN_PROCESS: ours_in_process(namespace),
            BY_SIDECAR: ours_by_sidecar(namespace, self._sidecar.target),
            ABSENT: ours_by_sidecar(namespace, "unix:/nonexistent/draft.sock"),
        }
        return settings.get(arm)

    def _engine(self, arm: str, tokens_max: int) -> VllmEngine:
        key = (arm, 0 if arm in (PLAIN, PLAIN_AGAIN, DEFAULT) else tokens_max)
        if key not in self._engines:
            self._told(f"starting vLLM, {arm}")
            kind = PLAIN if arm == PLAIN_AGAIN else OURS if arm in OURS_ARMS else arm
            engine = VllmEngine(kind, self._model, tokens_max, SEQUENCES_MAX)
            # What is compiled or loaded at first use is not this run's to measure, nor what a step costs to
            # be found out. What is decoded here is forgotten before the first round.
            engine.renew(self._settings(arm), is_absent=arm == ABSENT)
            Decoding(engine, self._warming, WARMING_TOKENS, SEQUENCES_MAX).to_end()
            Decoding(engine, self._warming[:1], WARMING_TOKENS, 1).to_end()
            self._engines[key] = engine
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
        median(run.tokens_per_cpu_second for run, _ in runs),
        median(run.accepted_length for run, _ in runs),
        median(run.mat for run, _ in runs),
        runs[0][0].drafts,
        median(run.added_us(50) for run, _ in runs),
        median(run.added_us(99) for run, _ in runs),
        median(share for _, share in runs),
        runs[0][0].digest if len(digests) == 1 else "differs",
    )


def _ratios(runs: dict[tuple[str, int], list[Run]], workload: Workload) -> list[Ratio]:
    """Of the arms that are compared, each over the best of those that it is compared with."""
    found: list[Ratio] = []
    for arm, names in COMPARED:
        for tokens_max in sorted({most for one, most in runs if one == arm}):
            if any((name, tokens_max) not in runs for name in names):
                continue
            by_clock, by_cpu = _speeds(runs[arm, tokens_max])
            theirs = [_speeds(runs[name, tokens_max]) for name in names]
            found.append(
                Ratio(
                    arm,
                    " or ".join(names),
                    tokens_max,
                    workload.concurrency,
                    workload.samples,
                    by_clock / max(clock for clock, _ in theirs),
                    by_cpu / max(cpu for _, cpu in theirs),
                )
            )
    return found


def _speeds(runs: list[Run]) -> tuple[float, float]:
    """Tokens per second of all of them together, by the clock and by CPU time."""
    tokens = sum(run.tokens for run in runs)
    return (
        tokens / sum(run.seconds for run in runs),
        tokens / sum(run.cpu_seconds for run in runs),
    )


def _named(
    settings: Callable[[str], dict[str, object]], fresh: Callable[[], str]
) -> dict[str, object]:
    return settings(fresh())


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


ARMS = (PLAIN, PLAIN_AGAIN, NGRAM, SUFFIX, IN_PROCESS, BY_SIDECAR, ABSENT, SWITCHED_OFF)
COMPARED = (
    (IN_PROCESS, (NGRAM, SUFFIX)),
    (BY_SIDECAR, (NGRAM, SUFFIX)),
    (IN_PROCESS, (SUFFIX,)),
    (IN_PROCESS, (PLAIN,)),
    (SUFFIX, (PLAIN,)),
    (ABSENT, (PLAIN,)),
    (SWITCHED_OFF, (PLAIN,)),
    (PLAIN_AGAIN, (PLAIN,)),
)
