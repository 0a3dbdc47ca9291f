"""A conversation goes on whatever happens to its drafter, and nothing is lost or learned twice."""

import pytest

from retrieval_draft.breaker import (
    BACKOFF_SECONDS_MAX,
    BACKOFF_SECONDS_MIN,
    WAITS_MAX,
)
from retrieval_draft.conversation import FINISHING_MAX, Conversation
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.step import DraftOptions, Learning, StepResponse
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.tree import EMPTY, int32s
from retrieval_draft.v1 import store_pb2
from tests.client.scripted import GONE, PROMPT, TEXT, Clock, Decoder, Faulty, conversation, tree
from tests.engine.driving import NAMESPACE, VOCAB, learned, rows, running_engine, state_of


def held(engine: Engine, name: str = "s") -> list[int]:
    """What the engine has of a sequence."""
    (sequence,) = [
        sequence
        for client in engine.clients._clients.values()
        for known, sequence in client.sequences.items()
        if known == name
    ]
    text: list[int] = sequence.ring.read(sequence.ring.low, sequence.ring.stop).tolist()
    return text


def test_a_whole_decoding_is_drafted_learned_once_and_closed(
    engine: Engine, client: Faulty
) -> None:
    talk = conversation(client)
    decoder = Decoder(talk, TEXT).open(PROMPT).run()
    assert decoder.accepted > 30
    talk.finish("s")
    assert talk.flush()
    assert engine.clients.count() == 0
    assert learned(engine) == len(TEXT) - PROMPT
    assert state_of(engine).counters.accepted == decoder.accepted
    assert talk.figures.failed == talk.figures.resyncs == talk.figures.late == 0


def test_prompts_are_learned_where_the_namespace_or_the_sequence_says_so(engine: Engine) -> None:
    talk = conversation(EngineClient(engine))
    for i, (learning, tokens) in enumerate(
        ((Learning.UNSPECIFIED, 0), (Learning.OUTPUT, 0), (Learning.PROMPT_AND_OUTPUT, 8))
    ):
        before = learned(engine)
        talk.open(f"{i}", int32s(TEXT[:8]), learning=learning)
        talk.draft({f"{i}": 4})
        talk.finish(f"{i}")
        assert talk.flush()
        assert learned(engine) - before == tokens
    request = store_pb2.CreateNamespaceRequest(namespace="open", vocab_size=9, learn_prompts=True)
    EngineClient(engine).create_namespace(request)
    talk._namespace = "open"
    talk.open("s", int32s(TEXT[:8]))
    talk.draft({"s": 4})
    talk.finish("s")
    assert talk.flush()
    assert learned(engine, "open") == 8


# What is lost.


def test_a_drafter_that_restarts_gets_the_sequence_once_more_and_learns_nothing_twice() -> None:
    store = MemoryStore()
    with running_engine(store=store) as first:
        client = Faulty(EngineClient(first))
        talk = conversation(client)
        decoder = Decoder(talk, TEXT).open(PROMPT)
        for _ in range(3):
            decoder.step()
    with running_engine(store=store, replica="b") as second:
        acknowledged = talk._open["s"].acknowledged
        assert learned(second) == acknowledged - PROMPT
        client.client = EngineClient(second)
        assert decoder.step() is None
        assert talk.figures.resyncs == 1
        assert decoder.step() is not None, "the next step is drafted again"
        decoder.run()
        talk.finish("s")
        assert talk.flush()
        assert learned(second) == len(TEXT) - PROMPT


def test_a_sequence_that_ends_while_the_drafter_restarts_is_learned_to_its_end() -> None:
    store = MemoryStore()
    with running_engine(store=store) as first:
        client = Faulty(EngineClient(first))
        talk = conversation(client)
        Decoder(talk, TEXT).open(PROMPT).run()
    with running_engine(store=store, replica="b") as second:
        client.client = EngineClient(second)
        talk.finish("s")
        assert talk.flush()
        assert learned(second) == len(TEXT) - PROMPT
        assert second.clients.count() == 0


def test_what_a_lost_message_held_goes_with_the_next(engine: Engine, client: Faulty) -> None:
    talk = conversation(client)
    decoder = Decoder(talk, TEXT).open(PROMPT)
    decoder.step()
    client.failure = GONE
    assert decoder.step() is None
    assert decoder.step() is None
    client.failure = None
    decoder.step()
    sent = client.requests[-1].sequences[0]
    assert sent.base_position + len(sent.tokens) == len(held(engine))
    assert held(engine) == TEXT[: len(held(engine))]
    assert sent.verified_step == 0, "whose tree that was nobody can say any more"


def test_an_answer_that_was_lost_after_the_drafter_had_taken_the_step_does_no_harm(
    engine: Engine, client: Faulty
) -> None:
    talk = conversation(client)
    decoder = Decoder(talk, TEXT).open(PROMPT)
    decoder.step()

    def lose(answer: StepResponse) -> StepResponse:
        raise GONE

    client.change = lose
    decoder.step()
    client.change = lambda answer: answer
    decoder.run()
    talk.finish("s")
    assert talk.flush()
    assert learned(engine) == len(TEXT) - PROMPT
    assert state_of(engine).counters.resyncs == 0


# What is late.


def test_a_late_answer_is_dropped_and_its_tokens_are_kept(engine: Engine, client: Faulty) -> None:
    talk = conversation(client)
    decoder = Decoder(talk, TEXT).open(PROMPT)
    client.late = True
    assert decoder.step() is None
    assert decoder.step() is None, "nothing is sent while an answer is outstanding"
    assert len(client.requests) == 1
    client.late = False
    tree = decoder.step()
    assert tree is not None
    assert len(client.requests) == 2
    sent = client.requests[1].sequences[0]
    assert (sent.base_position, sent.tokens.tolist()) == (PROMPT, TEXT[PROMPT : PROMPT + 2])
    assert held(engine) == TEXT[: PROMPT + 2]
    assert (talk.figures.late, talk.figures.skipped, talk.figures.failed) == (1, 1, 0)


def test_a_late_answer_to_a_sequence_that_ended_is_not_taken_for_its_namesakes(
    engine: Engine, client: Faulty
) -> None:
    talk = conversation(client)
    Decoder(talk, TEXT).open(PROMPT).step()
    client.late = True
    talk.commit("s", int32s(TEXT[9:20]), -1)
    talk.draft({"s": 4})
    client.late = False
    talk.finish("s")
    talk.open("s", int32s([50, 51, 52]))
    talk.draft({"s": 4})
    assert held(engine) == [50, 51, 52]


def test_an_open_sequence_is_not_closed_with_an_ended_namesake(
    engine: Engine, client: Faulty
) -> None:
    talk = conversation(client)
    Decoder(talk, TEXT).open(PROMPT).step()
    talk.finish("s")
    talk.open("s", int32s([5, 6, 5]))
    assert talk.draft({"s": 4})["s"].token.tolist() == [6, 5]
    assert held(engine) == [5, 6, 5]


def test_feedback_goes_with_one_message_even_if_its_answer_is_late(
    engine: Engine, client: Faulty
) -> None:
    talk = conversation(client)
    decoder = Decoder(talk, TEXT).open(2 * PROMPT)
    assert decoder.step() is not None
    client.late = True
    decoder.step()
    client.late = False
    decoder.step()
    steps = [request.sequences[0].verified_step for request in client.requests]
    assert steps == [0, 1, 0], "the second message's tree came too late to be verified"
    assert state_of(engine).counters.ignored_feedback == 0


def test_rows_after_nodes_go_with_the_tree_that_is_told_alone(client: Faulty) -> None:
    """A worker that drafts for itself verifies trees between two messages."""
    talk = conversation(client)
    talk.open("s", int32s([1, 2, 1]))
    assert talk.draft({"s": 4})
    talk.commit("s", int32s([2, 5]), 1, rows([-1], [[5, 6]]))
    own = tree([9], [-1])
    talk.commit("s", int32s([7]), 0, rows([-1, 4], [[30, 31], [32, 33]]), own)
    talk.draft({"s": 4})
    (sent,) = client.requests[-1].sequences
    assert (sent.verified_step, sent.verified_tree) == (1, None)
    assert sent.rows is not None
    assert sent.rows.at.tolist() == [-1, 4]
    assert sent.rows.tokens.tolist() == [[5, 6], [32, 33]]


@pytest.mark.parametrize(
    ("limit", "most"), [("MESSAGE_TOKENS_MAX", 2 * PROMPT), ("BATCH_SEQUENCES_MAX", 2)]
)
def test_a_message_has_limits_and_the_rest_goes_with_later_ones(
    engine: Engine, client: Faulty, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(f"retrieval_draft.conversation.{limit}", most)
    talk = conversation(client)
    for name in "abc":
        talk.open(name, int32s(TEXT[:PROMPT]))
    talk.draft(dict.fromkeys("abc", 4))
    assert [part.sequence_id for part in client.requests[-1].sequences] == ["a", "b"]
    for name in "abc":
        talk.finish(name)
    assert talk.flush()
    told = {part.sequence_id for sent in client.requests for part in sent.sequences}
    assert told == set("abc")
    assert engine.clients.count() == 0


def test_a_drafter_that_hangs_costs_no_more_than_some_waits(client: Faulty) -> None:
    clock = Clock()
    talk = conversation(client, clock=clock)
    decoder = Decoder(talk, TEXT).open(PROMPT)
    client.late = True
    for _ in range(WAITS_MAX + 1):
        decoder.step()
    calls = client.calls
    for _ in range(5):
        assert decoder.step() is None
    assert client.calls == calls, "the breaker is open"
    clock.now += BACKOFF_SECONDS_MIN
    client.late = False
    assert decoder.step() is not None


# Ends.


def test_a_finish_is_delivered_when_the_drafter_is_back(engine: Engine, client: Faulty) -> None:
    clock = Clock()
    talk = conversation(client, clock=clock)
    Decoder(talk, TEXT).open(PROMPT).run()
    client.failure = GONE
    talk.finish("s")
    assert not talk.flush()
    assert engine.clients.count() == 1
    client.failure = None
    clock.now += BACKOFF_SECONDS_MAX
    assert talk.flush()
    assert engine.clients.count() == 0
    assert learned(engine) == len(TEXT) - PROMPT


def test_a_sequence_that_is_refused_when_it_has_ended_is_forgotten(client: Faulty) -> None:
    talk = conversation(client)
    talk.open("bad", int32s([1, VOCAB]))
    client.late = True
    talk.draft({"bad": 8})
    talk.finish("bad")
    client.late = False
    assert talk.flush()
    assert talk.figures.rejected == 1
    assert not talk._finishing


def test_nothing_is_tried_on_and_on_for_an_end_that_cannot_be_told(client: Faulty) -> None:
    passing = Clock()

    def clock() -> float:
        passing.now += 0.001
        return passing.now

    create = store_pb2.CreateNamespaceRequest(namespace=NAMESPACE, vocab_size=VOCAB)
    talk = Conversation(
        client, NAMESPACE, VOCAB, create=create, namespace_of=lambda _: "no name", clock=clock
    )
    talk.open("s", int32s([1, 2]))
    talk.finish("s")
    calls = client.calls
    assert not talk.flush(1.0)
    assert client.calls - calls < 5


def test_a_finish_goes_with_the_others_next_step(engine: Engine, client: Faulty) -> None:
    talk = conversation(client)
    one, other = (Decoder(talk, TEXT, name).open(PROMPT) for name in ("one", "other"))
    one.step()
    other.step()
    talk.finish("one")
    talk.finish("unknown")
    other.step()
    assert [part.sequence_id for part in client.requests[-1].sequences] == ["other", "one"]
    assert engine.clients.count() == 1


def test_ends_that_cannot_be_delivered_are_bounded(client: Faulty) -> None:
    client.failure = GONE
    talk = conversation(client)
    for number in range(FINISHING_MAX + 50):
        talk.open(f"{number}", int32s([1]))
        talk.finish(f"{number}")
    assert len(talk._finishing) == FINISHING_MAX


def test_observations_reach_the_engine(engine: Engine, client: Faulty) -> None:
    talk = conversation(client)
    assert talk.observation_width == 10
    talk.open("s", int32s([1, 2, 1]), rows=rows([0, 1], [[7, 8], [9, 10]]))
    assert talk.draft({"s": 4})["s"].token.tolist() == [2, 1]
    talk.commit("s", int32s([2, 5]), 1, rows([-1], [[5, 6]]))
    talk.draft({"s": 0})
    talk.finish("s")
    assert talk.flush()
    assert learned(engine) == 2
    matrix = state_of(engine).learned.recycling.successors
    assert matrix[1, :2].tolist() == [7, 8]
    assert matrix[2, :2].tolist() == [5, 6]


def test_a_budget_of_its_own_is_kept_within_the_conversations(client: Faulty) -> None:
    talk = conversation(client, DraftOptions(nodes_max=3, method="lookup"))
    decoder = Decoder(talk, TEXT).open(16)
    assert len(decoder.step(nodes_max=50) or EMPTY) == 3
    assert len(decoder.step(nodes_max=2) or EMPTY) == 2
    assert decoder.step(nodes_max=0) is None


# Asked and taken apart.


def test_what_was_asked_is_taken_later_and_once(engine: Engine, client: Faulty) -> None:
    talk = conversation(client)
    talk.open("s", int32s(TEXT[: PROMPT + 2]))
    client.late = True
    talk.ask({"s": 8})
    assert len(client.requests) == 1
    assert talk.take(waits=False) is None, "not there yet, and nobody waits"
    client.late = False
    taken = talk.take(waits=False)
    assert taken is not None
    assert len(taken["s"])
    assert talk.take() == {}
    assert (talk.figures.steps, talk.figures.late) == (1, 0)


def test_the_deadline_runs_while_the_engine_does_something_else(client: Faulty) -> None:
    clock = Clock()
    waits: list[float] = []
    receive = client.receive

    def watched(step_id: int, seconds_max: float) -> StepResponse | None:
        waits.append(seconds_max)
        return receive(step_id, seconds_max)

    client.receive = watched  # type: ignore[method-assign]
    talk = conversation(client, clock=clock)
    talk.open("s", int32s(TEXT[: PROMPT + 2]))
    talk.ask({"s": 8})
    clock.now += 4
    assert talk.take()
    clock.now += 1
    talk.ask({"s": 8})
    clock.now += 40
    assert talk.take(), "what has come is taken, however late"
    assert waits == [6.0, 0.0]
    assert talk.figures.round_trip_seconds == 0, "what went by meanwhile was not spent on waiting"


def test_an_answer_that_fails_between_asking_and_taking_costs_the_draft_alone(
    client: Faulty,
) -> None:
    talk = conversation(client)
    talk.open("s", int32s(TEXT[: PROMPT + 2]))
    talk.ask({"s": 8})
    client.failure = GONE
    assert talk.take() == {}
    client.failure = None
    assert len(talk.draft({"s": 8})["s"])
    assert talk.figures.failed == 1
