"""Sidecars on one Redis, as an operator sees them with `stats`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from retrieval_draft.cli import cli
from retrieval_draft.client import GrpcClient
from retrieval_draft.errors import Unreachable
from retrieval_draft.server.lifecycle import ServeOptions, Sidecar
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.server_binary import installed_servers
from tests.engine.driving import NAMESPACE, Caller, wait_for
from tests.engine.test_fleet import decode
from tests.server.sidecars import create, short_folder

pytestmark = pytest.mark.skipif(not installed_servers(), reason="no Redis server on this machine")


@pytest.fixture
def fleet() -> Iterator[tuple[list[Sidecar], EmbeddedRedis]]:
    """Two sidecars on one Redis."""
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        redis = EmbeddedRedis(stack.enter_context(DataFolder(folder / "r")))
        redis.start()
        stack.callback(redis.stop)
        sidecars = []
        for name in ("a", "b"):
            sidecar = Sidecar(ServeOptions(data=Path(folder / name), redis=redis.url))
            sidecar.start()
            stack.callback(sidecar.stop)
            sidecars.append(sidecar)
        yield sidecars, redis


def shown(sidecar: Sidecar, *words: str) -> str:
    ended = CliRunner().invoke(cli, ["stats", "--sidecar", sidecar.targets[0], *words])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_what_one_replica_learned_and_counted_is_seen_at_the_other(
    fleet: tuple[list[Sidecar], EmbeddedRedis],
) -> None:
    (one, two), redis = fleet
    client = GrpcClient(one.targets[0])
    create(client)
    decode(Caller(client))
    wait_for(lambda: "steps 1 " in shown(two, "--fleet"))
    mine, theirs = (
        json.loads(shown(sidecar, "--digest", "--json"))["namespaces"][0] for sidecar in (one, two)
    )
    assert (mine["steps"], theirs["steps"]) == ("1", "0")
    assert mine["journal_position"] == theirs["journal_position"] != ""
    assert mine["learned_digest"] == theirs["learned_digest"] != ""
    assert f"digest {mine['learned_digest']}" in shown(two, "--digest")
    text = shown(two, "--fleet", "--namespace", NAMESPACE)
    for word in ("MAT 3.00", "match length", "depth", "replica", one.engine.replica):
        assert word in text
    client.delete_namespace(NAMESPACE)  # the other may be told of it a moment later
    assert json.loads(shown(two, "--fleet", "--json"))["namespaces"] == []
    create(client)
    redis.stop()
    with pytest.raises(Unreachable) as said:
        client.stats(fleet=True)
    assert "lie in the store, which is away" in str(said.value)
    assert "serve" not in str(said.value), "the sidecar is there: no advice to start it"
    with pytest.raises(Unreachable, match="which is away"):
        next(client.watch_stats(fleet=True))
    wait_for(lambda: not client.stats().namespaces[0].connected, "it does not say so")
    assert client.stats().namespaces[0].namespace == NAMESPACE, "its own figures need no Redis"
    answer = CliRunner().invoke(cli, ["doctor", "--sidecar", one.targets[0], "--json"])
    found = {finding["check"]: finding for finding in json.loads(answer.stdout)}
    assert found["sidecar"]["state"] == "warn"
    assert "store redis, which is away" in found["sidecar"]["detail"]
    client.close()
