"""What makes steps faster is measured, checked, and left out where it is wrong."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu import acceleration
from retrieval_draft.gpu.acceleration import (
    SDPA_ONLY,
    Acceleration,
    accelerate,
    compiled_forward,
    difference,
    use_static_steps,
)
from retrieval_draft.gpu.attention import chosen, register
from retrieval_draft.gpu.attention.chosen import Chosen, Measured, choose, measure
from retrieval_draft.gpu.attention.kinds import Kind
from retrieval_draft.gpu.buckets import Bucket
from retrieval_draft.gpu.graphs import EagerGraphs, Graphs
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.slot_cache import SlotCache
from retrieval_draft.gpu.static_steps import Forward, StaticSteps
from retrieval_draft.gpu.target import AttentionMasks, TargetModel
from tests.gpu.models import tiny
from tests.gpu.test_static_steps import needs_interpreter, registered, tree_of

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def steps_of(runner: Runner, forward: Forward | None = None) -> StaticSteps:
    return StaticSteps(
        runner.model,
        runner.cache,
        EagerGraphs(),
        forward=forward or runner.model.forward,
        length_max=runner.length_max,
        nodes_max=runner.nodes_max,
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
    # FlexAttention halts the worker where a shape is new: a trifle is not worth that.
    assert Measured(Bucket(1, 1, 512), {"triton": 10.0, "flex": 9.5}).fastest == "triton"
    assert str(Acceleration(True, False, found)) == "static shapes, CUDA graphs, flex, sdpa, triton"
    assert str(Acceleration(False, True, SDPA_ONLY)) == "static shapes, compiled, sdpa"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "ROUNDS", 1)
    monkeypatch.setattr(chosen, "CALLS", 1)


@pytest.mark.usefixtures("quick")
def test_all_ways_are_measured_on_the_cache_itself() -> None:
    needs_interpreter()
    with torch.inference_mode():
        runner = runner_of(registered("qwen2"))
        runner.scramble()
        row = measure(steps_of(runner), Bucket(2, 5, 69), EagerGraphs())
    assert row.microseconds.keys() == {"sdpa", "triton", "flex"}
    assert all(microseconds > 0 for microseconds in row.microseconds.values())


@pytest.mark.usefixtures("quick")
def test_what_takes_long_comes_last_and_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Bucket, tuple[Kind, ...]]] = []

    def pretended(
        steps: StaticSteps, bucket: Bucket, graphs: Graphs, kinds: tuple[Kind, ...]
    ) -> Measured:
        asked.append((bucket, kinds))
        now[0] += 1.0
        return Measured(bucket, {kind: float(len(asked)) for kind in kinds})

    now = [0.0]
    monkeypatch.setattr(chosen, "measure", pretended)
    monkeypatch.setattr(chosen, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    steps = steps_of(runner_of(tiny("qwen2")))
    points = 3 * 2 * 1  # batches of 1, 2 and 3, with and without trees, one length
    found = choose(steps, EagerGraphs, seconds_max=points + 2.0)
    assert [kinds for _, kinds in asked] == [("sdpa", "triton")] * points + [("sdpa", "flex")] * 2
    assert [len(row.microseconds) for row in found.rows] == [3, 3, 2, 2, 2, 2]
    assert found.rows[0].microseconds == {"sdpa": 1.0, "triton": 1.0, "flex": points + 1.0}


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


def test_a_compiled_forward_writes_into_the_cache_and_copies_none_of_it() -> None:
    """A compiler that is given two tensors of one memory, one of them written to, copies all of it."""
    graphs: list[torch.fx.GraphModule] = []

    def shown(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    backend = aot_autograd(fw_compiler=shown, inference_compiler=shown)
    model = tiny("llama")
    with torch.inference_mode():
        runner = runner_of(model)
        runner.scramble()
        steps = steps_of(runner, compiled_forward(model, backend=backend))
        assert difference(runner, steps) < 1e-5
    assert graphs
    for graph in graphs:
        called = [str(node.target) for node in graph.graph.nodes]
        assert called.count("aten.index_put.default") == 2 * len(runner.cache.slot_layers)
        assert not [name for name in called if "scatter" in name or "as_strided" in name]


def test_a_thread_may_compile_as_many_shapes_as_the_one_that_began() -> None:
    """torch's settings are each thread's own, and requests are decoded in another than measurements."""

    def added(tokens: Tensor, positions: Tensor, masks: object, cache: object) -> Tensor:
        return tokens + positions

    model = cast(TargetModel, SimpleNamespace(forward=added))
    compiled = compiled_forward(model, backend="eager")
    empty: Any = None

    def elsewhere() -> list[int]:
        shapes = [torch.ones(1, n) for n in range(2, 14)]
        return [compiled(one, one, empty, empty).shape[1] for one in shapes]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == list(range(2, 14))


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter would take minutes."""
    monkeypatch.setattr(acceleration, "choose", lambda steps, new_graphs: SDPA_ONLY)


@pytest.mark.usefixtures("unmeasured")
def test_the_first_forward_that_is_right_is_used(caplog: pytest.LogCaptureFixture) -> None:
    model = registered("qwen2")

    def wrong(tokens: Tensor, positions: Tensor, masks: AttentionMasks, cache: SlotCache) -> Tensor:
        return model.forward(tokens, positions + 1, masks, cache)

    def failing(
        tokens: Tensor, positions: Tensor, masks: AttentionMasks, cache: SlotCache
    ) -> Tensor:
        raise RuntimeError("graph break\nand its story")

    runner = runner_of(model)
    assert use_static_steps(runner, EagerGraphs, [wrong, failing])[0] is None
    assert runner.static is None
    assert "logits differ from ragged steps" in caplog.text
    assert "graph break\n" in caplog.text
    assert "story" not in caplog.text
    right = model.forward
    assert use_static_steps(runner, EagerGraphs, [wrong, right]) == (right, SDPA_ONLY)
    assert runner.static is not None


def test_the_cpu_is_left_as_it_is_and_does_not_compile() -> None:
    model = tiny("qwen2")
    runner = runner_of(model)
    assert accelerate(runner) is None
    assert runner.static is None
    assert model.module.config._attn_implementation != register.NAME
    with pytest.raises(InvalidInput, match="compile"):
        accelerate(runner, is_compiled=True)
