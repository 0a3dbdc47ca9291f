"""Both ways to a drafter behave the same: equal answers, equal errors, equal figures."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import DraftError, Unreachable
from retrieval_draft.step import (
    Rows,
    SequenceStart,
    SequenceStep,
    StepRequest,
    StepResponse,
    TreeShape,
    VerifyCost,
)
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import store_pb2
from tests.client.scripted import Decoder, conversation
from tests.engine.driving import (
    METHODS,
    NAMESPACE,
    SECONDS_MAX,
    SPEC,
    VOCAB,
    Caller,
    learned,
    part,
    rows,
    running_engine,
    same,
    state_of,
    wait_for,
    warm,
)
from tests.server.sidecars import connected, create, running_sidecar, serving, short_folder

CONFIG = Config(record_tokens=5, record_rows=2, batch_sequences_max=4)
Way = tuple[Engine, Caller]


@pytest.fixture
def ways() -> Iterator[list[Way]]:
    """An engine in this process, and one behind a socket."""
    with ExitStack() as stack:
        engine = stack.enter_context(running_engine(CONFIG))
        sidecar = stack.enter_context(running_sidecar(CONFIG))
        client = stack.enter_context(connected(sidecar.targets[0]))
        yield [
            (engine, Caller(EngineClient(engine), client_id="c")),
            (sidecar.engine, Caller(client, client_id="c")),
        ]


def assert_equal(one: StepResponse, other: StepResponse) -> None:
    assert one.step_id == other.step_id
    assert one.statuses == other.statuses
    assert one.problems == other.problems
    assert all(same(a, b) for a, b in zip(one.trees, other.trees, strict=True))


def random_session(
    dice: random.Random, steps: int
) -> Iterator[tuple[list[SequenceStep], dict[str, Any]]]:
    """Steps of a batch that opens, goes on, rolls back, ends, and errs."""
    stops: dict[str, int] = {}
    for step in range(1, steps + 1):
        parts = []
        for name in dice.sample("abcd", dice.randint(1, 4)):
            length = dice.randint(0, 12)
            tokens = [dice.randint(0, 5) for _ in range(length)]
            stop = stops.get(name, 0)
            more: dict[str, Any] = {
                "finished": dice.random() < 0.1,
                "nodes_max": dice.choice([0, 3, 20]),
                "verified_step": dice.choice([0, step - 1]),
                "accepted": dice.choice([-1, 0, 1]),
            }
            if dice.random() < 0.5 and length:
                top = [[dice.randint(0, VOCAB - 1) for _ in range(4)] for _ in range(2)]
                more["rows"] = rows([stop, -1], top)
            if dice.random() < 0.2:
                more["verified_tree"] = DraftTree(int32s([1, 2]), int32s([-1, 0]))
            if dice.random() < 0.1:
                tokens.append(VOCAB)
            base = stop if dice.random() < 0.8 else max(0, stop - dice.randint(0, 3))
            if dice.random() < 0.1:
                base += 5
            if base == 0 and dice.random() < 0.9:
                start = SequenceStart(0, temperature=0.5, length_max=200, end_tokens=(5,))
                parts.append(part(name, 0, tokens, prompt=length // 2, start=start, **more))
            else:
                parts.append(part(name, base, tokens, **more))
            stops[name] = base + len(tokens)
        options: dict[str, Any] = {
            "method": dice.choice(METHODS),
            "shape": dice.choice(list(TreeShape)),
            "batch_nodes_max": dice.choice([0, 0, 9]),
            "depth_max": dice.choice([0, 4]),
        }
        if dice.random() < 0.3:
            options["verify_cost"] = VerifyCost(
                int32s([0, 10, 40]), np.array([5, 6, 20], np.float32)
            )
        yield parts, options


@pytest.mark.parametrize("seed", range(4))
def test_the_same_session_has_the_same_answers(ways: list[Way], seed: int) -> None:
    for engine, _ in ways:
        warm(engine, "books", [1, 2, 3, 4, 1, 2, 4], [0, 1, 2, 0, 1])
    for parts, options in random_session(random.Random(seed), 60):  # noqa: S311 - a test's
        answers = [calls.step(*parts, **options) for _, calls in ways]
        assert_equal(*answers)
        for engine, _ in ways:
            learned(engine)
    one, other = (state_of(engine) for engine, _ in ways)
    assert one.learned.digest() == other.learned.digest()
    mixers = (one.methods.mix.state(), other.methods.mix.state())
    assert all((array == mixers[1][name]).all() for name, array in mixers[0].items())
    assert (one.counters.table == other.counters.table).all()
    figures = [calls.client.stats(NAMESPACE).namespaces[0] for _, calls in ways]
    for stats in figures:
        # Timing decides which records share a batch, and so where the journal ends.
        for field in ("draft_us_p50", "draft_us_p99", "timings", "lag_records", "journal_position"):
            stats.ClearField(field)
    assert figures[0] == figures[1]


def opened(**start: Any) -> SequenceStep:
    return part("s", 0, [1, 2], prompt=2, start=SequenceStart(0, **start))


BAD_ROWS = Rows(int32s([0]), int32s([[VOCAB]]), np.empty((1, 0), np.float32))
ERRORS: dict[str, Callable[[Caller], object]] = {
    "no sequences": lambda calls: calls.step(),
    "too many sequences": lambda calls: calls.step(*[part(f"{i}", 0, [1]) for i in range(5)]),
    "an unknown namespace": lambda calls: replace(calls, namespace="unknown").step(opened()),
    "a bad namespace": lambda calls: replace(calls, namespace="a b").step(opened()),
    "no client": lambda calls: replace(calls, client_id="").step(opened()),
    "step 0": lambda calls: replace(calls, step_id=-1).step(opened()),
    "an unknown method": lambda calls: calls.step(opened(), method="eagle"),
    "too many nodes": lambda calls: calls.step(opened(), nodes_max=5000),
    "a stale step": lambda calls: [
        calls.step(opened()),
        calls.step(opened()),
        replace(calls, step_id=0).step(opened()),
    ],
    "an unknown namespace's figures": lambda calls: calls.client.stats("unknown"),
    "a namespace that differs": lambda calls: calls.client.create_namespace(
        store_pb2.CreateNamespaceRequest(namespace=NAMESPACE, vocab_size=VOCAB + 1)
    ),
    "a namespace without a vocabulary": lambda calls: calls.client.create_namespace(
        store_pb2.CreateNamespaceRequest(namespace="other")
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_same_mistake_has_the_same_error(ways: list[Way], name: str) -> None:
    said = []
    for _, calls in ways:
        with pytest.raises(DraftError) as caught:
            ERRORS[name](calls)
        said.append((caught.value.status, caught.value.exit_code, str(caught.value)))
    assert said[0] == said[1]


def test_a_client_works_again_after_an_error(ways: list[Way]) -> None:
    for _, calls in ways:
        with pytest.raises(DraftError):
            calls.step(opened(), method="eagle")
        assert calls.step(opened()).statuses == [1]


def test_predictions_and_figures_travel_both_ways(ways: list[Way]) -> None:
    for engine, calls in ways:
        assert calls.client.observation_width(SECONDS_MAX) == 10
        assert calls.client.hidden_width(SECONDS_MAX) == 0
        answer = calls.step(part("s", 0, [1, 2], prompt=2, rows=BAD_ROWS))
        assert answer.problems[0].field == "observations.tokens"
        spec = msgspec.structs.replace(SPEC, namespace="more")
        made = calls.client.create_namespace(
            store_pb2.CreateNamespaceRequest(namespace=spec.namespace, vocab_size=spec.vocab_size)
        )
        assert (made.namespace, made.vocab_size) == ("more", VOCAB)
        assert len(calls.client.stats().namespaces) == 2
        assert engine.clients.count() == 0


def test_a_conversation_decodes_the_same_over_both(ways: list[Way]) -> None:
    text = [token * token % 7 for token in range(150)]
    figures = []
    for engine, calls in ways:
        talk = conversation(calls.client)
        decoder = Decoder(talk, text).open(20).run()
        talk.finish("s")
        assert talk.flush(SECONDS_MAX)
        assert learned(engine) == 130
        figures.append((decoder.accepted, decoder.drafted, talk.figures.steps, talk.figures.late))
    assert figures[0] == figures[1]
    assert figures[0][0] > 50


# The sidecar's transport alone.


def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    client = GrpcClient(f"unix:{tmp_path}/none.sock")
    for call in (client.stats, client.info, lambda: client.delete_namespace("x")):
        with pytest.raises(Unreachable, match="is `retrieval-draft serve` running there"):
            call()
    with pytest.raises(Unreachable, match="no step was sent"):
        client.receive(1, 1.0)
    client.send(StepRequest(1, NAMESPACE, "c", [opened()]))
    with pytest.raises(Unreachable):
        client.receive(1, SECONDS_MAX)
    client.close()


def test_waiting_has_a_deadline_and_a_late_answer_is_still_there(ways: list[Way]) -> None:
    _, calls = ways[1]
    client, request = calls.client, StepRequest(1, NAMESPACE, "c", [opened()])
    client.send(request)
    assert client.receive(2, 0.01) is None, "nobody asked that"
    client.send(msgspec.structs.replace(request, step_id=2))
    answer = client.receive(2, SECONDS_MAX)
    assert answer is not None
    assert answer.step_id == 2


def test_what_the_last_step_taught_is_learned_though_its_caller_is_gone(ways: list[Way]) -> None:
    engine, calls = ways[1]
    assert isinstance(calls.client, GrpcClient)
    count = 30
    for number in range(count):
        with connected(calls.client.target, spec=None) as client:
            output = [number + 1] * CONFIG.record_tokens
            Caller(client).step(part(f"{number}", 0, [0, *output], prompt=1))
    state = state_of(engine)
    wait_for(lambda: state.learned.tokens_learned == count * CONFIG.record_tokens)


def test_a_sidecar_that_is_killed_and_restarted_costs_a_resync_and_no_token() -> None:
    text = [1, 2, 3, 4, 5, 6] * 500
    with (
        short_folder() as folder,
        serving(folder / "data", "--redis", "none") as first,
        connected(first.target) as client,
    ):
        talk = conversation(client)
        decoder = Decoder(talk, text).open(12)
        for _ in range(3):
            assert decoder.step() is not None
        first.kill()
        before = decoder.stop
        decoder.step()
        assert decoder.stop == before + 1, "decoding goes on without drafts"
        with serving(folder / "data", "--redis", "none") as second:
            wait_for(lambda: answers(client), "the channel does not come back")
            create(client)
            wait_for(lambda: decoder.stop == len(text) or bool(decoder.step()))
            assert talk.figures.resyncs == 1
            decoder.run()
            talk.finish("s")
            assert talk.flush(SECONDS_MAX)
            assert second.terminate() == 0


def answers(client: GrpcClient) -> bool:
    try:
        client.info(1.0)
    except Unreachable:
        return False
    return True
