"""Whatever bytes arrive, a status of ours goes back: never UNKNOWN, never INTERNAL, never a Python text."""

import random
import re
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import MESSAGE_BYTES_MAX
from retrieval_draft.credentials import Credentials
from retrieval_draft.server.lifecycle import Sidecar
from retrieval_draft.step import DraftOptions, SequenceStart, StepRequest, VerifyCost
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import draft_pb2, store_pb2
from retrieval_draft.wire import encode_request
from tests.engine.driving import NAMESPACE, VOCAB, part, rows
from tests.server.conftest import CONFIG
from tests.server.sidecars import DRAFT, STORE, Answer, RawCalls, create, documents
from tests.server.tenancy import Tenancy, tenancy

ALLOWED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "DATA_LOSS",  # a file that is imported, and damaged
}
PYTHON_TEXT = re.compile(r"Traceback|Error\b|Exception|0x[0-9a-f]{6}|object at|File \"")

UNARY: dict[tuple[str, str], Message] = {
    (DRAFT, "FinishSequences"): draft_pb2.FinishSequencesRequest(
        namespace=NAMESPACE, client_id="c", sequence_ids=["s", "t"]
    ),
    (DRAFT, "GetServerInfo"): draft_pb2.GetServerInfoRequest(),
    (DRAFT, "Explain"): draft_pb2.ExplainRequest(
        namespace=NAMESPACE, tokens=int32s([1, 2]).tobytes(), corpora=["books"]
    ),
    (STORE, "CreateNamespace"): store_pb2.CreateNamespaceRequest(
        namespace="fuzz", vocab_size=50, model="m", end_tokens=int32s([1]).tobytes()
    ),
    (STORE, "GetNamespace"): store_pb2.GetNamespaceRequest(namespace=NAMESPACE),
    (STORE, "ListNamespaces"): store_pb2.ListNamespacesRequest(),
    (STORE, "CopyNamespace"): store_pb2.CopyNamespaceRequest(source=NAMESPACE, decay=0.5),
    (STORE, "DeleteNamespace"): store_pb2.DeleteNamespaceRequest(namespace="fuzz"),
    (STORE, "KnownDocuments"): store_pb2.KnownDocumentsRequest(
        namespace=NAMESPACE, corpus="fuzz", digests=[b"1" * 16, b""]
    ),
    (STORE, "ListCorpora"): store_pb2.ListCorporaRequest(namespace=NAMESPACE),
    (STORE, "CompactCorpus"): store_pb2.CompactCorpusRequest(namespace=NAMESPACE, corpus="books"),
    (STORE, "DeleteCorpus"): store_pb2.DeleteCorpusRequest(namespace=NAMESPACE, corpus="fuzz"),
    (STORE, "SaveSnapshot"): store_pb2.SaveSnapshotRequest(namespace=NAMESPACE),
    (STORE, "ListSnapshots"): store_pb2.ListSnapshotsRequest(namespace=NAMESPACE),
    (STORE, "VerifySnapshots"): store_pb2.VerifySnapshotsRequest(namespace=NAMESPACE),
    (STORE, "ExportNamespace"): store_pb2.ExportNamespaceRequest(namespace="nothing"),
    (STORE, "GetStats"): store_pb2.GetStatsRequest(namespace=NAMESPACE),
    (STORE, "WatchStats"): store_pb2.WatchStatsRequest(namespace=NAMESPACE, interval_ms=500),
    (STORE, "Advise"): store_pb2.AdviseRequest(
        namespace=NAMESPACE,
        cost_nodes=int32s([0, 8]).tobytes(),
        cost_milliseconds=int32s([0, 8]).tobytes(),
    ),
}


def full_step(step_id: int = 1) -> draft_pb2.DraftRequest:
    """A message in which every field is set."""
    tree = DraftTree(int32s([5, 6]), int32s([-1, 0]))
    first = part(
        "s",
        0,
        [1, 2, 3, 1, 2],
        prompt=3,
        start=SequenceStart(0, temperature=0.5, length_max=99, end_tokens=(7,)),
        nodes_max=9,
        rows=rows([0, -1], [[4, 5, 6], [7, 8, 9]]),
        verified_step=1,
        accepted=1,
        verified_tree=tree,
    )
    second = part("t", 0, [9, 9], prompt=2, finished=True)
    cost = VerifyCost(int32s([0, 9]), rows([0], [[1, 2]]).logprobs[0] + 3)
    options = DraftOptions(8, 4, 3, method="mix", batch_nodes_max=9, verify_cost=cost, seed=7)
    return encode_request(StepRequest(step_id, NAMESPACE, "fuzz", [first, second], options))


def assert_ours(answer: Answer) -> None:
    assert answer.status in ALLOWED, answer
    assert not PYTHON_TEXT.search(answer.details), answer


STREAMS: dict[tuple[str, str], Message] = {
    (DRAFT, "DraftStream"): full_step(),
    (STORE, "Warm"): documents([1, 2, 3], [4, 5], corpus="fuzz"),
    (STORE, "ImportNamespace"): store_pb2.ImportNamespaceRequest(namespace="fuzz", data=b"no file"),
}


ENDLESS = {"WatchStats"}


def called(raw: RawCalls, service: str, method: str, data: bytes) -> Answer:
    call = raw.first if method in ENDLESS else raw.unary
    return call(service, method, data)


def check_everywhere(
    raw: RawCalls, data: bytes, check: Callable[[Answer], None] = assert_ours
) -> None:
    for service, method in UNARY:
        check(called(raw, service, method, data))
    check(raw.unary(DRAFT, "Draft", data))
    for service, method in STREAMS:
        check(raw.stream(service, method, data))


def test_every_call_of_the_protocol_is_fuzzed_in_this_file() -> None:
    files = (draft_pb2.DESCRIPTOR, store_pb2.DESCRIPTOR)
    methods = [m for file in files for s in file.services_by_name.values() for m in s.methods]
    defined = {(method.containing_service.full_name, method.name) for method in methods}
    assert defined == {*UNARY, *STREAMS, (DRAFT, "Draft")}
    streams = {m.name for m in methods if m.client_streaming}
    assert streams == {method for _, method in STREAMS}


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=80))
@example(b"")
@example(b"\xff")
@example(b"\x12\x02\xff\xfe")  # a namespace that is no UTF-8
@example(b"\x0b" * 60)  # groups within groups
def test_any_bytes_at_any_call_give_a_status_of_ours(raw: RawCalls, data: bytes) -> None:
    check_everywhere(raw, data)


@pytest.fixture(scope="module")
def tenants() -> Iterator[Tenancy]:
    with tenancy(CONFIG) as running, running.client("acme"):
        yield running


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=80))
@example(b"\xff")
def test_any_bytes_with_a_token_give_a_status_of_ours_and_without_one_always_the_same(
    tenants: Tenancy, data: bytes
) -> None:
    def refused(answer: Answer) -> None:
        assert (answer.status, answer.data) == ("UNAUTHENTICATED", ())

    with tenants.raw(tenants.credentials("acme")) as raw:
        check_everywhere(raw, data)
    with tenants.raw(Credentials()) as raw:
        check_everywhere(raw, data, refused)


HEADERS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HEADERS | HEADERS.map("Bearer {}".format))
@example("Bearer")
@example("Bearer ")
@example("bearer  ,")
def test_any_authorization_is_refused_with_a_text_of_ours(tenants: Tenancy, header: str) -> None:
    with grpc.insecure_channel(tenants.sidecar.targets[0]) as channel:
        call: Callable[..., bytes] = channel.unary_unary(f"/{DRAFT}/GetServerInfo")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", metadata=(("authorization", header),), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() in (
        "the authorization header must be one `Bearer TOKEN`",
        "this token is not valid",
    )


@pytest.mark.parametrize("data", [b"\xff", b"\x12\x02\xff\xfe", b"\x0a\xff\xff\xff\xff\x0f"])
def test_malformed_bytes_are_an_invalid_argument(raw: RawCalls, data: bytes) -> None:
    for call, method in ((raw.unary, "Draft"), (raw.stream, "DraftStream")):
        answer = call(DRAFT, method, data)
        assert answer.status == "INVALID_ARGUMENT"
        assert answer.details == (
            f"message is '{len(data)} bytes', the limit is a retrieval_draft.v1.DraftRequest: "
            "malformed"
        )
    assert raw.stream(STORE, "Warm", data).status == "INVALID_ARGUMENT"
    assert raw.unary(STORE, "GetStats", b"\x0a\x02\xff\xfe").status == "INVALID_ARGUMENT"


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The message with some bytes flipped, cut out or doubled."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del changed[at : at + dice.randint(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + dice.randint(1, 9)]
            case _:
                changed[at : at + 4] = dice.choice([-1, 2**31 - 1, -(2**31), VOCAB]).to_bytes(
                    4, "little", signed=True
                )
    return bytes(changed)


def test_messages_that_were_tampered_with_give_a_status_of_ours(raw: RawCalls) -> None:
    dice = random.Random(5)  # noqa: S311 - a test's
    for step_id in range(1, 2000):
        data = mutated(full_step(step_id).SerializeToString(), dice)
        assert_ours(raw.unary(DRAFT, "Draft", data))
    for _ in range(30):
        for (service, method), message in UNARY.items():
            data = mutated(message.SerializeToString(), dice)
            assert_ours(called(raw, service, method, data))
        warm = documents([1, 2, 3], [4, 5], corpus="fuzz").SerializeToString()
        assert_ours(raw.stream(STORE, "Warm", mutated(warm, dice)))
        step = full_step().SerializeToString()
        assert_ours(raw.stream(DRAFT, "DraftStream", step, mutated(step, dice)))


def test_fields_that_were_left_out_or_swapped_give_a_status_of_ours(raw: RawCalls) -> None:
    dice = random.Random(6)  # noqa: S311 - a test's
    columns = [f.name for f in draft_pb2.DraftRequest.DESCRIPTOR.fields if f.type == f.TYPE_BYTES]
    for step_id in range(1, 300):
        message = full_step(step_id)
        for column in dice.sample(columns, 2):
            setattr(message, column, getattr(message, dice.choice(columns)))
        for field in dice.sample([f.name for f in message.DESCRIPTOR.fields], 1):
            message.ClearField(field)
        assert_ours(raw.send(DRAFT, "Draft", message))


def test_the_message_that_all_of_this_starts_from_is_served(
    raw: RawCalls, client: GrpcClient
) -> None:
    create(client)
    message = full_step(2**40)
    answer = raw.send(DRAFT, "Draft", message)
    assert answer.status == "OK"
    assert draft_pb2.DraftResponse.FromString(answer.data[0]).statuses == b"\x01\x01"


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
    "two starts of one sequence": (lambda m: m.starts.add(index=1), "the limit is distinct"),
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
        assert ", the limit is " in answer.details


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
