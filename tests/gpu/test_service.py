"""GenerateService over a Unix socket: streams, errors, clients that go away, shutdown."""

import logging
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Finish, Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.service import SERVICE, Worker, serve_worker
from retrieval_draft.gpu.verify import Draws, Verified, match
from retrieval_draft.tokenizer import fingerprint
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import generate_pb2 as pb
from retrieval_draft.v1 import generate_pb2_grpc as pb_grpc
from tests.gpu.drafters import ScriptedDrafter, random_plan
from tests.gpu.driving import decode_all
from tests.gpu.models import prompts, tiny
from tests.gpu.test_tokenizer import TOKENIZER

VOCAB_SIZE = 256
SECONDS_MAX = 20.0


class Step:
    """A rule that can be held, so that tests act while a sequence is certainly running."""

    def __init__(self) -> None:
        self.may_go, self.began = threading.Event(), threading.Event()
        self.may_go.set()
        self.error: Exception | None = None

    def __call__(self, tree: DraftTree, draw: Draws) -> Verified:
        self.began.set()
        self.may_go.wait(SECONDS_MAX)
        if self.error is not None:
            raise self.error
        return match(tree, draw)


class Served:
    def __init__(self, folder: Path) -> None:
        model = tiny("llama", VOCAB_SIZE)
        self.drafter = ScriptedDrafter(random_plan(0, VOCAB_SIZE), observation_width=10)
        self.rule = Step()
        self.decoder = Decoder(
            model, slots=2, length_max=128, nodes_max=8, drafter=self.drafter, rule=self.rule
        )
        self.socket = folder / "worker.sock"
        self.worker: Worker = serve_worker(
            self.decoder, tokenizer=TOKENIZER, listen=[f"unix:{self.socket}"], namespace="demo"
        )
        self.channel = grpc.insecure_channel(self.worker.addresses[0])
        self.stub = pb_grpc.GenerateServiceStub(self.channel)  # type: ignore[no-untyped-call]

    def generate(self, **fields: object) -> list[pb.GenerateResponse]:
        request = pb.GenerateRequest(**fields)  # type: ignore[arg-type]
        return list(self.stub.Generate(request, timeout=SECONDS_MAX))

    def raw(self, method: str, data: bytes) -> grpc.RpcError:
        call: Callable[..., bytes] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(data, timeout=SECONDS_MAX)
        return refused.value


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("worker"))
    yield one
    one.rule.may_go.set()
    one.channel.close()
    one.worker.stop(0)


def tokens_of(responses: list[pb.GenerateResponse]) -> list[int]:
    return [int(t) for one in responses for t in np.frombuffer(one.tokens, "<i4")]


def packed(tokens: list[int]) -> bytes:
    return int32s(tokens).tobytes()


def until(condition: Callable[[], bool]) -> None:
    woken = threading.Event()
    for _ in range(int(SECONDS_MAX * 100)):
        if condition():
            return
        woken.wait(0.01)
    raise AssertionError("the condition was not met in time")


def expected(prompt: list[int], tokens_max: int, sampling: SamplingOptions) -> list[int]:
    decoder = Decoder(tiny("llama", VOCAB_SIZE), slots=1, length_max=128)
    return decode_all(decoder, [Request("x", int32s(prompt), tokens_max, sampling)]).tokens["x"]


def test_tokens_stream_and_end_with_figures(served: Served) -> None:
    prompt = prompts(1, vocab_size=VOCAB_SIZE)[0].tolist()
    # Floats cross the wire in 32 bits.
    sampling = SamplingOptions(float(np.float32(0.8)), float(np.float32(0.9)), 0, seed=2**63)
    want = expected(prompt, 30, sampling)
    for plain in (True, False):
        responses = served.generate(
            prompt_tokens=packed(prompt),
            tokens_max=30,
            temperature=0.8,
            top_p=0.9,
            seed=2**63,
            plain=plain,
        )
        assert tokens_of(responses) == want
        *rest, last = responses
        assert all(one.finish_reason == 0 and not one.HasField("figures") for one in rest)
        assert Finish(last.finish_reason) in (Finish.LENGTH, Finish.END)
        assert last.figures.prompt_tokens == len(prompt)
        assert last.figures.output_tokens == len(want)
        assert last.figures.seconds > 0
        assert (last.figures.drafted > 0) == (not plain)


def test_text_goes_in_and_comes_out(served: Served) -> None:
    responses = served.generate(prompt="def f(é):", tokens_max=20, ignore_end=True)
    assert len(tokens_of(responses)) == 20
    assert "".join(one.text for one in responses) == TOKENIZER.decode(tokens_of(responses))


def test_a_stop_string_ends_the_text_before_it_and_frees_the_slot(served: Served) -> None:
    whole = served.generate(prompt="import", tokens_max=60, ignore_end=True)
    text = "".join(one.text for one in whole)
    stop = text[10:13]
    responses = served.generate(prompt="import", tokens_max=60, ignore_end=True, stop=[stop])
    assert "".join(one.text for one in responses) == text[: text.index(stop)]
    assert Finish(responses[-1].finish_reason) is Finish.STOP
    until(lambda: served.decoder.active == 0)


@pytest.mark.parametrize("method", ["Generate", "GetWorkerInfo"])
def test_malformed_bytes_are_the_callers_mistake(served: Served, method: str) -> None:
    error = served.raw(method, b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Request" in str(error.details())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "prompt_tokens": b"\0\0\0\0"}, "prompt"),
        ({"prompt_tokens": b"\0\0\0"}, "prompt_tokens"),
        ({"prompt_tokens": packed([VOCAB_SIZE])}, "prompt"),
        ({"prompt_tokens": packed([3] * 128)}, "tokens_max"),
        ({"prompt": "a", "tokens_max": 128}, "tokens_max"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature"),
        ({"prompt": "a", "top_p": 1.5}, "top_p"),
        ({"prompt": "a", "stop": [""]}, "stop"),
        ({"prompt": "a", "stop": ["x"] * 17}, "stop"),
    ],
)
def test_fields_outside_their_limits_are_named(
    served: Served, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        served.generate(**fields)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith(named)


def test_a_client_that_goes_away_frees_its_slot(served: Served) -> None:
    until(lambda: served.decoder.active == 0)
    served.rule.began.clear()
    served.rule.may_go.clear()
    call = served.stub.Generate(pb.GenerateRequest(prompt="a", tokens_max=100, ignore_end=True))
    next(iter(call))
    assert served.rule.began.wait(SECONDS_MAX)
    call.cancel()
    served.rule.may_go.set()
    until(lambda: served.decoder.active == 0)
    until(lambda: all(told.is_finished for told in served.drafter.told.values()))


def test_more_requests_than_slots_all_finish(served: Served) -> None:
    calls = [
        served.stub.Generate(
            pb.GenerateRequest(prompt="b" * (i + 1), tokens_max=12, ignore_end=True),
            timeout=SECONDS_MAX,
        )
        for i in range(7)
    ]
    for i, call in enumerate(calls):
        found = tokens_of(list(call))
        prompt = TOKENIZER.encode("b" * (i + 1)).ids
        alone = served.generate(prompt_tokens=packed(prompt), tokens_max=12, ignore_end=True)
        assert found == tokens_of(alone)


def test_an_unexpected_error_shows_its_id_and_no_more(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.rule.error = RuntimeError("secret")
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.RpcError) as failed:
        served.generate(prompt="a", tokens_max=5, ignore_end=True)
    served.rule.error = None
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    details = str(failed.value.details())
    assert "secret" not in details
    assert details.removeprefix("internal error (").removesuffix(")") in caplog.text
    until(lambda: served.decoder.active == 0)
    assert len(tokens_of(served.generate(prompt="a", tokens_max=5, ignore_end=True))) == 5


def test_worker_info_health_and_reflection(served: Served) -> None:
    info = served.stub.GetWorkerInfo(pb.GetWorkerInfoRequest(), timeout=SECONDS_MAX)
    assert (info.vocab_size, info.slots, info.context_tokens_max) == (VOCAB_SIZE, 2, 128)
    assert (info.device, info.dtype, info.namespace) == ("cpu", "float32", "demo")
    assert info.tokenizer_fingerprint == fingerprint(TOKENIZER)
    check: Callable[..., health_pb2.HealthCheckResponse] = served.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    checked = check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=SECONDS_MAX)
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
    reflect: Callable[..., Iterator[reflection_pb2.ServerReflectionResponse]]
    reflect = served.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflect(iter([ask]), timeout=SECONDS_MAX)
    names = {one.name for one in next(answers).list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


def test_the_socket_belongs_to_its_user_alone(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600


def test_finish_is_the_wires_finish_reason() -> None:
    wire = {name.removeprefix("FINISH_REASON_"): n for name, n in pb.FinishReason.items()}
    assert wire.pop("UNSPECIFIED") == 0
    assert wire == {finish.name: finish.value for finish in Finish}


def test_stopping_cancels_what_is_still_running(tmp_path: Path) -> None:
    one = Served(tmp_path)
    one.rule.may_go.clear()
    call = one.stub.Generate(pb.GenerateRequest(prompt="a", tokens_max=100, ignore_end=True))
    assert one.rule.began.wait(SECONDS_MAX)
    stopper = threading.Thread(target=one.worker.stop, args=(0.2,))
    stopper.start()
    one.rule.may_go.set()
    stopper.join(SECONDS_MAX)
    assert not stopper.is_alive()
    assert one.decoder.active == 0
    try:
        responses = list(call)
    except grpc.RpcError:
        responses = []
    assert not responses or Finish(responses[-1].finish_reason) in (
        Finish.CANCELLED,
        Finish.LENGTH,
    )
    one.channel.close()


def test_an_address_that_cannot_be_bound_is_an_error_of_ours(tmp_path: Path) -> None:
    decoder = Decoder(tiny("llama", VOCAB_SIZE), slots=1, length_max=32)
    with pytest.raises(FailedPrecondition, match="cannot listen"):
        serve_worker(decoder, tokenizer=None, listen=[f"unix:{tmp_path}/no/such/folder/x"])
