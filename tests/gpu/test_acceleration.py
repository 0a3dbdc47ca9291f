"""What makes steps faster is measured, checked, and left out where it is wrong."""

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from retrieval_draft.gpu import acceleration
from retrieval_draft.gpu.acceleration import SDPA_ONLY, accelerate, compiled_forward, difference
from retrieval_draft.gpu.attention import chosen, register
from retrieval_draft.gpu.attention.chosen import Chosen, Measured, measure
from retrieval_draft.gpu.buckets import Bucket
from retrieval_draft.gpu.graphs import EagerGraphs
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.static_steps import Forward, StaticSteps
from retrieval_draft.gpu.target import TargetModel
from tests.gpu.models import tiny
from tests.gpu.test_static_steps import registered, tree_of

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def steps_of(runner: Runner, forward: Forward | None = None) -> StaticSteps:
    length_max, nodes_max = runner.length_max, runner.nodes_max
    return StaticSteps(
        runner.model,
        runner.cache,
        EagerGraphs(),
        length_max=length_max,
        nodes_max=nodes_max,
        forward=forward,
    )


def runner_of(model: TargetModel) -> Runner:
    return Runner(model, slots=3, length_max=64, nodes_max=4)


def test_a_bucket_goes_by_the_nearest_that_was_measured() -> None:
    found = Chosen(
        (
            Measured(Bucket(1, 1, 512), {"sdpa": 9.0, "triton": 11.0}),
            Measured(Bucket(1, 17, 4096), {"sdpa": 90.0, "triton": 12.0, "flex": 13.0}),
            Measured(Bucket(32, 17, 4096), {"sdpa": 900.0, "triton": 95.0, "flex": 80.0}),
        )
    )
    assert found.kind_of(Bucket(1, 2, 512)) == "sdpa"
    assert found.kind_of(Bucket(2, 9, 2048)) == "triton"
    assert found.kind_of(Bucket(24, 17, 1024)) == "flex"
    assert SDPA_ONLY.kind_of(Bucket(1, 1, 1)) == "sdpa"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "ROUNDS", 1)
    monkeypatch.setattr(chosen, "CALLS", 1)


@pytest.mark.usefixtures("quick")
def test_all_ways_are_measured_on_the_cache_itself() -> None:
    pytest.importorskip("triton")
    with torch.inference_mode():
        runner = runner_of(registered("qwen2"))
        runner.scramble()
        row = measure(steps_of(runner), Bucket(2, 5, 69), EagerGraphs())
    assert row.microseconds.keys() == {"sdpa", "triton", "flex"}
    assert all(microseconds > 0 for microseconds in row.microseconds.values())


@pytest.mark.usefixtures("quick")
def test_a_way_that_is_wrong_or_fails_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("triton")
    from retrieval_draft.gpu.attention import operator

    def nothing(query: Tensor, *rest: object) -> Tensor:
        return torch.zeros_like(query.transpose(1, 2))

    def failing(*parts: object) -> Tensor:
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr(register, "flex_tree_attention", nothing)
    monkeypatch.setattr(operator, "tree_attention_operator", failing)
    with torch.inference_mode():
        runner = runner_of(registered("llama"))
        runner.scramble()
        row = measure(steps_of(runner), Bucket(1, 5, 69), EagerGraphs())
    assert row.microseconds.keys() == {"sdpa"}
    assert "attention differs kind=flex" in caplog.text
    assert "attention failed kind=triton" in caplog.text


def test_a_compiled_forward_is_one_graph_a_shape() -> None:
    model = tiny("llama")
    with torch.inference_mode():
        runner = runner_of(model)
        runner.scramble()
        runner.static = steps_of(runner, compiled_forward(model, backend="eager"))
        counters.clear()
        for cached in (3, 9, 20, 41):
            for parents in ([-1, 0, 0], [-1, 0, 1, 2], []):
                runner.step([cached], [1], [tree_of(parents)])
        # Trees of three and of four nodes share a shape; contexts do not count.
        assert counters["stats"]["unique_graphs"] == 2
        steps, runner.static = runner.static, None
        assert difference(runner, steps) < 1e-5


def test_steps_that_are_wrong_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny("qwen2")

    def wrong(model: TargetModel) -> Forward:
        return lambda tokens, positions, masks, cache: model.forward(
            tokens, positions + 1, masks, cache
        )

    monkeypatch.setattr(acceleration, "compiled_forward", wrong)
    runner = runner_of(model)
    assert accelerate(runner, is_compiled=True) is None
    assert runner.static is None
    assert "logits differ from ragged steps" in caplog.text


def test_steps_that_are_right_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "compiled_forward", lambda model: model.forward)
    runner = runner_of(tiny("qwen2"))
    done = accelerate(runner, is_compiled=True)
    assert done is not None
    assert (done.has_graphs, done.is_compiled) == (False, True)
    assert runner.static is not None
