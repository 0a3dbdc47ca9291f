"""What is wrong, too much or not served is refused by name: the field, its value, its limit."""

import re
from collections.abc import Callable

import grpc
import pytest

from retrieval_draft.config import MESSAGE_BYTES_MAX
from retrieval_draft.server.lifecycle import Sidecar
from retrieval_draft.step import StepRequest
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import draft_pb2, store_pb2
from retrieval_draft.wire import encode_request
from tests.engine.driving import NAMESPACE, part
from tests.server.full_step import full_step
from tests.server.sidecars import DRAFT, STORE, RawCalls

Change = Callable[[draft_pb2.DraftRequest], object]


def put(field: str, data: bytes) -> Change:
    return lambda message: setattr(message, field, data)


COLUMNS: dict[str, tuple[Change, str]] = {
    "bases of another length": (put("base_positions", bytes(4)), "base_positions is '1 entries'"),
    "half an entry": (put("base_positions", bytes(7)), "base_positions is '7 bytes'"),
    "tokens of half an entry": (put("tokens", bytes(6)), "tokens is '6 bytes'"),
    "no offsets": (put("token_offsets", b""), "token_offsets is '0 entries'"),
    "offsets that descend": (
        put("token_offsets", int32s([0, 8, 7]).tobytes()), "ascending from 0 to 7",
    ),
    "offsets below 0": (put("token_offsets", int32s([-1, 5, 7]).tobytes()), "'-1..7'"),
    "offsets that end early": (put("token_offsets", int32s([0, 5, 6]).tobytes()), "'0..6'"),
    "budgets of another length": (put("nodes_max", bytes(4)), "nodes_max is '1 entries'"),
    "ends of another length": (put("finished", bytes(3)), "finished is '3 entries'"),
    "feedback of another length": (put("verified_steps", bytes(8)), "verified_steps"),
    "acceptances of another length": (put("accepted", bytes(12)), "accepted is '3 entries'"),
    "a start of no sequence": (lambda m: m.starts.add(index=2), "starts.index is 2"),
    "two starts of one sequence": (lambda m: m.starts.add(index=1), "it must be distinct"),
    "an unknown kind of learning": (
        lambda m: setattr(m.starts[0], "learning", 9), "starts.learning is 9, the limit is 0 to 3",
    ),
    "an unknown shape": (lambda m: setattr(m.options, "shape", 3), "options.shape is 3"),
    "rows of nobody": (
        lambda m: setattr(m.observations, "sequences", int32s([0, 2]).tobytes()),
        "observations.sequences is 2",
    ),
    "rows of another width": (lambda m: setattr(m.observations, "width", 2), "observations.tokens"),
    "rows of no width": (lambda m: setattr(m.observations, "width", 0), "observations.width"),
    "too few positions": (
        lambda m: setattr(m.observations, "at", bytes(4)), "observations.at is '1 entries'",
    ),
    "too few probabilities": (
        lambda m: setattr(m.observations, "logprobs", bytes(4)), "observations.logprobs",
    ),
    "hidden states of another size": (
        lambda m: setattr(m.observations, "hidden", bytes(4)), "observations.hidden",
    ),
    "trees of another batch": (
        lambda m: setattr(m.verified_trees, "node_offsets", int32s([0, 2]).tobytes()),
        "verified_trees.node_offsets is '2 entries'",
    ),
    "trees without parents": (
        lambda m: setattr(m.verified_trees, "parents", b""), "verified_trees.parents",
    ),
    "trees with too few probabilities": (
        lambda m: setattr(m.verified_trees, "probabilities", bytes(4)),
        "verified_trees.probabilities",
    ),
    "prices of another length": (
        lambda m: setattr(m.options.verify_cost, "milliseconds", bytes(4)),
        "options.verify_cost.milliseconds",
    ),
    "an unknown method": (
        lambda m: setattr(m.options, "method", "eagle"), "options.method is 'eagle'",
    ),
    "no client": (lambda m: setattr(m, "client_id", ""), "client_id is ''"),
    "no namespace": (lambda m: setattr(m, "namespace", ""), "namespace is ''"),
    "step 0": (lambda m: setattr(m, "step_id", 0), "step_id is 0, the limit is 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_disagree_are_an_invalid_argument_that_names_field_value_and_limit(
    raw: RawCalls, name: str
) -> None:
    change, said = COLUMNS[name]
    message = full_step(2**41)
    change(message)
    for answer in (
        raw.send(DRAFT, "Draft", message),
        raw.send(DRAFT, "DraftStream", message, streaming=True),
    ):
        assert answer.status == "INVALID_ARGUMENT"
        assert said in answer.details
        assert re.search(", (the limit is [0-9]|it must be [^0-9])", answer.details)


def test_an_unknown_namespace_is_not_found(raw: RawCalls) -> None:
    message = full_step(2**41)
    message.namespace = "unknown"
    answer = raw.send(DRAFT, "Draft", message)
    assert answer.status == "NOT_FOUND"
    assert "namespace 'unknown' does not exist; create it with CreateNamespace" in answer.details
    for method in ("GetNamespace", "DeleteNamespace", "KnownDocuments", "ListCorpora", "GetStats"):
        request = store_pb2.GetNamespaceRequest(namespace="unknown")
        assert raw.send(STORE, method, request).status == "NOT_FOUND"


def test_a_batch_is_served_up_to_its_limit(raw: RawCalls, sidecar: Sidecar) -> None:
    most = sidecar.engine.config.batch_sequences_max
    parts = [part(f"{i}", 0, [1, 2], prompt=2) for i in range(most + 1)]
    steps = [
        encode_request(StepRequest(step, NAMESPACE, "limits", parts[:count]))
        for step, count in enumerate((most - 1, most, most + 1), start=1)
    ]
    answers = [raw.send(DRAFT, "Draft", message) for message in steps]
    assert [answer.status for answer in answers] == ["OK", "OK", "INVALID_ARGUMENT"]
    assert answers[-1].details == f"sequence_ids is {most + 1}, the limit is 1 to {most} entries"
    for count in (most - 1, most, most + 1):
        finish = draft_pb2.FinishSequencesRequest(
            namespace=NAMESPACE, client_id="limits", sequence_ids=["0"] * count
        )
        answer = raw.send(DRAFT, "FinishSequences", finish)
        assert answer.status == ("OK" if count <= most else "INVALID_ARGUMENT")


def test_a_vocabulary_is_served_up_to_its_limit(raw: RawCalls, sidecar: Sidecar) -> None:
    most = sidecar.engine.config.vocab_size_max
    requests = [
        store_pb2.CreateNamespaceRequest(namespace=f"size-{size}", vocab_size=size)
        for size in (most - 1, most, most + 1)
    ]
    answers = [raw.send(STORE, "CreateNamespace", request) for request in requests]
    assert [answer.status for answer in answers] == ["OK", "OK", "INVALID_ARGUMENT"]
    assert answers[-1].details == f"vocab_size is {most + 1}, the limit is 1 to {most}"


def test_a_message_above_64_mib_is_refused_and_the_connection_goes_on(raw: RawCalls) -> None:
    answer = raw.unary(DRAFT, "Draft", bytes(MESSAGE_BYTES_MAX + 1))
    assert answer.status == "RESOURCE_EXHAUSTED"
    assert raw.unary(DRAFT, "GetServerInfo", b"").status == "OK"


def test_a_stream_answers_in_order_and_ends_at_the_first_error(raw: RawCalls) -> None:
    steps = [full_step(2**42 + i).SerializeToString() for i in range(5)]
    answer = raw.stream(DRAFT, "DraftStream", *steps[:4], b"\xff", steps[4])
    assert answer.status == "INVALID_ARGUMENT"
    ids = [draft_pb2.DraftResponse.FromString(data).step_id for data in answer.data]
    assert ids == [2**42 + i for i in range(4)]


def test_what_is_not_served_says_why(raw: RawCalls) -> None:
    message = full_step(2**43)
    message.model_trees.CopyFrom(message.verified_trees)
    message.options.method = "suffix"
    answer = raw.send(DRAFT, "Draft", message)
    assert (answer.status, answer.details.split(":")[0]) == ("UNIMPLEMENTED", "model_trees")
    assert raw.unary(DRAFT, "Guess", b"").status == "UNIMPLEMENTED"


def test_an_unexpected_exception_is_internal_with_an_id_that_is_in_the_log(
    raw: RawCalls,
    sidecar: Sidecar,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(sidecar.engine, "step", fail)
    for answer in (
        raw.send(DRAFT, "Draft", full_step()),
        raw.send(DRAFT, "DraftStream", full_step(), streaming=True),
    ):
        assert answer.status == "INTERNAL"
        found = re.fullmatch(r"internal error ([0-9a-f]{12})", answer.details)
        assert found
        assert f"internal error {found[1]}" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_every_error_of_ours_has_a_status_of_grpc() -> None:
    from retrieval_draft import errors

    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in found if issubclass(kind, errors.DraftError)]
    assert len(kinds) > 8
    for kind in kinds:
        assert kind.status in grpc.StatusCode.__members__
