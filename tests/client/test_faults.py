"""What a drafter does wrong ends at the conversation: it is asked less, or no more, and the model goes on."""

import logging

import msgspec
import numpy as np
import pytest

from retrieval_draft.breaker import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN, FAILURES_MAX
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import NotFound, Unauthenticated
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import store_pb2
from tests.client.scripted import GONE, PROMPT, TEXT, Clock, Decoder, Faulty, conversation, tree
from tests.engine.driving import NAMESPACE, VOCAB, state_of

# The breaker.


def test_the_breaker_opens_backs_off_and_costs_no_call_while_it_is_open(client: Faulty) -> None:
    clock = Clock()
    talk = conversation(client, clock=clock)
    decoder = Decoder(talk, [1, 2] * 200).open(PROMPT)
    assert decoder.step() is not None
    client.failure = GONE
    for _ in range(FAILURES_MAX):
        decoder.step()
    pause, pauses = BACKOFF_SECONDS_MIN, []
    for _ in range(8):
        calls = client.calls
        clock.now += pause - 0.001
        decoder.step()
        assert client.calls == calls, "it is open"
        clock.now += 0.002
        decoder.step()
        assert client.calls > calls, "a try"
        pauses.append(pause)
        pause = min(2 * pause, BACKOFF_SECONDS_MAX)
    assert pauses[-1] == BACKOFF_SECONDS_MAX
    client.failure = None
    clock.now += BACKOFF_SECONDS_MAX
    assert decoder.step() is not None
    assert talk.figures.failed == FAILURES_MAX + 8
    client.failure = GONE
    decoder.step()
    calls = client.calls
    decoder.step()
    assert client.calls > calls, "one failure after a success does not open it"


@pytest.mark.parametrize(
    "failure", [GONE, ValueError("odd"), KeyError("x"), MemoryError(), RuntimeError(), OSError()]
)
def test_nothing_that_a_client_raises_gets_through(
    client: Faulty, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    client.failure = failure
    talk = conversation(client)
    assert talk.observation_width == 0
    decoder = Decoder(talk, TEXT).open(PROMPT).run()
    talk.finish("s")
    assert not talk.flush(0.01)
    assert decoder.accepted == 0
    assert talk.figures.failed >= FAILURES_MAX


def test_an_answer_for_another_batch_does_not_get_through(
    client: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    client.change = lambda answer: msgspec.structs.replace(answer, statuses=[], trees=[])
    talk = conversation(client)
    Decoder(talk, TEXT).open(PROMPT).run()
    assert talk.figures.failed > 0


# Nonsense.


@pytest.mark.parametrize(
    "nonsense",
    [
        tree([VOCAB], [-1]),
        tree([-1], [-1]),
        tree([1, 2], [1, 0]),
        tree([1, 2], [-1, 1]),
        tree([1], [-2]),
        tree([1, 1], [-1, -1]),
        tree([1, 2, 3], [-1, 0]),
        tree([*range(9)], [-1] * 9),
        DraftTree(int32s([1]), int32s([-1]), np.ones(2, np.float32)),
    ],
    ids=[
        "unknown token", "negative token", "forward reference", "own parent", "parent below root",
        "twins", "columns that disagree", "more than asked", "too many probabilities",
    ],
)  # fmt: skip
def test_a_tree_that_is_none_is_refused(client: Faulty, nonsense: DraftTree) -> None:
    client.change = lambda answer: msgspec.structs.replace(answer, trees=[nonsense])
    talk = conversation(client)
    decoder = Decoder(talk, TEXT).open(PROMPT)
    assert decoder.step(nodes_max=8) is None
    assert talk.figures.bad_trees == 1
    client.change = lambda answer: answer
    assert decoder.step() is not None, "one bad tree does not end the sequence"


def test_a_rejected_sequence_gets_no_more_drafts_and_the_others_go_on(
    engine: Engine, client: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    talk = conversation(client)
    good = Decoder(talk, TEXT, "good").open(PROMPT)
    talk.open("bad", int32s([1, VOCAB]))
    trees = talk.draft({"bad": 8, "good": 8})
    assert set(trees) <= {"good"}
    assert "tokens" in caplog.text
    assert str(VOCAB) in caplog.text
    for _ in range(3):
        good.step()
        talk.commit("bad", int32s([1]), -1)
        assert talk.draft({"bad": 8}) == {}
    assert talk.figures.rejected == 1
    talk.finish("bad")
    talk.finish("good")
    assert talk.flush()
    assert engine.clients.count() == 0


# Another namespace, and none.


def test_it_greets_again_when_the_namespace_is_gone(engine: Engine, client: Faulty) -> None:
    clock = Clock()
    talk = conversation(client, clock=clock)
    talk._create = store_pb2.CreateNamespaceRequest(namespace=NAMESPACE, vocab_size=VOCAB)
    engine.stores.delete("local", NAMESPACE)
    decoder = Decoder(talk, TEXT).open(2 * PROMPT)
    assert decoder.step() is not None
    assert client.greetings == 1
    engine.stores.delete("local", NAMESPACE)
    with pytest.raises(NotFound):
        state_of(engine)
    assert decoder.step() is None
    clock.now += BACKOFF_SECONDS_MAX
    assert decoder.step() is None, "RESYNC"
    assert decoder.step() is not None
    assert client.greetings == 2


@pytest.mark.parametrize("creates", [True, False])
def test_a_namespace_of_other_tokens_gets_no_sequence_and_is_named_once(
    engine: Engine, client: Faulty, caplog: pytest.LogCaptureFixture, creates: bool
) -> None:
    """Drafts from it would be of other words; the model goes on without."""
    request = store_pb2.CreateNamespaceRequest(namespace="other", vocab_size=VOCAB - 1)
    EngineClient(engine).create_namespace(request)
    clock = Clock()
    talk = conversation(client, clock=clock)
    talk._namespace = "other"
    if creates:
        talk._create = store_pb2.CreateNamespaceRequest(namespace="other", vocab_size=VOCAB)
    decoder = Decoder(talk, TEXT).open(PROMPT)
    for _ in range(5):
        assert decoder.step() is None
        clock.now += BACKOFF_SECONDS_MAX
    assert talk.figures.failed == 5
    assert engine.clients.count() == 0
    assert caplog.text.count("no drafts: namespace other has a vocabulary of 99, not of 100") == 1
    assert decoder.stop == PROMPT + 5


def test_a_refused_credential_pauses_at_once_and_a_valid_one_is_found_again(
    client: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    talk = conversation(client, clock=clock)
    decoder = Decoder(talk, TEXT).open(2 * PROMPT)
    client.failure = Unauthenticated("this token is not valid")
    assert decoder.step() is None
    calls = client.calls
    assert decoder.step() is None
    assert client.calls == calls, "nothing is asked while it pauses"
    assert caplog.text.count("this token is not valid") == 1
    client.failure = None
    clock.now += BACKOFF_SECONDS_MAX
    assert decoder.step() is not None
