"""What a corpus costs: building, disk, start, memory, and drafts with and without it."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_draft.drafting.rest import SUFFIX_MAX, SUFFIX_MIN, Rest
from retrieval_draft.drafting.sight import Limits, Sight
from retrieval_draft.replay.corpus_start import Started, started
from retrieval_draft.replay.corpus_stream import CorpusStream
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.step import DraftOptions
from retrieval_draft.store.corpus import CorpusTier, match
from retrieval_draft.store.records import document_digest
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.segment import Segment
from retrieval_draft.store.segment_build import SegmentBuilder
from retrieval_draft.tree import Int32Array

DOCUMENT_TOKENS = 1000
NODES = 32
DRAFTS, DRAFTS_BEFORE = 4000, 1000
"""Timed are those after the first thousand."""
PROMPT_TOKENS, OUTPUT_TOKENS, STEP_TOKENS = 500, 500, 2
QUERIES = 1000
BUCKETS = 256
CORPUS = "bench"


@dataclass(frozen=True, slots=True)
class Built:
    """One segment: time and memory of the builder alone, the tokens that it was given included."""

    tokens: int
    distinct_tokens: int
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    tokens_per_cpu_second: float
    """The same on a machine that does nothing else."""
    peak_bytes_per_token: float
    disk_bytes_per_token: float
    open_ms: float


@dataclass(frozen=True, slots=True)
class Drafts:
    """Engine steps of one sequence, called from Python; both arms in turns, over the same text."""

    nodes_max: int
    us_p50: float
    us_p99: float
    without_us_p50: float
    without_us_p99: float
    p50_ratio: float
    cpu_us_p50: float
    cpu_us_p99: float
    without_cpu_us_p50: float
    without_cpu_us_p99: float
    """Of the calling thread: what other processes do is not in it."""
    search_us_p50: float
    """Of it, finding the places and copying what follows."""


@dataclass(frozen=True, slots=True)
class Queries:
    """`rest` against one binary search per order, 16 down to 2, in plain numpy over the same arrays."""

    queries: int
    found: int
    same_occurrences: int
    rest_us_mean: float
    """The whole draft of 64 nodes."""
    search_us_mean: float
    """Of it, the search."""
    numpy_search_us_mean: float
    search_ratio: float


@dataclass(frozen=True, slots=True)
class CorpusBench:
    """The whole benchmark; field by field the JSON document."""

    vocab_size: int
    built: Built
    start: Started | None
    drafts: Drafts
    queries: Queries


def bench(
    tokens: int,
    vocab_size: int,
    folder: Path,
    has_sidecar: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> CorpusBench:
    """Build a segment of so many generated tokens in `folder`, and measure; `advance` four times."""
    stream = CorpusStream(tokens, vocab_size)
    path = folder / "segment"
    built = build(stream, tokens, vocab_size, path)
    advance()
    start = started(path, vocab_size, folder) if has_sidecar else None
    advance()
    segment = Segment.open(path)
    gc.collect()
    drafts = drafted(segment, stream, vocab_size)
    advance()
    queries = asked(segment, stream)
    advance()
    return CorpusBench(vocab_size, built, start, drafts, queries)


def build(stream: CorpusStream, tokens: int, vocab_size: int, path: Path) -> Built:
    """Build the segment; generating the text is not timed."""
    count = -(-tokens // DOCUMENT_TOKENS)
    gc.collect()
    before = reset_peak()
    builder = SegmentBuilder(vocab_size, count * (DOCUMENT_TOKENS + 1))
    for number, document in enumerate(stream.documents(tokens, DOCUMENT_TOKENS, 0)):
        builder.add(f"document-{number}", document_digest(document.tobytes()), document)
    began, cpu = time.perf_counter(), time.thread_time()
    builder.write(path)
    seconds, cpu = time.perf_counter() - began, time.thread_time() - cpu
    peak = status_bytes("VmHWM") - before
    began = time.perf_counter()
    segment = Segment.open(path)
    opened = time.perf_counter() - began
    n = segment.token_count
    distinct = len(segment.index.vocabulary)
    segment.close()
    return Built(
        n, distinct, seconds, cpu, n / seconds, n / cpu, peak / n, segment.nbytes / n, 1e3 * opened
    )


def drafted(segment: Segment, stream: CorpusStream, vocab_size: int) -> Drafts:
    """Drafts of `mix` over new text from the same phrases."""
    file = RecordedFile("bench", vocab_size, [])
    options = DraftOptions(nodes_max=NODES)
    arms = [EngineDrafter(file, Setting(options)) for _ in range(2)]
    times: list[list[float]] = [[], []]
    worked: list[list[float]] = [[], []]
    length = PROMPT_TOKENS + OUTPUT_TOKENS
    texts = stream.documents(DRAFTS * STEP_TOKENS // OUTPUT_TOKENS * length, length, 1)
    try:
        for arm in arms:
            arm.__enter__()
        arms[0].state.show(CORPUS, CorpusTier((segment,)))
        gc.disable()
        for text in texts:
            for arm in arms:
                arm.open(text[:PROMPT_TOKENS], None, 0.0)
            for at in range(PROMPT_TOKENS, length, STEP_TOKENS):
                for arm, own, cpu in zip(arms, times, worked, strict=True):
                    began = time.thread_time()
                    arm.draft()
                    cpu.append(time.thread_time() - began)
                    own.append(arm.seconds)
                    arm.commit(text[at : at + STEP_TOKENS], -1, None)
            for arm in arms:
                arm.close()
    finally:
        gc.enable()
        for arm in arms:
            arm.__exit__()
    us, without_us = (quantiles(own) for own in times)
    spent, without_spent = (quantiles(own) for own in worked)
    return Drafts(
        nodes_max=NODES,
        us_p50=us[0],
        us_p99=us[1],
        without_us_p50=without_us[0],
        without_us_p99=without_us[1],
        p50_ratio=us[0] / without_us[0],
        cpu_us_p50=spent[0],
        cpu_us_p99=spent[1],
        without_cpu_us_p50=without_spent[0],
        without_cpu_us_p99=without_spent[1],
        search_us_p50=search_us(segment, stream),
    )


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile of the later drafts, in microseconds."""
    p50, p99 = np.quantile(seconds[DRAFTS_BEFORE:], (0.5, 0.99)).tolist()
    return 1e6 * p50, 1e6 * p99


def search_us(segment: Segment, stream: CorpusStream) -> float:
    """The median time of a step's look into the corpus, alone."""
    times = []
    for text in stream.documents(4 * 1000, 1000, 2):
        ring = TokenRing(1 << 11, BUCKETS)
        whole = Sight(ring, TokenRing(64, BUCKETS), Recycling(2), [segment])
        for at in range(0, len(text), STEP_TOKENS):
            ring.extend(text[at : at + STEP_TOKENS])
            seen = Sight(ring, whole.learned, whole.recycling, [segment], root=whole.root)
            began = time.perf_counter()
            places = seen.corpus_places
            times.append(time.perf_counter() - began)
            assert len(places) >= 0
    return float(1e6 * np.median(times))


def asked(segment: Segment, stream: CorpusStream) -> Queries:
    """`rest` and the plain search, one after the other for each query."""
    learned, recycling = TokenRing(64, BUCKETS), Recycling(2)
    code_of = {token: code for code, token in enumerate(segment.index.vocabulary.tolist(), 1)}
    limits = Limits(nodes_max=64)
    spent = np.zeros(3)
    found = same = count = 0
    for text in stream.documents(QUERIES * 40, 40, 3):
        query = text[: SUFFIX_MAX + 4]
        ring = TokenRing(64, BUCKETS)
        ring.extend(query)
        seen = Sight(ring, learned, recycling, [segment])
        assert len(seen.query)
        began = time.perf_counter()
        Rest().draft(seen, limits)
        drawn = time.perf_counter()
        ours = match(segment, seen.query, SUFFIX_MIN, SUFFIX_MAX)
        searched = time.perf_counter()
        length, low, high = plain_search(segment, code_of, seen.query)
        plain = time.perf_counter()
        spent += (drawn - began, searched - drawn, plain - searched)
        count += 1
        found += ours.length > 0
        same += (ours.length, ours.occurrences) == (length, high - low)
    rest, search, numpy = (1e6 * spent / count).tolist()
    return Queries(count, found, same, rest, search, numpy, search / numpy)


def plain_search(
    segment: Segment, code_of: dict[int, int], query: Int32Array
) -> tuple[int, int, int]:
    """Longest known end of the query, and its ranks: a binary search per order, as plain numpy does it."""
    codes, order = segment.index.codes, segment.index.order
    wanted = [code_of.get(token, -1) for token in query.tolist()]
    for length in range(min(len(query), SUFFIX_MAX), SUFFIX_MIN - 1, -1):
        key = wanted[len(wanted) - length :]
        bounds = []
        for above in (False, True):
            low, high = 0, len(order)
            while low < high:
                middle = (low + high) // 2
                at = int(order[middle])
                text = codes[at : at + length].tolist()
                if text < key or (above and text == key):
                    low = middle + 1
                else:
                    high = middle
            bounds.append(low)
        if bounds[0] < bounds[1]:
            return length, bounds[0], bounds[1]
    return 0, 0, 0


def status_bytes(field: str) -> int:
    """A figure of /proc/self/status: VmRSS, VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    """Let VmHWM begin anew at the present resident memory, which is returned (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")
