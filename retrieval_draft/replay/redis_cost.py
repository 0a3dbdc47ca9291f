"""What sharing costs a real Redis: commands, traffic and memory for each token that is learned.

Replicas on one embedded server decode a file's sequences in turn. Unlike a model they do so within
milliseconds; each sequence is journalled to its end before the next begins, so that batches hold no more
than those of a model would.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from retrieval_draft.errors import DraftError, Unreachable
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.play import Trace, play_one
from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.store.connection import unchecked_client
from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.keys import parse_redis_key
from retrieval_draft.store.redis_backend import EMBEDDED, RedisBackend

TOKENS_MAX = 40_000
"""Output tokens decoded: enough for steady figures per token."""
IDLE_SECONDS = 2.0
CATCH_UP_SECONDS_MAX = 30.0
OURS = ("info", "scan", "memory|usage", "ping")
"""What the measurement itself asks; left out."""


@dataclass(frozen=True, slots=True)
class RedisCost:
    """Of `tokens` learned tokens that every replica has applied; bytes and commands are per token.

    `stored_bytes` is Redis' own MEMORY USAGE of the keys, by kind; `file_bytes` what the append-only file
    grew by; the network figures count both directions of all replicas. `idle_commands` is what one
    replica sends in a second in which nothing happens.
    """

    file: str
    replicas: int
    tokens: int
    journal_entries: int
    commands: dict[str, float]
    journal_bytes: float
    file_bytes: float
    received_bytes: float
    sent_bytes: float
    stored_bytes: dict[str, int]
    idle_commands: float
    restart_seconds: float
    restart_tokens: int
    digests_equal: bool
    server: str


@dataclass(frozen=True, slots=True)
class _Meter:
    """What the server has counted so far."""

    commands: Counter[str]
    received: int
    sent: int
    file: int

    @classmethod
    def read(cls, client: redis.Redis) -> "_Meter":
        calls: Counter[str] = Counter()
        for name, facts in cast(dict[str, dict[str, int]], client.info("commandstats")).items():
            command = name.removeprefix("cmdstat_")
            if command not in OURS:
                calls[command] = facts["calls"]
        stats, disk = client.info("stats"), client.info("persistence")
        return cls(
            calls,
            int(stats["total_net_input_bytes"]),
            int(stats["total_net_output_bytes"]),
            int(disk["aof_current_size"]),
        )


def redis_cost(
    file: RecordedFile,
    setting: Setting,
    replicas: int,
    advance: Callable[[], None] = lambda: None,
) -> RedisCost:
    """Measure; `advance` is called after each of `cost_sequences`. Raises DraftError without a server."""
    with _server() as running, ExitStack() as stack:
        client = stack.enter_context(unchecked_client(running.url))
        drafters = [
            stack.enter_context(_replica(file, setting, running.url, f"replica-{i}"))
            for i in range(replicas)
        ]
        before = _Meter.read(client)
        trace = Trace()
        for i, sequence in enumerate(cost_sequences(file)):
            play_one(drafters[i % replicas], sequence, trace, 0)
            advance()
        _catch_up(drafters)
        for drafter in drafters:
            drafter.engine.report()
        after = _Meter.read(client)
        idle = _idle(client, replicas)
        stored, entries = _stored(client)
        digests = {drafter.state.digest()[1] for drafter in drafters}
        began = time.perf_counter()
        late = stack.enter_context(_replica(file, setting, running.url, "restarted"))
        seconds = time.perf_counter() - began
        digests.add(late.state.digest()[1])
        tokens = drafters[0].state.learned.tokens_learned
        facts = running.facts
        return RedisCost(
            file=file.name,
            replicas=replicas,
            tokens=tokens,
            journal_entries=entries,
            commands={
                name: calls / max(1, tokens)
                for name, calls in (after.commands - before.commands).most_common()
            },
            journal_bytes=stored["journal"] / max(1, tokens),
            file_bytes=(after.file - before.file) / max(1, tokens),
            received_bytes=(after.received - before.received) / max(1, tokens),
            sent_bytes=(after.sent - before.sent) / max(1, tokens),
            stored_bytes=dict(stored),
            idle_commands=idle,
            restart_seconds=seconds,
            restart_tokens=late.state.learned.tokens_learned,
            digests_equal=len(digests) == 1,
            server=facts.version if facts else "",
        )


def cost_sequences(file: RecordedFile) -> list[Recorded]:
    """The first sequences of the file, up to TOKENS_MAX output tokens."""
    chosen: list[Recorded] = []
    tokens = 0
    for sequence in file.sequences:
        if tokens >= TOKENS_MAX:
            break
        chosen.append(sequence)
        tokens += len(sequence.output)
    return chosen


@contextmanager
def _server() -> Iterator[EmbeddedRedis]:
    with (
        tempfile.TemporaryDirectory(prefix="retrieval-draft-") as path,
        DataFolder(Path(path) / "data") as folder,
    ):
        running = EmbeddedRedis(folder)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def _replica(file: RecordedFile, setting: Setting, url: str, name: str) -> EngineDrafter:
    return EngineDrafter(file, setting, RedisBackend(url, EMBEDDED), name)


def _catch_up(drafters: list[EngineDrafter]) -> None:
    """Until every replica has applied what all have written."""
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    for drafter in drafters:
        drafter.engine.flush(CATCH_UP_SECONDS_MAX)
    # Whoever is flushed has applied its own records: the newest position of all is the last there is.
    while len({drafter.state.position for drafter in drafters}) > 1:
        if time.monotonic() > deadline:
            raise Unreachable("the replicas do not catch up with one another")
        time.sleep(0.01)


def _idle(client: redis.Redis, replicas: int) -> float:
    """Commands of one replica in a second in which nothing happens."""
    before = _Meter.read(client).commands
    time.sleep(IDLE_SECONDS)
    return (_Meter.read(client).commands - before).total() / IDLE_SECONDS / replicas


def _stored(client: redis.Redis) -> tuple[Counter[str], int]:
    """The memory of all keys by kind, and the entries of the journals."""
    sizes: Counter[str] = Counter()
    entries = 0
    for name in client.scan_iter():
        text = bytes(name).decode()
        try:
            kind: str = parse_redis_key(text).kind
        except DraftError:
            kind = "other"
        sizes[kind] += client.memory_usage(text, samples=0) or 0
        if kind == "journal":
            entries += int(client.xlen(text))
    return sizes, entries
