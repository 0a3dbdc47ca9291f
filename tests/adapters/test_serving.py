"""What every adapter relies on: drafts where they help, learning always, and no fault that gets out."""

import time
from dataclasses import replace

import msgspec
import pytest

from retrieval_draft.adapters.opening import serving_drafter
from retrieval_draft.adapters.serving import (
    Row,
    ServedModel,
    ServingDrafter,
)
from retrieval_draft.engine import Engine
from retrieval_draft.errors import NotFound
from retrieval_draft.step import Learning, StepResponse
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.tree import EMPTY, DraftTree, int32s
from tests.adapters.stacks import MODEL, NODES, SETTINGS, TEXT, Request, drafter, random_text, run
from tests.client.scripted import GONE, Clock, Faulty
from tests.engine.driving import NAMESPACE, TENANT, VOCAB, learned


def test_a_request_is_drafted_learned_and_closed(engine: Engine, client: Faulty) -> None:
    ours, request = drafter(client), Request()
    run(ours, request)
    assert request.accepted > 30
    assert ours.served.accepted_tokens == request.accepted
    assert ours.served.drafts > 0
    assert learned(engine) == len(TEXT) - 8
    assert not ours.open_requests()
    assert ours.served.errors == 0


def test_limits_that_stacks_and_users_make_up_cost_no_drafts(client: Faulty) -> None:
    model = ServedModel("models/tiny", VOCAB, (-1, 0))
    ours = ServingDrafter(client, model, replace(SETTINGS, namespace="new"), clock=Clock())
    row = Row("r", int32s([1, 2, 3, 1, 2]), 1, 4, length_max=1 << 40)
    (tree,) = ours.step([msgspec.structs.replace(row, end_tokens=(VOCAB, *range(10, 90)))])
    assert tree.token.tolist()[:1] == [3]
    (other,) = ours.step([msgspec.structs.replace(row, request_id="s")])
    assert other.token.tolist()[:1] == [3]
    assert ours.figures.rejected == 0


def test_two_requests_of_a_batch_are_kept_apart(client: Faulty) -> None:
    one, other = Request("one"), Request("other", random_text(1))
    run(drafter(client), one, other)
    assert one.accepted > 30
    assert other.accepted < 5


def test_a_request_absent_from_steps_goes_on_where_it_was(engine: Engine, client: Faulty) -> None:
    ours, request, other = drafter(client), Request("preempted"), Request("other", random_text(2))
    ours.step([request.row(), other.row()])
    for _ in range(10):
        ours.step([other.row()])
        other.verify(EMPTY)
    run(ours, request)
    assert len(client.requests[-1].sequences) == 1
    assert sum(bool(part.start) for sent in client.requests for part in sent.sequences) == 2


def test_a_request_whose_tokens_changed_is_opened_anew_and_its_prompt_not_learned(
    engine: Engine, client: Faulty
) -> None:
    ours, request = drafter(client), Request()
    ours.step([request.row()])
    other = Request("r", random_text(3))
    ours.step([other.row()])
    last = client.requests[-1].sequences[0]
    assert last.start is not None
    assert last.base_position == 0
    assert last.start.prompt_length == other.length - other.fresh


@pytest.mark.parametrize("bad", [-1, VOCAB, 1 << 30])
@pytest.mark.parametrize("at", [2, 8])
def test_ids_outside_the_vocabulary_cost_that_request_its_drafts_alone(
    client: Faulty, bad: int, at: int
) -> None:
    text = list(TEXT)
    text[at] = bad
    sound, broken = Request("sound"), Request("broken", text)
    ours = drafter(client)
    run(ours, sound, broken)
    assert sound.accepted > 30
    assert broken.accepted == 0
    assert ours.served.refused == 1


def test_no_draft_passes_the_end_of_what_fits(client: Faulty) -> None:
    ours, request = drafter(client), Request()
    while request.length < 30:
        request.verify(ours.step([request.row()])[0])
    for room in (3, 2, 1, 0):
        row = msgspec.structs.replace(request.row(), length_max=request.length + 1 + room)
        (tree,) = ours.step([row])
        assert len(tree) <= room
        assert (len(tree) > 0) == (room > 0)


def test_what_a_wrong_drafter_answers_is_not_given(client: Faulty) -> None:
    def spoilt(answer: StepResponse) -> StepResponse:
        tree = DraftTree(int32s([VOCAB, 1, 1]), int32s([-1, 0, 0]))
        return msgspec.structs.replace(answer, trees=[tree] * len(answer.trees))

    client.change = spoilt
    ours, request = drafter(client), Request()
    run(ours, request)
    assert request.accepted == 0
    assert ours.figures.bad_trees > 0


@pytest.mark.parametrize("failure", [GONE, NotFound("no namespace"), RuntimeError("a bug"), None])
def test_a_failing_drafter_costs_nothing_but_drafts(
    client: Faulty, failure: Exception | None
) -> None:
    clock = Clock()
    ours, request = drafter(client, clock=clock), Request()
    client.failure, client.late = failure, failure is None
    for _ in range(200):
        assert ours.step([request.row()]) == [EMPTY]
    asked = client.calls
    assert asked < 60  # the breaker: most steps do not even ask
    client.failure, client.late = None, False
    clock.now += 100
    run(ours, request)
    assert request.accepted > 20


def test_what_is_decoded_while_the_drafter_is_away_is_learned_when_it_is_back(
    engine: Engine, client: Faulty
) -> None:
    """Requests that were open before as well as those that began meanwhile."""
    clock = Clock()
    ours, before = drafter(client, clock=clock), Request("before")
    meanwhile = Request("meanwhile", random_text(1))
    before.verify(ours.step([before.row()])[0])
    client.failure = GONE
    while not ours.rests():
        before.verify(ours.step([before.row()])[0])
    ours.step([before.row(), meanwhile.row()])
    calls = client.calls
    for _ in range(10):
        assert ours.rests()
        before.verify(EMPTY)
        meanwhile.verify(EMPTY)
    assert client.calls == calls
    assert ours.figures.skipped > 10
    client.failure, clock.now = None, clock.now + 100
    assert not ours.rests()
    run(ours, before, meanwhile)
    assert learned(engine) == len(before.text) + len(meanwhile.text) - 16
    assert before.accepted > 10


def test_a_request_that_began_and_ended_while_the_drafter_was_away_costs_it_nothing(
    engine: Engine, client: Faulty
) -> None:
    clock = Clock()
    ours, request = drafter(client, clock=clock), Request("short")
    client.failure = GONE
    while not ours.rests():
        ours.step([Request("other").row()])
    ours.step([request.row()])
    ours.finish_all_but({})
    assert not ours.open_requests()
    client.failure, clock.now = None, clock.now + 100
    run(ours, Request("next"))
    assert not any(
        part.sequence_id == "short" for sent in client.requests for part in sent.sequences
    )


def test_a_bug_of_ours_ends_here(client: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = drafter(client)
    monkeypatch.setattr(ours, "_take", lambda row, now: 1 // 0)
    assert ours.step([Request().row(), Request("b").row()]) == [EMPTY, EMPTY]
    assert ours.served.errors == 1


def test_large_batches_get_no_drafts_and_teach_all_the_same(engine: Engine, client: Faulty) -> None:
    ours = drafter(client, replace(SETTINGS, batch_max=2))
    requests = [Request(f"r{i}", TEXT[i:] + TEXT[:i]) for i in range(3)]
    run(ours, *requests)
    assert sum(request.accepted for request in requests) == 0
    assert ours.served.throttled > 0
    assert learned(engine) == sum(len(one.text) - 8 for one in requests)
    # Not a message per step: what was committed went along when they ended.
    assert len(client.requests) < 5
    alone = Request("alone")
    run(ours, alone)
    assert alone.accepted > 30


def test_observing_gives_nothing_and_counts_as_if(engine: Engine, client: Faulty) -> None:
    ours, request = drafter(client, replace(SETTINGS, observe_only=True)), Request()
    run(ours, request)
    assert request.accepted == 0
    assert learned(engine) == len(TEXT) - 8
    counters = engine.stores.state(TENANT, NAMESPACE).counters
    assert counters.accepted > 20


def test_nothing_is_learned_where_that_is_asked_for(engine: Engine, client: Faulty) -> None:
    run(drafter(client, replace(SETTINGS, learn=Learning.NONE)), Request())
    assert learned(engine) == 0


def test_requests_long_absent_are_closed_and_not_learned_twice(
    engine: Engine, client: Faulty
) -> None:
    clock = Clock()
    ours = drafter(client, replace(SETTINGS, idle_seconds_max=60), clock)
    gone, other = Request("gone"), Request("other", random_text(4))
    while gone.length < 40:
        gone.verify(ours.step([gone.row()])[0])
    at = gone.length
    clock.now += 61
    ours.step([other.row()])
    assert ours.open_requests() == ["other"]
    ours.finish(["other"])
    run(ours, gone)
    ours.close()
    assert at > 40 - NODES
    assert learned(engine) == len(TEXT) - 8 + other.fresh


def test_adapters_and_salts_share_nothing(engine: Engine, client: Faulty) -> None:
    """In pairs: the same salt reuses, another one does not."""
    ours = drafter(client, replace(SETTINGS, method="suffix"))
    text = random_text(5, 200)

    def gained(name: str, adapter: str = "", salt: str = "") -> int:
        request = Request(name, list(text), salt=salt, adapter=adapter)
        run(ours, request)
        assert engine.flush(20)
        return request.accepted

    assert gained("a", salt="one") < 20
    assert gained("b", salt="one") > 100
    assert gained("c", salt="two") < 20
    assert gained("d") < 20
    assert gained("e", adapter="sql") < 20
    assert gained("f", adapter="sql") > 100
    names = {spec.namespace for spec in engine.stores.backend.list_namespaces(TENANT)}
    assert len(names) == 4
    assert not any("one" in name for name in names)
    assert NamespaceKey(TENANT, f"{NAMESPACE}:lora:sql").namespace in names


def test_one_namespace_too_many_gets_no_drafts(engine: Engine, client: Faulty) -> None:
    ours = drafter(client, replace(SETTINGS, namespaces_max=1))
    kept, refused = Request("kept", salt="one"), Request("refused", salt="two")
    run(ours, kept, refused)
    assert kept.accepted > 30
    assert refused.accepted == 0
    assert len(engine.stores.backend.list_namespaces(TENANT)) == 2


def test_wrong_settings_are_said_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    made = serving_drafter(MODEL, {"step_ms_max": "soon"}, {})
    assert made is None
    assert "step_ms_max is 'soon', it must be a number above 0" in caplog.text
    assert serving_drafter(MODEL, {"off": True}, {}) is None


def test_an_engine_in_this_process_comes_by_itself() -> None:
    """Nothing waits for it: the first steps get no drafts."""
    mapping = {"transport": "in-process", "method": "lookup", "step_ms_max": 10_000}
    ours = serving_drafter(ServedModel("tiny", VOCAB), mapping, {})
    assert ours is not None
    deadline = time.monotonic() + 60
    accepted = number = 0
    while accepted <= 20 and time.monotonic() < deadline:
        number += 1
        request = Request(f"r{number}")
        run(ours, request)
        accepted = request.accepted
        time.sleep(0.01)
    ours.close()
    assert accepted > 20


def test_a_summary_names_what_vllm_names(client: Faulty) -> None:
    ours, request = drafter(client), Request()
    run(ours, request)
    served = ours.served
    mean = 1 + served.accepted_tokens / served.drafts
    assert f"mean accepted length {mean:.2f}" in ours.summary()


def test_a_row_has_room_for_one_token_less_than_what_is_left() -> None:
    history = int32s(range(10))
    assert Row("r", history, 1, 8).room == 8
    assert Row("r", history, 1, 8, length_max=15).room == 4
    assert Row("r", history, 1, 8, length_max=11).room == 0
    assert Row("r", history, 1, 8, length_max=5).room == 0
