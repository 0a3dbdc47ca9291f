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
from retrieval_draft.credentials import Credentials
from retrieval_draft.tree import int32s
from retrieval_draft.v1 import draft_pb2, store_pb2
from tests.engine.driving import NAMESPACE, VOCAB
from tests.server.conftest import CONFIG
from tests.server.full_step import full_step
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
            f"message is '{len(data)} bytes', it must be a retrieval_draft.v1.DraftRequest: "
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
