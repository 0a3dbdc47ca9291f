"""A real vLLM on this CPU (`make test-vllm`): our drafts change nothing but the number of its steps.

Nothing here may import numba before the first engine is there: vLLM's search for its CPU kernels trips
over llvmlite's modules.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec
import pytest

pytest.importorskip("vllm", reason="needs the environment of `make vllm-env`")

from retrieval_draft.adapters.serving import Row, ServingDrafter
from retrieval_draft.adapters.vllm import Proposer
from retrieval_draft.client import Client
from retrieval_draft.gpu.demo.prompts import shipped
from retrieval_draft.replay.vllm_arms import (
    OURS,
    PLAIN,
    VllmEngine,
    ours_by_sidecar,
    ours_in_process,
)
from retrieval_draft.replay.vllm_turns import Decoding
from retrieval_draft.step import StepResponse
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import DraftTree, int32s

TOKENS, TOKENS_MAX, SEQUENCES_MAX = 48, 6, 4
SECONDS_MAX = 240.0


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    tokenizer = load_tokenizer("demo")
    return [tokenizer.encode(text).ids for text in shipped()[:6]]


@pytest.fixture(scope="module")
def undrafted() -> Iterator[VllmEngine]:
    engine = VllmEngine(PLAIN, demo_folder(), TOKENS_MAX, SEQUENCES_MAX)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(undrafted: VllmEngine, prompts: list[list[int]]) -> str:
    """The digest of what vLLM decodes without drafts."""
    return Decoding(undrafted, prompts, TOKENS, SEQUENCES_MAX).to_end().digest


@pytest.fixture(scope="module")
def engine(plain: str) -> Iterator[VllmEngine]:
    made = VllmEngine(OURS, demo_folder(), TOKENS_MAX, SEQUENCES_MAX)
    yield made
    made.close()


class Changing:
    """A client whose answers are changed on their way."""

    def __init__(self, client: Client, change: Callable[[StepResponse], StepResponse]) -> None:
        self._client, self._change = client, change

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        answer = self._client.receive(step_id, seconds_max)
        return None if answer is None else self._change(answer)

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)


def serving(engine: VllmEngine) -> ServingDrafter:
    found = engine.drafter
    assert isinstance(found, Proposer)
    assert found.drafter is not None
    return found.drafter


def test_greedy_output_is_that_without_drafts(
    engine: VllmEngine, prompts: list[list[int]], plain: str
) -> None:
    engine.renew(ours_in_process("greedy"))
    run = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
    assert run.digest == plain
    assert run.accepted > 20
    # What vLLM's scheduler counts is what our side does, but for drafts of requests that ended.
    served = serving(engine).served
    assert served.errors == 0
    assert served.accepted_tokens == run.accepted
    assert run.drafts <= served.drafts <= run.drafts + len(prompts)
    assert run.drafted <= served.draft_tokens <= run.drafted + len(prompts) * TOKENS_MAX
    # Its own counters, of its newest engine.
    assert engine.counter("num_accepted_tokens") == run.accepted
    assert engine.counter("num_drafts") == run.drafts


def test_requests_end_by_their_ids_and_are_learned(
    engine: VllmEngine, prompts: list[list[int]], plain: str
) -> None:
    engine.renew(ours_in_process("ends"))
    cold = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
    # Only the plugin knows that a request is over: by tokens alone it would be open for a minute more.
    assert len(serving(engine).open_requests()) <= SEQUENCES_MAX
    warm = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
    assert warm.digest == cold.digest == plain
    assert warm.steps < 0.8 * cold.steps


def test_requests_told_by_their_tokens_do_as_well(
    engine: VllmEngine, prompts: list[list[int]], plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.renew(ours_in_process("tracked"))
    monkeypatch.setattr(Proposer, "bind", lambda *_: None)
    run = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
    assert run.digest == plain
    assert run.accepted > 20


def test_sampling_runs(engine: VllmEngine, prompts: list[list[int]]) -> None:
    engine.renew(ours_in_process("sampling"))
    first = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX, temperature=0.8, seed=1).to_end()
    second = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX, temperature=0.8, seed=2).to_end()
    assert first.tokens == second.tokens == len(prompts) * TOKENS
    assert first.digest != second.digest
    assert first.drafted > 0


def test_sampled_output_has_the_law_of_that_without_drafts(
    undrafted: VllmEngine, engine: VllmEngine, prompts: list[list[int]]
) -> None:
    samples, tokens = 200, 5
    everything = {"cost": "none", "probability_min": 0, "first_probability_min": 0}
    engine.renew({**ours_in_process("law"), **everything})
    counts: list[list[Counter[int]]] = []
    for seed, one in ((1, undrafted), (1000, engine)):
        run = Decoding(
            one, [prompts[2]] * samples, tokens, SEQUENCES_MAX, temperature=0.9, seed=seed
        ).to_end()
        counts.append([Counter(column) for column in zip(*run.outputs, strict=True)])
    assert run.accepted > samples / 2, "most tokens were drafted ones"
    for alone, drafted in zip(*counts, strict=True):
        distance, degrees = two_samples(alone, drafted)
        assert distance < degrees + 4.5 * (2 * degrees) ** 0.5 + 8


def two_samples(a: Counter[int], b: Counter[int]) -> tuple[float, int]:
    """Chi-square of two equally large samples, rare tokens as one; degrees of freedom."""
    common = [token for token in a | b if a[token] + b[token] >= 10]
    pairs = [(a[token], b[token]) for token in common]
    pairs.append((a.total() - sum(x for x, _ in pairs), b.total() - sum(y for _, y in pairs)))
    return sum((x - y) ** 2 / max(1, x + y) for x, y in pairs), len(common)


@pytest.mark.parametrize(
    "tree",
    [
        DraftTree(int32s([1] * 40), int32s(range(-1, 39))),
        DraftTree(int32s([1 << 20]), int32s([-1])),
        DraftTree(int32s([-1]), int32s([-1])),
        None,
    ],
)
def test_what_ends_an_engine_never_reaches_it(
    engine: VllmEngine, prompts: list[list[int]], plain: str, tree: DraftTree | None
) -> None:
    """Too long, outside the vocabulary, negative, None: each kills vLLM when a proposer returns it."""
    engine.renew(ours_in_process("faults"))
    talk = serving(engine)._conversation
    steps: list[int] = []

    def change(answer: StepResponse) -> StepResponse:
        steps.append(1)
        if len(steps) < 5:
            return answer
        return msgspec.structs.replace(
            answer, trees=cast(list[DraftTree], [tree] * len(answer.trees))
        )

    talk._client = cast(Client, Changing(talk._client, change))
    assert Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end().digest == plain
    assert len(steps) > 5


def started(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "retrieval_draft", "serve", "--data", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return process


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving on "), line
    return line.split()[2]


def test_a_sidecar_killed_and_restarted_under_load_costs_drafts_alone(
    engine: VllmEngine,
    prompts: list[list[int]],
    plain: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = started(tmp_path)
    target = ready(process)
    engine.renew({**ours_by_sidecar("killed", target), "step_ms_max": 1000})
    before = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
    assert before.digest == plain
    assert before.accepted > 20
    inner = serving(engine)
    step = inner.step
    steps: list[int] = []

    def killing(rows: Sequence[Row], *, others: int = 0) -> list[DraftTree]:
        steps.append(1)
        if len(steps) == 5:
            os.kill(process.pid, signal.SIGKILL)
        return step(rows, others=others)

    monkeypatch.setattr(inner, "step", killing)
    during = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
    assert during.digest == plain
    assert inner.figures.failed > 0
    process.wait()
    again = started(tmp_path)
    try:
        # It comes up while vLLM decodes.
        deadline = time.monotonic() + SECONDS_MAX
        after = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
        while not after.accepted and time.monotonic() < deadline:
            after = Decoding(engine, prompts, TOKENS, SEQUENCES_MAX).to_end()
            assert after.digest == plain
        assert after.accepted > 0
        assert inner.served.errors == 0
    finally:
        engine.renew(None)
        again.terminate()
        again.wait()


def test_only_the_first_tensor_parallel_rank_drafts(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = import_module("vllm.distributed.parallel_state").get_tp_group()
    assert Proposer(engine.config(ours_in_process("rank"))).drafter is not None
    monkeypatch.setattr(group, "rank_in_group", 1)
    assert Proposer(engine.config(ours_in_process("rank"))).drafter is None
