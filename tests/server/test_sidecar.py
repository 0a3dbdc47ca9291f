"""How a sidecar comes up, who may reach it, and what it says about itself."""

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from retrieval_draft import __version__
from retrieval_draft.client import GrpcClient
from retrieval_draft.config import MESSAGE_BYTES_MAX, OBSERVATION_WIDTH, Config
from retrieval_draft.errors import FailedPrecondition, InvalidInput, PermissionDenied
from retrieval_draft.server import draft_service, listen, store_service
from retrieval_draft.server.access import Access
from retrieval_draft.server.edge import Edge
from retrieval_draft.server.lifecycle import ServeOptions, Sidecar
from tests.engine.driving import METHODS
from tests.server.sidecars import RawCalls, connected, running_sidecar

SERVICES = (draft_service.SERVICE, store_service.SERVICE)


def test_health_says_serving_for_the_server_and_each_service(sidecar: Sidecar) -> None:
    raw = RawCalls(sidecar.targets[0])
    for service in ("", *SERVICES):
        request = health_pb2.HealthCheckRequest(service=service)
        answer = raw.send("grpc.health.v1.Health", "Check", request)
        found = health_pb2.HealthCheckResponse.FromString(answer.data[0])
        assert found.status == health_pb2.HealthCheckResponse.SERVING
    raw.close()


def test_reflection_lists_the_services_and_their_methods(sidecar: Sidecar) -> None:
    with grpc.insecure_channel(sidecar.targets[0]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {*SERVICES, "grpc.health.v1.Health"} <= set(database.get_services())
        for service, proto in zip(SERVICES, ("draft", "store"), strict=True):
            file = database.FindFileContainingSymbol(service)
            assert file.name == f"retrieval_draft/v1/{proto}.proto"
            (described,) = [s for s in file.service if service.endswith(s.name)]
            assert len(described.method) > 4


@dataclass
class Asked:
    """What gRPC asks a service's handler with."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


def test_every_method_of_the_protocol_has_a_handler(sidecar: Sidecar, client: GrpcClient) -> None:
    from retrieval_draft.v1 import draft_pb2, store_pb2

    edge = Edge(Access())
    handlers = {
        draft_service.SERVICE: draft_service.DraftService(sidecar.engine).handler(edge),
        store_service.SERVICE: store_service.StoreService(sidecar.engine).handler(edge),
    }
    for file in (draft_pb2.DESCRIPTOR, store_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for method in service.methods:
                asked = Asked(f"/{service.full_name}/{method.name}")
                handler = handlers[service.full_name].service(asked)
                assert handler is not None, method.full_name
                assert handler.request_streaming == method.client_streaming
                assert handler.response_streaming == method.server_streaming


def test_it_says_what_it_serves_and_within_which_limits(
    sidecar: Sidecar, client: GrpcClient
) -> None:
    info, config = client.info(), sidecar.engine.config
    assert info.version == __version__
    assert info.replica_id == sidecar.engine.replica
    assert tuple(info.methods) == METHODS
    assert info.default_method == "mix"
    assert info.store == "none"
    assert info.observation_width == OBSERVATION_WIDTH
    assert info.limits.batch_sequences_max == config.batch_sequences_max
    assert info.limits.nodes_max == config.nodes_hard_max
    assert info.limits.default_nodes_max == config.nodes_max
    assert info.limits.message_bytes_max == MESSAGE_BYTES_MAX


def test_its_socket_is_this_users_alone(sidecar: Sidecar) -> None:
    path = Path(sidecar.targets[0].removeprefix("unix:"))
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_listens_wherever_it_is_told_and_leaves_no_socket_behind(folder: Path) -> None:
    first, second = folder / "deep" / "one.sock", folder / "two.sock"
    options = ServeOptions(
        listen=(f"unix:{first}", f"unix:{second}", "127.0.0.1:0"),
        data=folder / "data",
        redis="none",
    )
    sidecar = Sidecar(options)
    sidecar.start()
    try:
        assert sidecar.targets[:2] == [f"unix:{first}", f"unix:{second}"]
        assert not any(target.endswith(":0") for target in sidecar.targets)
        for target in sidecar.targets:
            with connected(target) as client:
                assert client.info().version == __version__
        assert stat.S_IMODE(first.stat().st_mode) == stat.S_IMODE(second.stat().st_mode) == 0o600
    finally:
        sidecar.stop()
    assert not first.exists()
    assert not second.exists()


@pytest.mark.parametrize("target", ["0.0.0.0:0", "192.0.2.1:50051", "[::]:0", "example.org:1"])
def test_an_address_that_others_can_reach_is_refused_unless_insecure_is_said(target: str) -> None:
    with pytest.raises(PermissionDenied, match="without TLS and authentication"):
        listen.parse(target, insecure=False)
    assert listen.parse(target, insecure=True).target == target
    assert listen.parse(target, insecure=False, secured=True).target == target
    for loopback in ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.9.9.9:1"):
        assert listen.parse(loopback, insecure=False).target == loopback


@pytest.mark.parametrize(
    "target",
    ["", "unix:", "127.0.0.1", ":50051", "127.0.0.1:port", "127.0.0.1:65536", "unix:" + "x" * 200],
)
def test_what_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(InvalidInput, match="listen"):
        listen.parse(target, insecure=True)


def test_a_second_sidecar_on_the_same_data_folder_is_refused(sidecar: Sidecar) -> None:
    folder = Path(sidecar.targets[0].removeprefix("unix:")).parent
    with (
        pytest.raises(FailedPrecondition, match=f"in use by another sidecar.*{os.getpid()}"),
        running_sidecar(folder=folder),
    ):
        pass
    with connected(sidecar.targets[0]) as client:
        assert client.info().version == __version__


def test_a_second_sidecar_on_the_same_socket_is_refused_and_the_first_goes_on(
    sidecar: Sidecar, folder: Path
) -> None:
    other = Sidecar(ServeOptions(listen=tuple(sidecar.targets), data=folder / "x", redis="none"))
    with pytest.raises(FailedPrecondition, match="another process is serving on"):
        other.start()
    with connected(sidecar.targets[0]) as client:
        assert client.info().version == __version__


def test_a_socket_that_a_dead_process_left_behind_is_taken_over(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "draft.sock"))
    with running_sidecar(folder=folder) as sidecar, connected(sidecar.targets[0]) as client:
        assert client.info().version == __version__


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    (folder / "draft.sock").write_text("precious")
    with (
        pytest.raises(FailedPrecondition, match="exists and is not a socket"),
        running_sidecar(folder=folder),
    ):
        pass
    assert (folder / "draft.sock").read_text() == "precious"


def test_a_start_that_fails_leaves_nothing(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        unix = folder / "one.sock"
        options = ServeOptions(
            listen=(f"unix:{unix}", f"127.0.0.1:{port}"), data=folder / "data", redis="none"
        )
        with pytest.raises(FailedPrecondition, match=f"cannot listen on 127.0.0.1:{port}"):
            Sidecar(options).start()
        assert not unix.exists()
    with running_sidecar(folder=folder / "data"):
        pass


def test_a_stopped_sidecar_reports_that_nothing_was_lost(folder: Path) -> None:
    sidecar = Sidecar(ServeOptions(data=folder, redis="none", config=Config()))
    sidecar.start()
    assert sidecar.stop()
    assert sidecar.stop(), "twice does no harm"
