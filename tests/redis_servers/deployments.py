"""Redis as operators run it: one server, with TLS, behind Sentinels, as a Cluster. All real."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import redis

from retrieval_draft.store.redis_address import unix_url
from retrieval_draft.store.server_binary import Server
from tests.redis_servers.certificates import Authority, Certificate
from tests.redis_servers.processes import DURABLE, RedisProcess, server_of, wait_until

SERVICE = "drafts"
DOWN_MS = "1000"  # of silence, until Sentinels or nodes of a Cluster call a server down


@dataclass
class Deployment:
    """`url` is what `--redis` is given; `servers` hold data, `others` are Sentinels."""

    url: str
    servers: list[RedisProcess]
    others: list[RedisProcess] = field(default_factory=list[RedisProcess])
    certificate: Certificate | None = None

    def close(self) -> None:
        for server in (*self.others, *self.servers):
            server.kill()

    def primaries(self) -> list[RedisProcess]:
        return [server for server in self.servers if role(server) == "master"]

    def keys(self) -> list[str]:
        """Every key of every server."""
        found: list[str] = []
        for server in self.primaries():
            with server.client() as client:
                found += [bytes(name).decode() for name in client.scan_iter("*")]
        return found

    def empty(self) -> None:
        for server in self.primaries():
            with server.client() as client:
                client.flushall()


def said(client: redis.Redis, *words: str) -> str:
    """What the server answers to these words, as text."""
    return cast(bytes, client.execute_command(*words)).decode()


def role(server: RedisProcess) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])


def single(folder: Path, place: str, **settings: str) -> Deployment:
    """On a Unix socket; fsync always unless told otherwise."""
    socket = folder / "redis.sock"
    given = {**DURABLE, "unixsocket": str(socket), **settings}
    server = RedisProcess(server_of(place), folder, given).start()
    return Deployment(unix_url(str(socket)), [server])


def tls(folder: Path) -> Deployment:
    """One server that wants a certificate of its clients."""
    server = server_of("PATH")
    authority = Authority(folder)
    own, client = authority.sign("server"), authority.sign("client")
    settings = {
        **DURABLE,
        "tls-port": "",
        "tls-ca-cert-file": str(own.ca),
        "tls-cert-file": str(own.cert),
        "tls-key-file": str(own.key),
        "tls-auth-clients": "yes",
    }
    secured = {
        "ssl": True,
        "ssl_ca_certs": str(client.ca),
        "ssl_certfile": str(client.cert),
        "ssl_keyfile": str(client.key),
    }
    process = RedisProcess(server, folder, settings, client=secured).start()
    parameters = "&".join(f"{name}={value}" for name, value in secured.items() if name != "ssl")
    url = f"rediss://127.0.0.1:{process.port}?{parameters}"
    return Deployment(url, [process], certificate=client)


def sentinel(folder: Path, place: str = "PATH") -> Deployment:
    """A primary, a replica, and three Sentinels."""
    binary = server_of(place)
    first = RedisProcess(binary, folder / "a", DURABLE).start()
    second = RedisProcess(
        binary, folder / "b", {**DURABLE, "replicaof": f"127.0.0.1 {first.port}"}
    ).start()
    with second.client() as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "no replica")
    watchers = [_watcher(binary, folder / f"sentinel{n}", first.port) for n in range(3)]
    for watcher in watchers:
        with watcher.client() as client:
            wait_until(lambda client=client: _complete(client), "Sentinels do not meet")  # type: ignore[misc]
    hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
    return Deployment(f"redis+sentinel://{hosts}/{SERVICE}", [first, second], watchers)


def _watcher(binary: Server, folder: Path, port: int) -> RedisProcess:
    process = RedisProcess(binary, folder, sentinel=True)
    lines = (
        f"sentinel monitor {SERVICE} 127.0.0.1 {port} 2",
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}",
        f"sentinel failover-timeout {SERVICE} 4000",
    )
    kept = [text for text in process.config.read_text().splitlines() if not text.startswith("save")]
    process.config.write_text("\n".join((*kept, *lines)) + "\n")
    return process.start()


def _complete(client: redis.Redis) -> bool:
    state = cast(dict[str, int], client.sentinel_master(SERVICE))
    return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)


def cluster(folder: Path, place: str = "PATH") -> Deployment:
    """Three primaries without replicas."""
    binary = server_of(place)
    settings = {**DURABLE, "cluster-enabled": "yes", "cluster-node-timeout": "5000"}
    nodes = [RedisProcess(binary, folder / str(n), settings).start() for n in range(3)]
    for number, node in enumerate(nodes):
        with node.client() as client:
            slots = range(number * 16384 // 3, (number + 1) * 16384 // 3)
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    for node in nodes:
        with node.client() as client:
            wait_until(lambda client=client: _covers(client), "the Cluster does not form")  # type: ignore[misc]
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])
    return Deployment(f"redis+cluster://{hosts}", nodes)


def _covers(client: redis.Redis) -> bool:
    lines = said(client, "CLUSTER", "NODES").splitlines()
    info = said(client, "CLUSTER", "INFO")
    met = len(lines) == 3 and all("connected" in line and "-" in line.split()[-1] for line in lines)
    return met and "cluster_state:ok" in info
