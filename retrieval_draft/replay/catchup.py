"""How long a start takes: the newest snapshot and the journal behind it, against the whole journal.

On a private Redis in a temporary folder, with its journal written beforehand; one process, one thread of
applying, as a sidecar starts.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.store.embedded import EmbeddedRedis
from retrieval_draft.store.folder import DataFolder
from retrieval_draft.store.folder_blocks import FolderBlocks
from retrieval_draft.store.journal_rules import JournalRules
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage, restore
from retrieval_draft.store.records import (
    CONTEXT_TOKENS_MAX,
    ROW_WIDTH,
    Batch,
    NamespaceSpec,
    Record,
)
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.tree import int32s

KEY = NamespaceKey("local", "catchup")
RECORD_TOKENS, RECORDS_A_BATCH, RECORDS_A_SEQUENCE = 64, 16, 8
PHRASES, PHRASE_TOKENS = 20_000, 12
FLUSH_SECONDS_MAX = 600.0
WHOLE = JournalRules(journal_bytes_max=1 << 40, snapshot_tokens=0, stop_tokens=0)
"""Nothing is trimmed and nothing saved but by the measurement."""


class Catchup(msgspec.Struct, frozen=True):
    """What was measured; the digests of both starts are equal or it has failed."""

    saved_tokens: int
    tail_tokens: int
    learned_bytes_max: int
    rows: bool
    journal_bytes_per_token: float
    save_seconds: float
    applying_paused_seconds: float
    snapshot_bytes: int
    snapshot_start_seconds: float
    snapshot_start_cpu_seconds: float
    tail_tokens_per_second: float
    tail_tokens_per_cpu_second: float
    whole_start_seconds: float
    whole_start_cpu_seconds: float
    whole_tokens_per_second: float
    whole_tokens_per_cpu_second: float
    speedup: float
    equal_digests: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured with."""

    tokens: int = 1_000_000
    tail: int = 100_000
    vocab_size: int = 151_936
    learned_bytes_max: int = 64 << 20
    with_rows: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class _Seconds:
    """Of a start: on the clock, and of this process's processors, which other work does not slow."""

    wall: float
    cpu: float


class _Replica:
    """A listener with one learned tier; one that hides it is never given a snapshot."""

    def __init__(self, work: Work, *, hides: bool = False) -> None:
        self.tier = LearnedTier(work.vocab_size, work.learned_bytes_max)
        self._hides = hides

    def namespace_changed(self, key: NamespaceKey, spec: NamespaceSpec | None) -> None:
        pass

    def corpus_changed(self, key: NamespaceKey, corpus: str) -> None:
        pass

    def apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        self.tier.apply(batch)

    def learned(self, key: NamespaceKey) -> LearnedTier | None:
        return None if self._hides else self.tier

    def load_learned(self, key: NamespaceKey, entry_id: str, image: LearnedImage) -> None:
        restore(self.tier, image)


def measure(work: Work, step: Callable[[str], None]) -> Catchup:
    """Write a journal, save in it, and start twice; `step` hears what is being done."""
    with tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as path, _server(Path(path)) as url:
        blocks = FolderBlocks(Path(path) / "blocks")
        texts = _records(work)

        def started(replica: _Replica, name: str) -> tuple[RedisBackend, _Seconds]:
            backend = RedisBackend(url, blocks=blocks, rules=WHOLE)
            began, began_cpu = time.perf_counter(), time.process_time()
            backend.start(name, replica)
            cpu = time.process_time() - began_cpu
            return backend, _Seconds(time.perf_counter() - began, cpu)

        first = _Replica(work)
        writer, _ = started(first, "writer")
        writer.create_namespace(KEY, NamespaceSpec("catchup", work.vocab_size))
        step(f"writing {work.tokens} tokens")
        saved_tokens = _write(writer, texts, work.tokens)
        began = time.perf_counter()
        writer.learned_image(KEY)
        paused = time.perf_counter() - began
        step("saving")
        began = time.perf_counter()
        snapshot = writer.save_snapshot(KEY)
        save_seconds = time.perf_counter() - began
        backend, empty = started(_Replica(work), "empty")
        backend.stop(0)
        step(f"writing {work.tail} tokens")
        tail_tokens = _write(writer, texts, work.tail)
        writer.stop(FLUSH_SECONDS_MAX)

        step("starting from the snapshot")
        quick = _Replica(work)
        backend, short = started(quick, "quick")
        backend.stop(0)
        step("starting from the whole journal")
        whole = _Replica(work, hides=True)
        backend, long = started(whole, "whole")
        backend.stop(0)
    tokens = saved_tokens + tail_tokens
    return Catchup(
        saved_tokens=saved_tokens,
        tail_tokens=tail_tokens,
        learned_bytes_max=work.learned_bytes_max,
        rows=work.with_rows,
        journal_bytes_per_token=snapshot.position.bytes / saved_tokens,
        save_seconds=save_seconds,
        applying_paused_seconds=paused,
        snapshot_bytes=snapshot.stored_bytes,
        snapshot_start_seconds=short.wall,
        snapshot_start_cpu_seconds=short.cpu,
        tail_tokens_per_second=tail_tokens / max(1e-9, short.wall - empty.wall),
        tail_tokens_per_cpu_second=tail_tokens / max(1e-9, short.cpu - empty.cpu),
        whole_start_seconds=long.wall,
        whole_start_cpu_seconds=long.cpu,
        whole_tokens_per_second=tokens / long.wall,
        whole_tokens_per_cpu_second=tokens / long.cpu,
        speedup=long.wall / short.wall,
        equal_digests=quick.tier.digest() == whole.tier.digest() == first.tier.digest(),
    )


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with DataFolder(folder) as data:
        server = EmbeddedRedis(data)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


def _write(backend: RedisBackend, records: Iterator[Record], tokens: int) -> int:
    written = waiting = 0
    for record in records:
        backend.append(KEY, record)
        written += RECORD_TOKENS
        waiting += 1
        if waiting == RECORDS_A_BATCH * 64 or written >= tokens:
            backend.flush(FLUSH_SECONDS_MAX)
            waiting = 0
        if written >= tokens:
            break
    return written


def _records(work: Work) -> Iterator[Record]:
    """Outputs as pieces of phrases that come back by Zipf's law, between tokens that are news."""
    dice = np.random.default_rng(work.seed)
    ranks = 1.0 / np.arange(1, PHRASES + 1)
    shares = np.cumsum(ranks) / ranks.sum()
    phrases = dice.integers(0, work.vocab_size, (PHRASES, PHRASE_TOKENS))
    sequence = 0
    while True:
        text = _text(dice, phrases, shares, work.vocab_size)
        sequence += 1
        for at in range(0, len(text), RECORD_TOKENS):
            context = text[max(0, at - CONTEXT_TOKENS_MAX) : at]
            tokens = text[at : at + RECORD_TOKENS]
            yield _record(work, dice, sequence, at, context, tokens)


def _text(
    dice: np.random.Generator,
    phrases: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    vocab_size: int,
) -> npt.NDArray[np.int64]:
    count = RECORD_TOKENS * RECORDS_A_SEQUENCE // PHRASE_TOKENS + 1
    chosen = phrases[np.searchsorted(shares, dice.random(count))]
    news = dice.random(chosen.shape) < 0.1
    mixed = np.where(news, dice.integers(0, vocab_size, chosen.shape), chosen)
    return mixed.reshape(-1)[: RECORD_TOKENS * RECORDS_A_SEQUENCE]


def _record(
    work: Work,
    dice: np.random.Generator,
    sequence: int,
    at: int,
    context: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int64],
) -> Record:
    plain = Record(sequence, at, int32s(context).tobytes(), int32s(tokens).tobytes())
    if not work.with_rows or not len(context):
        return plain
    places = np.arange(len(context) - 1, len(context) + len(tokens) - 1)
    rows = dice.integers(0, work.vocab_size, (len(places), ROW_WIDTH))
    rows[:, 0] = tokens
    packed = np.sort(dice.integers(0, 160, rows.shape), axis=1).astype(np.uint8)
    return msgspec.structs.replace(
        plain,
        row_at=int32s(places).tobytes(),
        row_tokens=int32s(rows.reshape(-1)).tobytes(),
        row_logprobs=packed.tobytes(),
    )
