"""vLLM's side of the proposer, played by stand-ins: whatever happens, what it gets is a batch of chains.

An engine dies of an exception, None, arrays, rows too many, drafts too long and ids that it cannot embed:
`Worker.take` fails on each of them.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from retrieval_draft.adapters.serving import ServedModel
from retrieval_draft.adapters.vllm import Proposer, register
from retrieval_draft.adapters.vllm import proposer as proposing
from retrieval_draft.engine import Engine
from retrieval_draft.step import StepResponse
from retrieval_draft.tree import DraftTree, int32s
from tests.adapters.stacks import MODEL, TEXT, drafter, random_text
from tests.adapters.vllm_worker import (
    LENGTH_MAX,
    ROWS_MAX,
    TOKENS_MAX,
    Config,
    Lora,
    ModelConfig,
    Params,
    Request,
    Worker,
)
from tests.client.scripted import GONE, Clock, Faulty
from tests.engine.driving import NAMESPACE, VOCAB, learned


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The tensor-parallel rank that a stand-in for vLLM tells."""
    found = {"rank": 0}
    state = ModuleType("vllm.distributed.parallel_state")
    state.get_tp_group = lambda: SimpleNamespace(rank_in_group=found["rank"])  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.distributed"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, state.__name__, state)
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def proposer(
    client: Faulty, rank: dict[str, int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Proposer:
    def made(model: ServedModel, *_: object) -> object:
        assert model == replace(MODEL, end_tokens=(0,))
        return drafter(client, clock=clock)

    monkeypatch.setattr(proposing, "serving_drafter", made)
    # These drafters are gone before the process ends.
    monkeypatch.setattr(proposing, "Finalize", lambda *_, **__: None)
    return Proposer(Config())


@pytest.mark.parametrize("is_naming", [True, False])
def test_requests_are_drafted_wherever_their_rows_are(proposer: Proposer, is_naming: bool) -> None:
    worker = Worker(proposer, is_naming=is_naming)
    worker.add("a", Request(TEXT))
    worker.add("b", Request(random_text(1)))
    worker.add("c", Request([*TEXT[8:], *TEXT[:8]]))
    worker.step("a", "b", "c")
    worker.step("c", "a", "b")
    worker.step("b", "c")  # a is preempted
    worker.run("c", "a", "b")
    assert worker.accepted["a"] > 25
    assert worker.accepted["c"] > 25
    assert proposer.drafter is not None
    assert proposer.drafter.served.errors == 0


def test_what_ends_is_closed_and_learned(engine: Engine, proposer: Proposer) -> None:
    worker = Worker(proposer)
    worker.add("a", Request(TEXT))
    worker.run("a")
    assert learned(engine) == len(TEXT) - 8
    assert proposer.drafter is not None
    assert not proposer.drafter.open_requests()


def test_unfinished_prefills_get_none_and_are_not_opened(
    proposer: Proposer, client: Faulty
) -> None:
    tokens = np.zeros((ROWS_MAX, LENGTH_MAX), np.int32)
    assert proposer.propose([[], []], np.array([5, 5]), tokens) == [[], []]
    assert not client.requests


def spoilt(tree: DraftTree) -> Callable[[StepResponse], StepResponse]:
    return lambda answer: replace(answer, trees=[tree] * len(answer.trees))


CHAIN = int32s(range(-1, 39))
FAULTS: dict[str, Callable[[Faulty], None]] = {
    "too long": lambda client: setattr(
        client, "change", spoilt(DraftTree(int32s([1] * 40), CHAIN))
    ),
    "an id of no token": lambda client: setattr(
        client, "change", spoilt(DraftTree(int32s([VOCAB]), int32s([-1])))
    ),
    "a negative id": lambda client: setattr(
        client, "change", spoilt(DraftTree(int32s([-1]), int32s([-1])))
    ),
    "no trees": lambda client: setattr(client, "change", lambda answer: replace(answer, trees=[])),
    "None": lambda client: setattr(
        client, "change", lambda answer: replace(answer, trees=[None] * len(answer.trees))
    ),
    "gone": lambda client: setattr(client, "failure", GONE),
    "a bug": lambda client: setattr(client, "failure", RuntimeError("a bug")),
    "never answers": lambda client: setattr(client, "late", True),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_naming", [True, False])
def test_no_fault_reaches_the_engine(
    proposer: Proposer, client: Faulty, fault: str, is_naming: bool
) -> None:
    """After five good steps, as in the runs in which each of these ended a real engine."""
    worker = Worker(proposer, is_naming=is_naming)
    worker.add("a", Request(TEXT))
    worker.add("b", Request(random_text(1)))
    for _ in range(5):
        worker.step("a", "b")
    FAULTS[fault](client)
    worker.run("a", "b")


@pytest.mark.parametrize(
    "broken", ["_rows", "_tracker", "_drafter", "ServingDrafter.step", "ServingDrafter.finish"]
)
def test_no_bug_of_ours_reaches_the_engine(
    proposer: Proposer, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _, name = broken.rpartition(".")
    monkeypatch.setattr(proposer.drafter if owner else proposer, name, lambda *_, **__: 1 // 0)
    worker = Worker(proposer, is_naming=broken != "_tracker")
    worker.add("a", Request(TEXT))
    worker.run("a")
    assert worker.accepted["a"] == 0 or broken == "ServingDrafter.finish"


def test_steps_while_the_drafter_is_away_look_at_no_row_and_are_learned_later(
    proposer: Proposer,
    client: Faulty,
    engine: Engine,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(proposer)
    worker.add("a", Request(TEXT))
    worker.step("a")
    client.failure = GONE
    for _ in range(5):
        worker.step("a")
    worker.add("b", Request(random_text(1)))
    with monkeypatch.context() as patched:
        patched.setattr(proposer, "_rows", lambda *_: pytest.fail("a row was looked at"))
        for _ in range(10):
            worker.step("a", "b")
    client.failure, clock.now = None, clock.now + 100
    worker.run("a", "b")
    assert learned(engine) == 2 * (len(TEXT) - 8)
    assert worker.accepted["a"] > 10


def test_the_end_of_the_model_and_of_the_request_bound_drafts(proposer: Proposer) -> None:
    text = (TEXT * 4)[:LENGTH_MAX]
    worker = Worker(proposer)
    worker.add("full", Request(text))
    worker.run("full")  # `take` checks that nothing passes the model's length
    worker.add("short", Request(text, sampling_params=Params(max_tokens=20)))
    while worker.at["short"] < 8 + 18:
        worker.step("short")
        draft = worker.drafts["short"]
        assert not draft or worker.at["short"] + len(draft) < 8 + 20


def test_a_name_that_comes_back_brings_terms_of_its_own(proposer: Proposer) -> None:
    text = (TEXT * 4)[:LENGTH_MAX]
    worker = Worker(proposer)
    worker.add("again", Request(text))
    worker.step("again")
    worker.add("again", Request(text, sampling_params=Params(max_tokens=20)))
    drafted = 0
    while worker.at["again"] < 8 + 18:
        worker.step("again")
        drafted += len(worker.drafts["again"])
        assert not worker.drafts["again"] or worker.at["again"] + len(worker.drafts["again"]) < 28
    assert drafted


def test_a_step_may_want_fewer_tokens(proposer: Proposer) -> None:
    worker = Worker(proposer)
    worker.add("a", Request(TEXT * 2))
    lengths: list[int] = []
    for _ in range(20):
        worker.step("a", tokens_max=2)
        lengths.append(len(worker.drafts["a"]))
    assert max(lengths) == 2


def test_a_request_that_ignores_its_end_is_drafted_past_it(proposer: Proposer) -> None:
    text = [*range(1, 8), 0] * 8
    worker = Worker(proposer)
    worker.add("stops", Request(text))
    worker.add("goes on", Request(text, sampling_params=Params(ignore_eos=True)))
    past = {"stops": 0, "goes on": 0}
    for _ in range(12):
        worker.step("stops", "goes on")
        for name in past:
            past[name] += 0 in worker.drafts[name][:-1]
    assert past["stops"] == 0 < past["goes on"]


def test_only_the_first_rank_drafts(rank: dict[str, int], client: Faulty) -> None:
    rank["rank"] = 1
    proposer = Proposer(Config())
    assert proposer.drafter is None
    worker = Worker(proposer)
    worker.add("a", Request(TEXT))
    worker.run("a")
    assert worker.accepted["a"] == 0


def test_a_model_with_state_is_refused(
    rank: dict[str, int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(ModelConfig(is_hybrid=True), additional_config={})
    monkeypatch.setenv("RETRIEVAL_DRAFT_TRANSPORT", "in-process")
    assert Proposer(config).drafter is None
    assert "recurrent layers" in caplog.text
    monkeypatch.setenv("RETRIEVAL_DRAFT_HYBRID", "1")
    made = Proposer(config).drafter
    assert made is not None
    made.close()


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ({"retrieval_draft": {"step_ms_max": -1}}, "step_ms_max is -1"),
        ({"retrieval_draft": {"nodes": 1}}, "setting is 'nodes'"),
        ({"retrieval_draft": "all"}, "is not a mapping"),
    ],
)
def test_wrong_settings_start_the_engine_without_drafts(
    rank: dict[str, int], said: object, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    proposer = Proposer(Config(additional_config=said))
    assert proposer.drafter is None
    assert logged in caplog.text
    assert proposer.propose([[1]], np.array([1]), np.zeros((1, 8), np.int32)) == [[]]


def test_nothing_of_vllm_as_expected_starts_without_drafts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No stand-in here: what is imported of vLLM is missing."""
    assert Proposer(Config()).drafter is None
    assert "failed to start" in caplog.text
    register()
    assert "going on without vllm.v1.worker.gpu_model_runner" in caplog.text


def test_the_plugin_loads_no_numba_and_no_vllm() -> None:
    """vLLM loads it early, and its search for CPU kernels trips over llvmlite's modules."""
    script = "import sys, retrieval_draft.adapters.vllm; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert not {"numba", "llvmlite", "torch", "vllm"} & set(ended.stdout.split())


# The plugin, around classes like vLLM's.


def runner_class() -> type:
    class GPUModelRunner:
        num_spec_tokens = TOKENS_MAX

        def __init__(self, drafter: object) -> None:
            self.drafter, self.requests = drafter, {"a": Request(TEXT)}
            self.input_batch = SimpleNamespace(req_ids=["a"])
            self.calls: list[str] = []

        def propose_draft_token_ids(self, scheduler_output: object, sampled: object) -> object:
            self.calls.append("propose")
            return sampled

        def _update_states(self, scheduler_output: object) -> str:
            self.calls.append("update")
            return "states"

        speculative_config = "speculating"

        def _prepare_inputs(self, scheduler_output: object, fails: bool) -> object:
            prepared = self.speculative_config
            if fails:
                raise RuntimeError
            return prepared

    return GPUModelRunner


def new_request_class() -> type:
    class NewRequestData:
        def __init__(self, request: Any, blocks: int) -> None:
            self.sampling_params, self.blocks = request.sampling_params, blocks

        @classmethod
        def from_request(cls, request: Any, blocks: int) -> "NewRequestData":
            return cls(request, blocks)

    return NewRequestData


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    runner = ModuleType("vllm.v1.worker.gpu_model_runner")
    output = ModuleType("vllm.v1.core.sched.output")
    found = SimpleNamespace(runner=runner_class(), request=new_request_class())
    runner.GPUModelRunner = found.runner  # type: ignore[attr-defined]
    output.NewRequestData = found.request  # type: ignore[attr-defined]
    for module in (runner, output):
        at = module.__name__
        while at:
            monkeypatch.setitem(sys.modules, at, ModuleType(at))
            at = at.rpartition(".")[0]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def test_the_plugin_names_rows_and_ends_requests(
    vllm: SimpleNamespace, proposer: Proposer, engine: Engine
) -> None:
    register()
    register()  # once more, as vLLM may
    runner = vllm.runner(proposer)
    assert runner.propose_draft_token_ids(SimpleNamespace(), [[1]]) == [[1]]
    assert runner.calls == ["propose"]
    tokens = np.zeros((1, LENGTH_MAX), np.int32)
    tokens[0, :9] = TEXT[:9]
    proposer.propose([[TEXT[8]]], np.array([9]), tokens)
    assert proposer.drafter is not None
    assert proposer.drafter.open_requests() == ["a"]
    assert runner._update_states(SimpleNamespace()) == "states"
    assert proposer.drafter.open_requests() == ["a"]
    runner.requests.clear()
    runner._update_states(SimpleNamespace())
    assert proposer.drafter.open_requests() == []


def test_a_step_with_nothing_to_verify_is_prepared_as_without_drafts(
    vllm: SimpleNamespace, proposer: Proposer
) -> None:
    register()
    runner = vllm.runner(proposer)
    nothing = SimpleNamespace(scheduled_spec_decode_tokens={})
    drafted = SimpleNamespace(scheduled_spec_decode_tokens={"a": [1]})
    assert runner._prepare_inputs(nothing, False) is None
    assert runner._prepare_inputs(drafted, False) == "speculating"
    assert runner._prepare_inputs(SimpleNamespace(), False) == "speculating"
    with pytest.raises(RuntimeError):
        runner._prepare_inputs(nothing, True)
    assert runner.speculative_config == "speculating"
    proposer.has_state = True
    assert runner._prepare_inputs(nothing, False) == "speculating"
    runner.drafter = object()
    assert runner._prepare_inputs(nothing, False) == "speculating"


def test_a_preparation_that_asks_for_more_than_whether_there_are_drafts_is_left_alone(
    vllm: SimpleNamespace, proposer: Proposer
) -> None:
    def prepare(runner: Any, scheduler_output: object) -> object:
        return runner.speculative_config or runner.speculative_config

    vllm.runner._prepare_inputs = prepare
    register()
    assert vllm.runner._prepare_inputs is prepare


def test_the_plugin_leaves_other_drafters_and_broken_batches_alone(vllm: SimpleNamespace) -> None:
    register()
    runner = vllm.runner(object())
    del runner.input_batch
    assert runner.propose_draft_token_ids(SimpleNamespace(), "sampled") == "sampled"
    assert runner._update_states(SimpleNamespace()) == "states"


def test_a_batch_that_the_plugin_cannot_read_is_told_by_its_tokens(
    vllm: SimpleNamespace, proposer: Proposer
) -> None:
    register()
    runner = vllm.runner(proposer)
    del runner.input_batch
    runner.propose_draft_token_ids(SimpleNamespace(), [[1]])
    tokens = np.ones((1, LENGTH_MAX), np.int32)
    proposer.propose([[1]], np.array([9]), tokens)
    assert proposer.drafter is not None
    assert proposer.drafter.open_requests() == ["row-1"]


def test_salts_reach_the_worker_in_the_extra_arguments(vllm: SimpleNamespace) -> None:
    register()
    params = Params(extra_args={"kept": 1})
    request = SimpleNamespace(sampling_params=params, cache_salt="s1")
    made = vllm.request.from_request(request, 7)
    assert type(made) is vllm.request
    assert made.blocks == 7
    assert made.sampling_params.extra_args == {"kept": 1, proposing.SALT_KEY: "s1"}
    plain = Params()
    vllm.request.from_request(SimpleNamespace(sampling_params=plain, cache_salt=None), 7)
    assert plain.extra_args is None


def test_salts_and_adapters_have_namespaces_of_their_own(
    proposer: Proposer, engine: Engine
) -> None:
    worker = Worker(proposer)
    worker.add("a", Request(TEXT, sampling_params=Params(extra_args={proposing.SALT_KEY: "s"})))
    worker.add("b", Request(TEXT, lora_request=Lora("sql")))
    worker.run("a", "b")
    assert worker.accepted["a"] > 25
    assert worker.accepted["b"] > 25
    assert learned(engine) == 0
    assert learned(engine, f"{NAMESPACE}:lora:sql") == len(TEXT) - 8
