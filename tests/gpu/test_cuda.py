"""What only a GPU can show. The kernel's own tests, test_tree_attention, run on one where there is one."""

import pytest
import torch

from retrieval_draft.gpu.acceleration import accelerate
from retrieval_draft.gpu.attention.chosen import choose
from retrieval_draft.gpu.attention.kinds import KINDS, Kind
from retrieval_draft.gpu.attention.register import register
from retrieval_draft.gpu.graphs import CudaGraphs
from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.target import TargetModel
from tests.gpu.models import built, config
from tests.gpu.test_static_steps import LENGTH_MAX, NODES_MAX, SLOTS, decoded, static, tree_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


HEAD_WIDTH = 16
"""The least that FlexAttention takes on a GPU."""


def on_gpu(family: str) -> TargetModel:
    torch.manual_seed(5)
    settings = config(family)
    settings.head_dim = HEAD_WIDTH
    module = built(settings)
    torch.nn.Module.to(module, torch.device("cuda"))
    model = adopt_model(module, name=family)
    assert register(model)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_recorded_steps_give_the_tokens_of_ragged_ones(family: str, kind: Kind) -> None:
    model = on_gpu(family)
    graphs = CudaGraphs(model.device)
    found = decoded(model, static(model, graphs, kind))
    assert found.tokens == decoded(model, None).tokens
    assert len(graphs) > 6


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_worker_on_a_gpu_is_accelerated(is_compiled: bool) -> None:
    model = on_gpu("llama")
    runner = Runner(model, slots=SLOTS, length_max=LENGTH_MAX, nodes_max=NODES_MAX)
    done = accelerate(runner, is_compiled=is_compiled)
    assert done is not None
    assert done.has_graphs
    assert decoded(model, runner).tokens == decoded(model, None).tokens


def test_all_ways_to_attend_are_right_here() -> None:
    with torch.inference_mode():
        model = on_gpu("qwen2")
        runner = static(model)
        runner.scramble()
        assert runner.static is not None
        table = choose(runner.static, lambda: CudaGraphs(model.device), seconds_max=120.0)
    assert all(row.microseconds.keys() == set(KINDS) for row in table.rows)


def test_one_graph_serves_every_context() -> None:
    model = on_gpu("llama")
    graphs = CudaGraphs(model.device)
    runner = static(model, graphs, "triton")
    steps = runner.static
    with torch.inference_mode():
        runner.scramble()
        for cached in (3, 40, 90, 11):
            step = ([cached], [1], [tree_of([-1, 0, 0])])
            runner.static = steps
            found = runner.step(*step).clone()
            runner.static = None
            torch.testing.assert_close(found, runner.step(*step), rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1
