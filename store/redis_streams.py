"""Streams of one server, or of a Cluster: appending, following, and noticing that the past changed.

One server is followed with a blocking XREAD over all streams. A Cluster refuses that: each stream
may be in another slot. There every node is asked for its streams in one pipeline, again and again.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Protocol, cast

import redis
from redis.client import Pipeline
from redis.cluster import RedisCluster
from redis.exceptions import AskError
from redis.typing import KeyT, StreamIdT

from retrieval_draft.store.connection import CONNECT_SECONDS_MAX, translated_errors
from retrieval_draft.store.journal_position import BEGINNING, order_of
from retrieval_draft.store.redis_address import parse_redis_url
from retrieval_draft.store.redis_clients import REDIS_ERRORS, as_cluster, client_of

READ_ENTRIES_MAX = 64  # of each stream in one answer
POLL_SECONDS = 0.01  # between looks at the nodes of a Cluster
POLL_SHARE_MAX = 0.25  # of the time that may go into looking, however many streams there are

Entries = list[tuple[bytes, dict[bytes, bytes]]]
Command = Callable[[Pipeline], object]


class Streams(Protocol):
    """For the threads that write and follow journals. Waits are bounded; nothing is repeated."""

    client: redis.Redis

    @property
    def connections(self) -> int:
        """How often a connection was made. After it grew, ask `lost`: it may lead to a server that
        took over, or lost its newest writes, and redis-py connects again without a word.
        """
        ...

    def send(self, commands: Sequence[tuple[str, Command]]) -> list[object]:
        """Call each command, given with its key, on a pipeline: the answers or errors, in order.

        Raises redis-py's errors if no answer at all can be had.
        """
        ...

    def read(self, after: Mapping[str, str], block_ms: int) -> dict[str, Entries]:
        """Entries behind these ids, of the streams that have some; waits for the first (0: not)."""
        ...

    def lost(self, positions: Mapping[str, str]) -> set[str]:
        """The streams that have no entry of this id although they reach back before it."""
        ...


def open_streams(url: str, answer_seconds_max: float) -> Streams:
    """Raises our errors, InvalidInput or, of a Cluster, Unreachable and PermissionDenied."""
    address, counter = parse_redis_url(url), _Counter()
    with translated_errors(url):
        client = client_of(address, CONNECT_SECONDS_MAX, answer_seconds_max, counter.count)
    cluster = as_cluster(client)
    return _One(client, counter) if cluster is None else _Cluster(client, cluster, counter)


class _Counter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def count(self) -> None:
        with self._lock:
            self.value += 1


class _Base:
    def __init__(self, client: redis.Redis, counter: _Counter) -> None:
        self.client, self._counter = client, counter

    @property
    def connections(self) -> int:
        return self._counter.value

    def send(self, commands: Sequence[tuple[str, Command]]) -> list[object]:
        return _sent(self.client, [command for _, command in commands])

    def lost(self, positions: Mapping[str, str]) -> set[str]:
        read = {name: entry_id for name, entry_id in positions.items() if entry_id != BEGINNING}
        found = _checked(self.send([(n, _range(n, i, i, 1)) for n, i in read.items()]))
        missing = [name for name, entries in zip(read, found, strict=True) if not entries]
        oldest = _checked(self.send([(name, _range(name, "-", "+", 1)) for name in missing]))
        return {
            name
            for name, entries in zip(missing, oldest, strict=True)
            if not entries or order_of(entries[0][0].decode()) < order_of(read[name])
        }


class _One(_Base):
    def read(self, after: Mapping[str, str], block_ms: int) -> dict[str, Entries]:
        streams: dict[KeyT, StreamIdT] = {}
        for name, entry_id in after.items():
            streams[name] = entry_id
        answer = self.client.xread(streams, count=READ_ENTRIES_MAX, block=block_ms or None)
        return {name.decode(): rows for name, rows in cast(list[tuple[bytes, Entries]], answer)}


class _Cluster(_Base):
    def __init__(self, client: redis.Redis, cluster: RedisCluster, counter: _Counter) -> None:
        super().__init__(client, counter)
        self._cluster = cluster

    def send(self, commands: Sequence[tuple[str, Command]]) -> list[object]:
        """A node that fails takes down its own streams only."""
        answers: list[object] = [None] * len(commands)
        by_node: dict[str, list[int]] = {}
        for index, (key, _) in enumerate(commands):
            by_node.setdefault(self._node_of(key), []).append(index)
        for name, indices in by_node.items():
            try:
                node = self._cluster.get_node(node_name=name)
                if node is None:  # another thread has just seen it go
                    raise redis.ConnectionError(f"the Cluster has no node {name} any more")
                server = self._cluster.get_redis_connection(node)
                found = _sent(server, [commands[index][1] for index in indices])
            except REDIS_ERRORS as error:
                found = [error] * len(indices)
            for index, answer in zip(indices, found, strict=True):
                answers[index] = answer
        if any(isinstance(answer, REDIS_ERRORS) for answer in answers):
            self._follow_moves(commands, answers)
        return answers

    def read(self, after: Mapping[str, str], block_ms: int) -> dict[str, Entries]:
        deadline = monotonic() + block_ms / 1000
        while True:
            began = monotonic()
            asked = [
                (name, _range(name, f"({i}", "+", READ_ENTRIES_MAX)) for name, i in after.items()
            ]
            answers = self.send(asked)
            found = {
                name: cast(Entries, answer)
                for name, answer in zip(after, answers, strict=True)
                if answer and not isinstance(answer, Exception)
            }
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if failed and not found:
                raise failed[0]
            now = monotonic()
            if found or now >= deadline:
                return found
            pause = max(POLL_SECONDS, (now - began) * (1 / POLL_SHARE_MAX - 1))
            threading.Event().wait(min(pause, deadline - now))

    def _node_of(self, key: str) -> str:
        node = self._cluster.get_node_from_key(key)
        if node is None:  # nobody has the slot, or nobody was seen to have it
            self._look_again()
            node = self._cluster.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError(f"no node of the Cluster has the slot of {key}")
        return str(node.name)

    def _follow_moves(self, commands: Sequence[tuple[str, Command]], answers: list[object]) -> None:
        self._look_again()
        for index, answer in enumerate(answers):
            if isinstance(answer, AskError):  # MovedError too: redis-py goes where they point
                try:
                    answers[index] = commands[index][1](cast(Pipeline, self.client))
                except REDIS_ERRORS as error:
                    answers[index] = error

    def _look_again(self) -> None:
        self._cluster.nodes_manager.initialize()


def _sent(server: redis.Redis, commands: Sequence[Command]) -> list[object]:
    if not commands:
        return []
    with server.pipeline(transaction=False) as pipeline:
        for command in commands:
            command(pipeline)
        return cast(list[object], pipeline.execute(raise_on_error=False))


def _range(name: str, first: str, last: str, count: int) -> Command:
    return lambda pipeline: pipeline.xrange(name, first, last, count)


def _checked(answers: list[object]) -> list[Entries]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return cast(list[Entries], answers)
