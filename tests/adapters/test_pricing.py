"""Drafts by what steps cost: which steps tell it, and what comes of it in an engine of known cost."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from retrieval_draft.adapters.pricing import cost_of, step_times_of
from retrieval_draft.adapters.serving import ServingDrafter
from retrieval_draft.adapters.settings import CostRule, Settings, read_cost
from retrieval_draft.adapters.step_times import StepTimes
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.step import Learning, TreeShape
from retrieval_draft.tree import DraftTree, int32s
from tests.adapters.stacks import MODEL, SETTINGS, Request
from tests.client.scripted import Clock

LINES = 60
MIXED = replace(SETTINGS, method="mix", learn=Learning.NONE)


def chain(nodes: int) -> DraftTree:
    return DraftTree(int32s([1] * nodes), int32s(range(-1, nodes - 1)))


@dataclass
class Timed:
    """Steps of a batch of two that take 5 ms, and one for every ten nodes."""

    clock: Clock
    times: StepTimes
    seed: int = 1

    def run(self, steps: int, batch: Callable[[int], list[str]], others: int = 0) -> None:
        random = np.random.default_rng(self.seed)
        for step in range(steps):
            nodes = int(random.integers(0, 17))
            self.times.begins([chain(nodes // 2), chain(nodes - nodes // 2)])
            self.clock.now += (5 + nodes / 10) / 1000
            self.times.ended(batch(step), others)
            self.clock.now += 0.5  # ours does not count


@pytest.fixture
def timed() -> Timed:
    clock = Clock()
    return Timed(clock, StepTimes(clock))


def test_steps_of_one_batch_tell_what_it_costs(timed: Timed) -> None:
    timed.run(100, lambda _: ["a", "b"])
    cost = timed.times.cost()
    assert cost is not None
    assert cost.at(0) == pytest.approx(5, rel=0.02)
    assert cost.at(16) == pytest.approx(6.6, rel=0.02)


@pytest.mark.parametrize(
    ("batch", "others"),
    [
        (lambda step: ["a", "b"], 1),  # a prompt is read
        (lambda step: ["a", f"b{step}"], 0),  # one came or ended
        (lambda step: [["a", "b"], []][step % 2], 0),  # the engine was idle
    ],
    ids=["prompts", "changes", "idle"],
)
def test_other_steps_do_not(timed: Timed, batch: Callable[[int], list[str]], others: int) -> None:
    timed.run(100, batch, others)
    timed.times.ended(["a", "b"], 1)
    assert timed.times.cost() is None


def phrases(seed: int) -> list[int]:
    """Lines that begin alike and go on one way or another: some of it can be guessed."""
    random = np.random.default_rng(seed)
    text: list[int] = []
    for _ in range(LINES):
        text += [10, 11, 12, 20 if random.random() < 0.75 else 21, 13, int(random.integers(30, 46))]
    return text


def seconds(cost: CostRule, step_ms: Callable[[int], float]) -> float:
    """What decoding four texts takes in an engine whose steps cost so much by what they verify."""
    clock, client = Clock(), EngineClient.in_memory()
    ours = ServingDrafter(client, MODEL, replace(MIXED, cost=cost), clock=clock)
    requests = [Request(f"r{i}", phrases(i)) for i in range(4)]
    began = clock.now
    while going := [request for request in requests if not request.is_over]:
        trees = ours.step([request.row() for request in going])
        clock.now += step_ms(sum(map(len, trees))) / 1000
        for request, tree in zip(going, trees, strict=True):
            request.verify(tree)
    ours.close()
    assert ours.served.errors == 0
    return clock.now - began


def dear(nodes: int) -> float:
    return 2 + 0.5 * nodes


def knee(nodes: int) -> float:
    return 2 + max(0, nodes - 16) / 2


def free(_: int) -> float:
    return 2


@pytest.mark.parametrize(("step_ms", "most"), [(dear, 0.85), (knee, 0.95), (free, 1.03)])
def test_what_is_measured_saves_time_where_rows_are_dear_and_costs_none_where_they_are_free(
    step_ms: Callable[[int], float], most: float
) -> None:
    assert seconds(CostRule.MEASURED, step_ms) < most * seconds(CostRule.NONE, step_ms)


def test_only_calibrated_chains_that_are_verified_have_a_price() -> None:
    clock = Clock()
    default = Settings()
    assert step_times_of(default, TreeShape.CHAIN, clock) is not None
    assert step_times_of(default, TreeShape.TREE, clock) is None
    given = read_cost("cost", "0:1,8:2")
    for other in (
        replace(default, method="lookup"),
        replace(default, observe_only=True),
        replace(default, cost=CostRule.NONE),
        replace(default, cost=given),
    ):
        assert step_times_of(other, TreeShape.CHAIN, clock) is None
    assert cost_of(default) is None
    assert cost_of(replace(default, cost=given)) is given
