"""TensorRT-LLM's interface by fakes that follow it: nothing of it can be installed here.

Drafter's constructor is as in four released versions; requests, states and configuration as the PyTorch
backend's.
"""

import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from retrieval_draft.adapters import tensorrt_llm
from retrieval_draft.adapters.serving import ServedModel, ServingDrafter
from retrieval_draft.adapters.settings import CostRule, Settings
from retrieval_draft.adapters.tensorrt_llm import Chains, decoding_config, make_drafter
from retrieval_draft.adapters.tensorrt_llm_serve import DraftingLauncher
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.tokenizer import demo_folder
from tests.client.scripted import Clock
from tests.engine.driving import wait_for

VOCAB = 100
MODEL = ServedModel("m", VOCAB, (99,))
TEXT = [n * n % 97 for n in range(200)]
WAIT = Settings(namespace="trt", cost=CostRule.NONE, step_ms_max=10_000.0)
RUNNING, COMPLETE = "running", "complete"


class Base(ABC):
    @abstractmethod
    def prepare_draft_tokens(self, scheduled_requests: Any, resource_manager: Any = None) -> None:
        raise NotImplementedError


class Oldest(Base):
    def __init__(self, max_concurrency: int | None = None) -> None:
        self.max_concurrency = max_concurrency


class Scheduled(Base):
    def __init__(self, max_concurrency: int | None = None, draft_len_schedule: Any = None) -> None:
        self.max_concurrency = max_concurrency


class Newest(Base):
    def __init__(
        self,
        max_draft_len: int | None = None,
        max_total_draft_tokens: int | None = None,
        max_concurrency: int | None = None,
        draft_len_schedule: Any = None,
    ) -> None:
        assert max_draft_len == max_total_draft_tokens in (5, 8)


class Renamed(Base):
    def __init__(
        self,
        max_draft_tokens: int,
        max_concurrency: int | None = None,
        draft_len_schedule: Any = None,
    ) -> None:
        assert max_draft_tokens == 5


class Request:
    def __init__(self, number: int, prompt: list[int], output: list[int]) -> None:
        self.request_id = number
        self.tokens = [*prompt, *output]
        self.state = RUNNING
        self.py_orig_prompt_len = len(prompt)
        self.py_max_new_tokens = 100
        self.py_draft_tokens: list[int] = []

    def get_tokens(self, beam: int) -> list[int]:
        assert beam == 0
        return self.tokens


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    """The package's modules as far as they are touched; `ranks` can be set."""
    faked = SimpleNamespace(ranks=1)

    def module(name: str, **members: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(members)
        return made

    states = SimpleNamespace(GENERATION_COMPLETE=COMPLETE)
    base = getattr(request, "param", Newest)
    modules = {
        "tensorrt_llm": module("tensorrt_llm"),
        "tensorrt_llm.llmapi": module(
            "tensorrt_llm.llmapi", UserProvidedDecodingConfig=SimpleNamespace
        ),
        "tensorrt_llm._utils": module("tensorrt_llm._utils", mpi_world_size=lambda: faked.ranks),
        "tensorrt_llm._torch.speculative.drafter": module("drafter", Drafter=base),
        "tensorrt_llm._torch.pyexecutor.llm_request": module("requests", LlmRequestState=states),
    }
    tensorrt_llm._drafter_class.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in modules.items():
            patch.setitem(sys.modules, name, fake)
        yield faked
    tensorrt_llm._drafter_class.cache_clear()


def decode(chains: Chains, request: Request, text: list[int]) -> int:
    steps = 0
    while len(request.tokens) < request.py_orig_prompt_len + len(text):
        steps += 1
        (draft,) = chains.draft([request])
        assert all(type(token) is int and 0 <= token < VOCAB for token in draft)
        left = text[len(request.tokens) - request.py_orig_prompt_len :]
        kept = 0
        while kept < len(draft) and kept < len(left) - 1 and draft[kept] == left[kept]:
            kept += 1
        request.tokens += left[: kept + 1]
    return steps


def test_what_a_request_taught_is_drafted_for_the_next(in_memory: EngineClient) -> None:
    drafter = ServingDrafter(in_memory, MODEL, WAIT)
    chains = Chains(drafter, MODEL, 8, COMPLETE)
    one = Request(1, TEXT[:10], TEXT[10:11])
    first = decode(chains, one, TEXT[10:90])
    chains.draft([Request(9, [1, 2], [3])])
    assert "1" in drafter.open_requests(), "it is absent, and has not ended"
    one.state = COMPLETE
    chains.draft([Request(9, [1, 2], [3])])
    assert drafter.open_requests() == ["9"]
    wait_for(lambda: in_memory.stats("trt").namespaces[0].learned_tokens >= 80)
    second = decode(chains, Request(2, TEXT[:10], TEXT[10:11]), TEXT[10:90])
    assert first > 60
    assert second < 0.4 * first
    assert drafter.served.errors == 0


@pytest.mark.parametrize("engine", [Oldest, Scheduled, Newest, Renamed], indirect=True)
def test_it_is_a_drafter_of_every_version(engine: SimpleNamespace) -> None:
    """It travels to the executor's process; there, without a sidecar, every request has an empty draft."""
    made = make_drafter(MODEL, {"sidecar": "unix:/nonexistent/s.sock"}, 5)
    arrived = pickle.loads(pickle.dumps(made))  # noqa: S301 - what was pickled a line ago
    assert isinstance(arrived, Base)
    request = Request(1, [1, 2, 3], [4])
    request.py_draft_tokens = [7]
    arrived.prepare_draft_tokens(SimpleNamespace(generation_requests=[request]))
    assert request.py_draft_tokens == []


def test_the_configuration_names_a_drafter_of_the_model(engine: SimpleNamespace) -> None:
    config = decoding_config(str(demo_folder()), {"off": True}, tokens_max=5)
    assert config.max_draft_len == 5
    model, _, _ = config.drafter._made_from
    assert (model.vocab_size, model.end_tokens) == (4096, (0,))


def test_what_requests_raise_ends_here(engine: SimpleNamespace) -> None:
    drafter = make_drafter(MODEL, {"off": False}, 5)

    class Broken(Request):
        def get_tokens(self, beam: int) -> list[int]:
            raise RuntimeError("gone")

    broken = Broken(1, [1], [2])
    drafter.prepare_draft_tokens(SimpleNamespace(generation_requests=[broken]))
    assert broken.py_draft_tokens == []


def test_several_ranks_get_no_drafts(
    engine: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    engine.ranks = 2
    request = Request(1, [1, 2, 3], [4])
    make_drafter(MODEL, None, 5).prepare_draft_tokens(
        SimpleNamespace(generation_requests=[request])
    )
    assert request.py_draft_tokens == []
    assert "2 ranks" in caplog.text


def test_the_server_starts_with_a_drafter(engine: SimpleNamespace) -> None:
    started: list[Any] = []
    launch = DraftingLauncher(lambda *all, **named: started.append((all, named)))
    launch("h", 1, {"model": str(demo_folder()), "backend": "pytorch"}, chat_template="t")
    (((host, port, arguments), named),) = started
    assert (host, port, named) == ("h", 1, {"chat_template": "t"})
    assert arguments["backend"] == "pytorch"
    assert isinstance(arguments["speculative_config"].drafter, Base)


def test_requests_that_never_say_they_ended_are_forgotten() -> None:
    clock, client = Clock(), EngineClient.in_memory()
    drafter = ServingDrafter(client, MODEL, WAIT, clock=clock)
    chains = Chains(drafter, MODEL, 5, COMPLETE)
    chains.draft([Request(1, [1, 2], [3])])
    for _ in range(3):
        clock.now += WAIT.idle_seconds_max
        chains.draft([Request(2, [1, 2], [3])])
    assert list(chains._open) == [2]
    drafter.close()
