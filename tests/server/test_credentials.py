"""Whose call it is: tokens, Unix sockets, revoking, and what a tenant may hold at once."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import msgspec
import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.credentials import Credentials, load_credentials
from retrieval_draft.errors import (
    DraftError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from retrieval_draft.server.lifecycle import THREADS_MAX
from retrieval_draft.tenants import with_token, without_tenant
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import NAMESPACE, SPEC, Caller, part, wait_for
from tests.server.sidecars import DRAFT, connected, create, documents, running_sidecar
from tests.server.tenancy import Tenancy, tenancy

CONFIG = Config(learned_bytes_max=1 << 20, tenant_calls_max=8, tenant_namespaces_max=2)
WRONG = "rdt_" + "w" * 43


@pytest.fixture(scope="module")
def shared() -> Iterator[Tenancy]:
    with tenancy(CONFIG, unix_sockets="", listen=("127.0.0.1:0",)) as running:
        yield running


def status(tenancy: Tenancy, credentials: Credentials, **more: str) -> tuple[str, str]:
    with tenancy.raw(credentials, **more) as raw:
        answer = raw.unary(DRAFT, "GetServerInfo", b"")
    return answer.status, answer.details


def test_a_token_is_needed_and_a_wrong_one_is_refused(shared: Tenancy) -> None:
    assert status(shared, shared.credentials("acme"))[0] == "OK"
    assert status(shared, Credentials()) == (
        "UNAUTHENTICATED",
        "a token is needed: --token-file or RETRIEVAL_DRAFT_TOKEN",
    )
    for wrong in (WRONG, "x", shared.tokens["acme"][:-1], shared.tokens["acme"] + "A"):
        assert status(shared, Credentials(wrong)) == (
            "UNAUTHENTICATED",
            "this token is not valid",
        )


@pytest.mark.parametrize(
    "headers",
    [
        (("authorization", "Basic {token}"),),
        (("authorization", "{token}"),),
        (("authorization", ""),),
        (("authorization", "Bearer {token}"), ("authorization", "Bearer {token}")),
    ],
)
def test_a_header_of_another_form_is_refused(
    shared: Tenancy, headers: tuple[tuple[str, str], ...]
) -> None:
    sent = tuple((key, value.format(token=shared.tokens["acme"])) for key, value in headers)
    with grpc.insecure_channel(shared.sidecar.targets[0]) as channel:
        call: Callable[..., bytes] = channel.unary_unary(f"/{DRAFT}/GetServerInfo")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", metadata=sent, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        good = (("authorization", f"bearer {shared.tokens['acme']}"),)
        assert call(b"", metadata=good, timeout=10)


def test_the_client_says_who_it_is_with_every_kind_of_call(shared: Tenancy) -> None:
    with shared.client("acme") as client:
        assert Caller(client).step(part("s", 0, [1, 2], prompt=2)).statuses == [1]
        assert list(client.warm([documents([1, 2, 3])]))[-1].ready
        assert [one.namespace for one in client.list_namespaces()] == [NAMESPACE]
    with connected(shared.sidecar.targets[0], None, Credentials(WRONG)) as client:
        for act in (
            lambda: client.stats(),
            lambda: list(client.warm([documents([1])])),
            lambda: Caller(client).step(part("s", 0, [1], prompt=1)),
        ):
            with pytest.raises(Unauthenticated, match="not valid"):
                act()


def test_a_message_cannot_name_another_tenants_namespace(shared: Tenancy) -> None:
    with shared.client("acme"), shared.client("bolt", spec=None) as other:
        before = other.stats()
        with pytest.raises(NotFound):
            other.get_namespace(NAMESPACE)
        for name in (f"acme/{NAMESPACE}", f"4:acme|4:{NAMESPACE}", f"acme:{NAMESPACE}"):
            with pytest.raises(DraftError) as caught:
                other.get_namespace(name)
            assert caught.value.status in ("NOT_FOUND", "INVALID_ARGUMENT")
        assert list(before.namespaces) == []


def test_callers_on_unix_sockets_are_the_files_tenant_and_those_on_ports_are_not() -> None:
    with tenancy(CONFIG, unix_sockets="local", listen=()) as running:
        with connected(running.sidecar.targets[0]) as client:
            assert client.list_namespaces()
        with running.client("acme", spec=None) as client:
            assert client.list_namespaces() == [], "a token decides there too"
        assert status(running, Credentials(WRONG))[0] == "UNAUTHENTICATED"
        running.write(replace(running.tenants, unix_sockets=""))
        assert status(running, Credentials())[0] == "UNAUTHENTICATED"
    with tenancy(CONFIG, unix_sockets="local", listen=("127.0.0.1:0",)) as running:
        assert status(running, Credentials())[0] == "UNAUTHENTICATED"


def test_a_revoked_token_ends_streams_at_their_next_message_and_no_others(shared: Tenancy) -> None:
    before = shared.tenants
    with shared.client("acme") as mine, shared.client("bolt") as other:
        calls, others = Caller(mine), Caller(other)
        calls.step(part("s", 0, [1, 2], prompt=2))
        others.step(part("s", 0, [1, 2], prompt=2))

        def pieces() -> Iterator[store_pb2.WarmRequest]:
            yield documents([1, 2, 3], corpus="cut")
            shared.write(without_tenant(before, "acme"))
            yield documents([4, 5, 6], corpus="cut")

        try:
            with pytest.raises(Unauthenticated, match="not valid"):
                list(mine.warm(pieces()))
            with pytest.raises(Unauthenticated, match="not valid"):
                calls.step(part("s", 2, [3]))
            with pytest.raises(Unauthenticated):
                mine.stats()
            assert others.step(part("s", 2, [3])).statuses == [1]
        finally:
            shared.write(before)
        corpora = mine.stats(NAMESPACE).namespaces[0].corpora
        assert "cut" not in [one.corpus for one in corpora], "what came after is not published"


def test_a_token_that_was_given_to_another_ends_the_streams_of_before(shared: Tenancy) -> None:
    before = shared.tenants
    with shared.client("acme") as client:
        calls = Caller(client)
        calls.step(part("s", 0, [1, 2], prompt=2))
        one, two = before.by_name["acme"], before.by_name["bolt"]
        swapped = {"acme": replace(one, tokens=two.tokens), "bolt": replace(two, tokens=one.tokens)}
        shared.write(replace(before, by_name=swapped))
        try:
            with pytest.raises(Unauthenticated, match="revoked"):
                calls.step(part("s", 2, [3]))
        finally:
            shared.write(before)


def test_a_bad_file_keeps_the_old_one_and_says_so(
    shared: Tenancy, caplog: pytest.LogCaptureFixture
) -> None:
    good = shared.path.read_text()
    shared.path.write_text("[tenants.acme]\ntokens = ['rdt_in_the_clear']")
    try:
        assert not shared.sidecar.reload()
        assert "kept the tenants of before: tenants.acme.tokens" in caplog.text
        assert "in_the_clear" not in caplog.text
        assert status(shared, shared.credentials("acme"))[0] == "OK"
    finally:
        shared.path.write_text(good)
    changed, token = with_token(shared.tenants, "acme")
    shared.write(changed)
    assert status(shared, Credentials(token))[0] == "OK"


def test_a_file_that_is_missing_is_an_error_at_the_start() -> None:
    with tenancy(CONFIG) as running:
        running.path.unlink()
        assert not running.sidecar.reload()
        running.sidecar.stop()
        with pytest.raises(InvalidInput, match="No such file"):
            running.sidecar.start()


def test_refused_callers_are_counted_and_logged_now_and_then_without_their_tokens(
    shared: Tenancy, caplog: pytest.LogCaptureFixture
) -> None:
    access = shared.sidecar.access
    before = access.refused
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            status(shared, Credentials(WRONG))
    assert access.refused == before + 20
    assert len([r for r in caplog.records if "refused" in r.message]) <= 1
    assert WRONG not in caplog.text


def test_one_tenants_streams_do_not_keep_others_out(shared: Tenancy) -> None:
    release = threading.Event()

    def hold() -> None:
        def endless() -> Iterator[store_pb2.WarmRequest]:
            yield documents([1, 2])
            release.wait(30)

        with shared.client("acme", spec=None) as client:
            list(client.warm(endless()))

    with shared.client("acme"), shared.client("bolt") as other:
        calls = shared.sidecar.edge.calls_of
        threads = [threading.Thread(target=hold) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: calls("acme") == 8)
            with (
                shared.client("acme", spec=None) as third,
                pytest.raises(ResourceExhausted, match="calls at once: the limit of a tenant is 8"),
            ):
                Caller(third).step(part("s", 0, [1], prompt=1))
            assert Caller(other).step(part("s", 0, [1], prompt=1)).statuses == [1]
        finally:
            release.set()
            for thread in threads:
                thread.join()
        wait_for(lambda: calls("acme") == 0)


@pytest.mark.parametrize("who", ["", "acme"])
def test_calls_that_never_send_their_message_keep_nobody_out(shared: Tenancy, who: str) -> None:
    """gRPC holds a thread for each of them, and has as many as are opened here."""
    credentials = shared.credentials(who) if who else Credentials()
    ended = threading.Event()

    def silent() -> Iterator[bytes]:
        ended.wait(30)
        return
        yield b""

    with (
        grpc.insecure_channel(shared.sidecar.targets[0]) as channel,
        shared.client("bolt") as other,
    ):
        call: Callable[..., grpc.Future[bytes]] = channel.stream_unary(f"/{DRAFT}/Draft").future
        held = [call(silent(), metadata=credentials.metadata()) for _ in range(THREADS_MAX)]
        try:
            most = CONFIG.tenant_calls_max if who else 0
            wait_for(lambda: sum(not one.done() for one in held) == most)
            assert other.info(5.0).version
            assert sum(not one.done() for one in held) == most
        finally:
            ended.set()
            for one in held:
                one.cancel()
    wait_for(lambda: shared.sidecar.edge.calls_of("acme") == 0)


@pytest.mark.parametrize(
    "method",
    [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_strangers_hold_no_thread_of_drafting_by_what_is_open_to_all(
    shared: Tenancy, method: str
) -> None:
    ended = threading.Event()

    def silent() -> Iterator[bytes]:
        ended.wait(30)
        return
        yield b""

    with grpc.insecure_channel(shared.sidecar.targets[0]) as channel:
        call: Callable[..., grpc.Future[bytes]] = channel.stream_unary(f"/{method}").future
        held = [call(silent()) for _ in range(THREADS_MAX)]
        ask: Callable[..., bytes] = channel.unary_unary(f"/{DRAFT}/GetServerInfo")
        try:
            for _ in range(20):  # behind them on their own connection
                assert ask(b"", metadata=shared.credentials("bolt").metadata(), timeout=15)
        finally:
            ended.set()
            for one in held:
                one.cancel()


def test_a_tenant_has_so_many_namespaces_and_others_have_theirs(shared: Tenancy) -> None:
    def make(client: GrpcClient, name: str) -> None:
        create(client, msgspec.structs.replace(SPEC, namespace=name))

    with shared.client("acme") as mine, shared.client("bolt", spec=None) as other:
        make(mine, "second")
        make(mine, "second")
        with pytest.raises(ResourceExhausted, match="namespaces: the limit of a tenant is 2"):
            make(mine, "third")
        make(other, "third")
        mine.delete_namespace("second")
        make(mine, "third")


def test_a_token_is_not_sent_in_the_clear_to_another_machine() -> None:
    for target in ("192.0.2.1:1", "example.org:1", "dns:///localhost:1"):
        with pytest.raises(PermissionDenied, match="without TLS") as caught:
            Credentials(WRONG).channel(target)
        assert WRONG not in str(caught.value)
        Credentials().channel(target).close()
        Credentials(WRONG, use_system_ca=True).channel(target).close()
    Credentials(WRONG).channel("127.0.0.1:1").close()


def test_credentials_come_from_files_and_the_environment_and_do_not_show(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "token").write_text(f"{WRONG}\n")
    assert load_credentials() == Credentials()
    assert load_credentials(folder / "token") == Credentials(WRONG)
    assert WRONG not in repr(Credentials(WRONG, key=b"private"))
    assert "private" not in repr(Credentials(WRONG, key=b"private"))
    monkeypatch.setenv("RETRIEVAL_DRAFT_TOKEN", WRONG[::-1])
    assert load_credentials().token == WRONG[::-1]
    assert load_credentials(folder / "token").token == WRONG, "what is named comes first"
    monkeypatch.setenv("RETRIEVAL_DRAFT_TLS_CA", "system")
    assert load_credentials().use_system_ca
    for wrong, said in (("two words", "token"), ("ü" * 40, "token")):
        monkeypatch.setenv("RETRIEVAL_DRAFT_TOKEN", wrong)
        with pytest.raises(InvalidInput, match=said) as caught:
            load_credentials()
        assert wrong not in str(caught.value)
    monkeypatch.delenv("RETRIEVAL_DRAFT_TOKEN")
    with pytest.raises(InvalidInput, match="--tls-key"):
        load_credentials(certificate="x")
    with pytest.raises(InvalidInput, match="--tls-ca"):
        load_credentials(ca=str(folder / "none"))


def test_a_sidecar_without_tenants_takes_everybody_as_local(shared: Tenancy) -> None:
    with running_sidecar(CONFIG) as sidecar:
        with connected(sidecar.targets[0]) as client:
            client.list_namespaces()
        with connected(sidecar.targets[0], None, Credentials(WRONG)) as client:
            assert [one.namespace for one in client.list_namespaces()] == [NAMESPACE]


def test_a_sidecar_without_tenants_gives_the_one_there_is_all_namespaces() -> None:
    with running_sidecar(CONFIG) as sidecar, connected(sidecar.targets[0]) as client:
        for number in range(CONFIG.tenant_namespaces_max + 1):
            create(client, msgspec.structs.replace(SPEC, namespace=f"{number}"))
