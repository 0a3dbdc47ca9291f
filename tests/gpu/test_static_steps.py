"""Steps at fixed shapes give the tokens of ragged ones; what they cannot do is done as without them."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import closing

import numpy as np
import pytest
import torch

from retrieval_draft.gpu import runner as runner_module
from retrieval_draft.gpu.acceleration import difference
from retrieval_draft.gpu.attention.kinds import Kind
from retrieval_draft.gpu.attention.register import register
from retrieval_draft.gpu.buckets import NODE_COUNTS, ROWS_MAX, Bucket, Buckets
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.graphs import EagerGraphs, Graphs
from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.static_steps import ENTRY, FIELDS, POSITION, SEES, TOKEN, StaticSteps, fill
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import DraftTree, int32s
from tests.gpu.drafters import ScriptedDrafter, random_plan
from tests.gpu.driving import Outputs
from tests.gpu.models import FAMILIES, VOCAB_SIZE, built, config, prompts, tiny
from tests.gpu.replaying import ReplayingGraphs

LENGTH_MAX, NODES_MAX, SLOTS = 96, 25, 4


def static(model: TargetModel, graphs: Graphs | None = None, kind: Kind = "sdpa") -> Runner:
    """A runner whose steps are all static."""
    runner = Runner(model, slots=SLOTS, length_max=LENGTH_MAX, nodes_max=NODES_MAX)
    runner.static = StaticSteps(
        model,
        runner.cache,
        graphs or EagerGraphs(),
        forward=model.forward,
        length_max=LENGTH_MAX,
        nodes_max=NODES_MAX,
    )
    runner.static.kind_of = lambda bucket: kind
    return runner


def registered(family: str) -> TargetModel:
    """One of its own: attention is changed for good."""
    torch.manual_seed(5)
    model = adopt_model(built(config(family)), name=family)
    assert register(model)
    return model


def requests() -> list[Request]:
    samplings = (SamplingOptions(), SamplingOptions(temperature=0.8, top_p=0.9, seed=3))
    return [
        Request(f"{i}", prompt, 14 + 3 * (i % 4), samplings[i % 2], ignore_end=True)
        for i, prompt in enumerate(prompts(9, seed=7))
    ]


def decoded(
    model: TargetModel, runner: Runner | None, drafter: ScriptedDrafter | None = None
) -> Outputs:
    """Prompts are read in small chunks, each between two steps of the sequences that run."""
    drafter = drafter or ScriptedDrafter(random_plan(3, VOCAB_SIZE), observation_width=5)
    decoder = Decoder(
        model,
        slots=SLOTS,
        length_max=LENGTH_MAX,
        nodes_max=NODES_MAX,
        drafter=drafter,
        runner=runner,
    )
    outputs, waiting = Outputs(), requests()
    with closing(decoder._hidden):
        while waiting or decoder.active or decoder.is_prefilling:
            if waiting and decoder.has_room():
                decoder.begin(waiting.pop(0))
            if (first := decoder.prefill()) is not None:
                outputs.take(first)
            for committed in decoder.step():
                outputs.take(committed)
    return outputs


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_ragged_steps(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PREFILL_TOKENS_MAX", 4)
    model = tiny(family)
    seen = Recorder()
    found = decoded(model, static(model, seen))
    assert found.tokens == decoded(model, None).tokens
    shapes = {key[0] for key in seen.keys}
    assert {shape.batch for shape in shapes} == {1, 2, 4}
    assert len({shape.nodes for shape in shapes}) > 3


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_step_replayed_from_a_recording_depends_on_its_inputs_alone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that Python knew when a step was recorded would be in every replay of it."""
    monkeypatch.setattr(runner_module, "PREFILL_TOKENS_MAX", 4)
    model, graphs = tiny(family), ReplayingGraphs()
    found = decoded(model, static(model, graphs))
    assert found.tokens == decoded(model, None).tokens
    assert graphs.replays > len(graphs.recordings) > 3


def test_observations_and_hidden_states_are_those_of_ragged_steps() -> None:
    model = tiny("llama")

    def observed(runner: Runner | None) -> ScriptedDrafter:
        drafter = ScriptedDrafter(random_plan(3, VOCAB_SIZE), observation_width=5)
        drafter.hidden_width = 1000
        decoded(model, runner, drafter)
        return drafter

    graphs = ReplayingGraphs()
    found, expected = observed(static(model, graphs)), observed(None)
    assert graphs.replays > 10
    compared = 0
    for name, told in expected.told.items():
        for one, other in zip(found.told[name].rows, told.rows, strict=True):
            if one is None or other is None:
                assert one is other
                continue
            assert np.array_equal(one.at, other.at)
            assert np.array_equal(one.tokens, other.tokens)
            if one.hidden is not None and other.hidden is not None:
                assert np.allclose(one.hidden, other.hidden, atol=2e-3, rtol=2e-3)
                compared += len(one.hidden)
    assert compared > 300


class Recorder:
    """Calls, and remembers what for."""

    def __init__(self) -> None:
        self.keys: list[tuple[Bucket, Kind]] = []

    def run(self, key: Hashable, call: Callable[[], None]) -> None:
        assert isinstance(key, tuple)
        self.keys.append(key)
        call()


def needs_interpreter() -> None:
    """For the kernel on the CPU. Where there is a GPU Triton runs there alone: test_cuda has the same."""
    kernel = pytest.importorskip("retrieval_draft.gpu.attention.kernel", reason="needs Triton")
    if not kernel.is_interpreted():
        pytest.skip("Triton runs on the GPU here")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("family", "kind"), [("mistral", "triton"), ("gemma3", "triton"), ("gemma3", "flex")]
)
def test_every_attention_gives_the_same_logits_inside_a_model(family: str, kind: Kind) -> None:
    needs_interpreter()
    model = registered(family)
    with torch.inference_mode():
        runner = static(model, kind=kind)
        steps, runner.static = runner.static, None
        assert steps is not None
        runner.scramble()
        assert difference(runner, steps) < 1e-5


def test_a_context_needs_no_new_graph_but_for_sdpa() -> None:
    def shapes(kind: Kind) -> list[int]:
        seen = Recorder()
        model = registered("llama")
        runner = Runner(model, slots=1, length_max=200, nodes_max=0)
        steps = StaticSteps(
            model, runner.cache, seen, forward=model.forward, length_max=200, nodes_max=0
        )
        steps.buckets.lengths = (64, 128, 201)
        steps.kind_of = lambda bucket: kind
        for cached in (5, 63, 64, 150):
            inputs = steps.prepare([cached], [1], [tree_of([])])
            assert inputs is not None
            steps.forward(inputs)
        return [bucket.length for bucket, _ in seen.keys]

    needs_interpreter()
    with torch.inference_mode():
        assert shapes("sdpa") == [64, 64, 128, 201]
        assert shapes("triton") == [201] * 4


class Broken:
    """A recorder that fails."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, key: Hashable, call: Callable[[], None]) -> None:
        self.calls += 1
        raise RuntimeError("operation not permitted when stream is capturing")


def test_what_cannot_be_recorded_is_decoded_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    model, broken = tiny("llama"), Broken()
    found = decoded(model, static(model, broken))
    assert found.tokens == decoded(model, None).tokens
    assert 0 < broken.calls < 25, "a shape that failed is not tried again"
    assert "not permitted when stream is capturing" in caplog.text


def tree_of(parents: Sequence[int]) -> DraftTree:
    return DraftTree(int32s(np.arange(len(parents)) + 10), int32s(parents))


def test_fields_of_a_step_and_its_fillers() -> None:
    fields = np.full((FIELDS, 4, 5), 99, np.int64)
    fill(fields, [7, 3], [40, 41], [tree_of([-1, 0, 0]), tree_of([])], 50)
    assert fields[TOKEN].tolist() == [[40, 10, 11, 12, 0], [41, 0, 0, 0, 0], [0] * 5, [0] * 5]
    assert fields[POSITION].tolist() == [[7, 8, 9, 9, 7], [3] * 5, [0] * 5, [0] * 5]
    own = [0, 1, 2, 4, 8]
    assert fields[SEES].tolist() == [[0, 1, 3, 5, 8], own, own, own]
    # Filler sequences write behind every committed token: their slots may hold a prompt being read.
    scratch = [50, 51, 52, 53, 54]
    assert fields[ENTRY].tolist() == [[7, 8, 9, 10, 11], [3, 4, 5, 6, 7], scratch, scratch]


@pytest.mark.parametrize("slots", [1, 2, 3, 8, 20, 64])
@pytest.mark.parametrize("nodes_max", [0, 1, 5, 16, 64, 100])
def test_a_bucket_holds_what_it_is_for_and_never_leaves_the_cache(
    slots: int, nodes_max: int
) -> None:
    length_max = 3000
    sizes = Buckets(slots, nodes_max, length_max + nodes_max + 1)
    for batch in range(1, slots + 1):
        for nodes in range(1, nodes_max + 2):
            found = sizes.of(batch, nodes, length_max - 1 + nodes)
            if found is None:
                assert nodes > NODE_COUNTS[-1] + 1 or batch * nodes > ROWS_MAX / 3
                continue
            assert batch <= found.batch <= slots
            assert nodes <= found.nodes <= nodes_max + 1
            assert found.batch <= 2 * batch or found.batch - batch < 8
            assert found.length == length_max + nodes_max + 1
    assert sizes.of(slots + 1, 1, 1) is None
    assert sizes.of(1, nodes_max + 2, 1) is None
    assert sizes.of(1, 1, length_max * 2) is None
