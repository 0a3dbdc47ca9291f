"""The worker measured: the same sequences in every arm, round by round in turn, at several batch sizes.

The plain arm has no sidecar. A store begins empty in every arm and phase: `cold` decodes the first
sequences of a file, `warm` others, after the store has seen what comes before them in the file. Rates
are of decoding without prefill; ratios are medians over rounds, so that a load that passes does not
count, and totals are given beside them. On a busy machine look at `cpu_ratio`: it compares CPU time of
this process, which holds all of an arm's work but that of a sidecar in a process of its own.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from retrieval_draft.client import Client, GrpcClient
from retrieval_draft.conversation import Conversation
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.acceleration import accelerate
from retrieval_draft.gpu.bench.arms import (
    FUSIONS,
    LOOKUP,
    MIX,
    MIX_HERE,
    NEED_MODEL,
    PLAIN,
    Arm,
    Task,
    new_arm,
    teach,
)
from retrieval_draft.gpu.bench.differences import Differences, differences
from retrieval_draft.gpu.demo.run import running_sidecar, settled
from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.draft_models.opening import open_draft_model
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.gpu.step_cost import measure_step_costs
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.step import DraftOptions
from retrieval_draft.tree import int32s

COLD, WARM = "cold", "warm"
RAGGED = "ragged"
RANDOM_PROMPT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. `warm_tokens` of a file are learned before the warm phase; 0 leaves it out."""

    arms: tuple[str, ...]
    batches: tuple[int, ...]
    rounds: int
    nodes_max: int
    warm_tokens: int
    method: str = "mix"
    step_ms_max: float = 20.0
    is_forced: bool = True
    draft_model: str = ""
    """Of the arms that need one."""
    has_graphs: bool = True
    is_compiled: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """An arm in one phase at one batch size; ratios are to the plain arm and to prompt lookup."""

    file: str
    phase: str
    batch: int
    arm: str
    tokens: int
    rate: float
    """Tokens per second, all sequences together."""
    rate_median: float
    ratio: float | None
    ratio_total: float | None
    cpu_ratio: float | None
    lookup_ratio: float | None
    lookup_cpu_ratio: float | None
    mat: float
    nodes: float
    sequences_per_step: float
    shares: dict[str, float]
    overhead_ms: float
    cpu_overhead_ms: float
    """Outside forward, draft and observations; the second is the decoding thread's own time."""
    step_ms: float
    late: int
    """Drafts that did not come in time."""
    steps: str
    """How they were made: ragged, or at static shapes and with what."""
    differences: Differences | None


def measured(
    model: TargetModel,
    files: Sequence[tuple[str, Sequence[Task]]],
    plan: Plan,
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Rows of every file, batch size, phase and arm. Raises InvalidInput if a file is too short."""
    rows: list[Row] = []
    phases = (COLD, WARM) if plan.warm_tokens else (COLD,)
    chosen = [
        (name, batch, phase, *_chosen(name, tasks, plan, batch, phase))
        for batch in plan.batches
        for name, tasks in files
        for phase in phases
    ]
    length_max = max(len(t.prompt) + t.tokens_max for _, tasks in files for t in tasks)
    length_max = max(2, min(length_max, model.context_tokens_max))
    with _clients(plan) as clients:
        runner, measured_costs, steps = None, None, RAGGED
        arms: list[Arm] = []
        for name, batch, phase, taught, tasks in chosen:
            if runner is None or runner.slots != batch:
                runner, arms = None, []  # its slots go before the next ones come
                runner = Runner(model, slots=batch, length_max=length_max, nodes_max=plan.nodes_max)
                steps = str(
                    accelerate(runner, has_graphs=plan.has_graphs, is_compiled=plan.is_compiled)
                    or RAGGED
                )
                measured_costs = measure_step_costs(runner)
            assert measured_costs is not None
            # Of every arm its own: what one arm's steps take corrects its own prices.
            costs = {arm: LiveCosts(measured_costs) for arm in plan.arms}
            namespace = f"bench-{uuid.uuid4().hex[:12]}"
            talks = {
                arm: _talk(client, namespace, runner, costs[arm], plan)
                for arm, client in clients.items()
            }
            arms = [
                new_arm(
                    arm,
                    runner,
                    talks.get(arm),
                    _draft_model(runner, plan) if arm in NEED_MODEL else None,
                    costs[arm],
                    is_forced=plan.is_forced,
                )
                for arm in plan.arms
            ]
            for arm_name, talk in talks.items():
                teach(talk, taught, plan.nodes_max)
                talk.flush()
                if taught and isinstance(client := clients[arm_name], GrpcClient):
                    settled(client, namespace)
            for number in range(plan.rounds):
                some = tasks[number * batch : (number + 1) * batch]
                turn = number % len(arms)
                for arm in [*arms[turn:], *arms[:turn]]:
                    arm.decode(some)
                advance()
            rows += _rows(name, phase, batch, arms, talks, tasks, plan, steps)
    return rows


def random_tasks(vocab_size: int, count: int, tokens_max: int) -> list[Task]:
    """Sequences of which nothing can be guessed."""
    generator = np.random.default_rng(0)
    return [
        Task(
            f"random-{i}",
            int32s(generator.integers(0, vocab_size, RANDOM_PROMPT_TOKENS)),
            tokens_max,
            int32s(generator.integers(0, vocab_size, tokens_max)),
        )
        for i in range(count)
    ]


def _chosen(
    name: str, tasks: Sequence[Task], plan: Plan, batch: int, phase: str
) -> tuple[list[Task], list[Task]]:
    """What is taught and what is decoded."""
    first = 0
    if phase == WARM:
        tokens = np.cumsum([0 if t.output is None else len(t.output) for t in tasks])
        first = 1 + int(np.searchsorted(tokens, plan.warm_tokens))
    needed = plan.rounds * batch
    if first + needed > len(tasks):
        limit = f"{first + needed} sequences for {plan.rounds} rounds of {batch}, {phase}"
        raise InvalidInput(name, f"{len(tasks)} sequences", limit)
    return list(tasks[:first]), list(tasks[first : first + needed])


@contextmanager
def _clients(plan: Plan) -> Iterator[dict[str, Client]]:
    """Of the arms that draft from a store: one in a process of its own, one in this process."""
    with ExitStack() as stack:
        clients: dict[str, Client] = {}
        if MIX in plan.arms:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="retrieval-draft-"))
            target = stack.enter_context(running_sidecar(Path(folder), plan.method))
            clients[MIX] = GrpcClient(target)
        for arm in (MIX_HERE, *FUSIONS):
            if arm in plan.arms:
                clients[arm] = EngineClient.in_memory()
        try:
            yield clients
        finally:
            for client in clients.values():
                client.close()


def _draft_model(runner: Runner, plan: Plan) -> CausalDrafts:
    return open_draft_model(
        plan.draft_model, runner.model, slots=runner.slots, length_max=runner.length_max
    )


def _talk(
    client: Client, namespace: str, runner: Runner, costs: LiveCosts, plan: Plan
) -> Conversation:
    options = DraftOptions(nodes_max=plan.nodes_max, method=plan.method)
    model, ms = runner.model, plan.step_ms_max
    return converse(client, model, namespace, options, cost=costs, step_ms_max=ms)


def _rows(
    file: str,
    phase: str,
    batch: int,
    arms: Sequence[Arm],
    talks: dict[str, Conversation],
    tasks: Sequence[Task],
    plan: Plan,
    steps: str,
) -> list[Row]:
    by_name = {arm.name: arm for arm in arms}
    plain, lookup = by_name.get(PLAIN), by_name.get(LOOKUP)
    rows = []
    for arm in arms:
        clock = arm.decoder.clock
        off = None
        if plain is not None and arm is not plain and not plan.is_forced:
            off = differences(arm.decoder, tasks, plain.outputs, arm.outputs)
        rows.append(
            Row(
                file,
                phase,
                batch,
                arm.name,
                sum(one.tokens for one in arm.rounds),
                _rate(arm),
                median(one.rate for one in arm.rounds),
                _ratio(arm, plain),
                None if plain is None else _rate(arm) / _rate(plain),
                _cpu_ratio(arm, plain),
                _ratio(arm, lookup),
                _cpu_ratio(arm, lookup),
                arm.total.mat,
                arm.total.drafted_per_step,
                arm.sequences_per_step,
                {str(stage): share for stage, share in clock.shares().items()},
                clock.overhead_ms,
                clock.cpu_overhead_ms,
                1e3 * clock.total / max(1, clock.steps),
                talks[arm.name].figures.late if arm.name in talks else 0,
                steps,
                off,
            )
        )
    return rows


def _rate(arm: Arm) -> float:
    return sum(one.tokens for one in arm.rounds) / sum(one.seconds for one in arm.rounds)


def _ratio(arm: Arm, other: Arm | None) -> float | None:
    if other is None:
        return None
    return median(a.rate / b.rate for a, b in zip(arm.rounds, other.rounds, strict=True))


def _cpu_ratio(arm: Arm, other: Arm | None) -> float | None:
    """Of the totals: rounds are alike but for what a store has learned."""
    if other is None:
        return None
    return _cpu_rate(arm) / _cpu_rate(other)


def _cpu_rate(arm: Arm) -> float:
    return sum(one.tokens for one in arm.rounds) / sum(one.cpu_seconds for one in arm.rounds)
