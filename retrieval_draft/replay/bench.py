"""Ours beside every peer that is installed: the same sequences, the same run, one process and thread."""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from retrieval_draft.replay.backend import ReplayBackend
from retrieval_draft.replay.charts import geomean
from retrieval_draft.replay.direct import DirectDrafter
from retrieval_draft.replay.drafter import Drafter, EngineDrafter, Setting
from retrieval_draft.replay.figures import Figures, figures_of
from retrieval_draft.replay.peers import (
    SUFFIX_SETTINGS,
    LookupPeer,
    SuffixPeer,
    new_suffix_cache,
)
from retrieval_draft.replay.play import play
from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.step import DraftOptions, TreeShape
from retrieval_draft.store.records import encode_batch
from retrieval_draft.tree import int32s

LONG_CONTEXT_TOKENS = 32_768
LONG_OUTPUT_TOKENS = 2048
LONG_NODES = 64
DIRECT_METHOD = "mix"


@dataclass(frozen=True, slots=True)
class Side:
    """One drafter over one file at one budget. `us_*`: draft and learn per step, called from Python."""

    mat: float
    nodes: float
    us_mean: float
    us_p50: float
    us_p99: float
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A file at a budget; ratios are over SuffixDecoding, None where it is not installed."""

    file: str
    nodes_max: int
    ours: Side
    lookup: Side
    suffix: Side | None
    expected_over_kept: float | None
    mat_ratio: float | None
    us_ratio: float | None
    direct: Side | None
    """mix without an engine around it: what is timed against SuffixDecoding, a library of that kind."""
    direct_us_ratio: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All files at one budget: MAT ratios over SuffixDecoding, and the ratio of the mean times."""

    nodes_max: int
    files: int
    mat_ratio: float
    mat_ratio_min: float
    us_ratio: float
    """A whole engine step, with its checks, counters and journal."""
    direct_us_ratio: float | None
    """Drafting and learning alone."""
    expected_gap_max: float


@dataclass(frozen=True, slots=True)
class Long:
    """One sequence of a long context: time per step, and what it holds in memory."""

    context_tokens: int
    nodes_max: int
    is_repeated: bool
    """The files hold fewer tokens: the context repeats them."""
    us_p50: float
    us_p99: float
    """Drafting and learning; `answer_us_*` end when the tree is there."""
    answer_us_p50: float
    answer_us_p99: float
    suffix_us_p50: float | None
    suffix_us_p99: float | None
    sequence_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """After the last file at the last budget: the learned tier, and what its journal took."""

    learned_tokens: int
    learned_bytes: int
    journal_bytes_per_token: float


@dataclass(slots=True)
class Bench:
    """The whole benchmark; field by field the JSON document."""

    method: str
    shape: str
    has_suffix: bool
    rows: list[Row] = field(default_factory=list)
    summary: list[Summary] = field(default_factory=list)
    long: Long | None = None
    memory: Memory | None = None


def bench(
    files: Sequence[RecordedFile],
    options: DraftOptions,
    nodes: Sequence[int],
    advance: Callable[[], None] = lambda: None,
) -> Bench:
    """Compare at every budget; `advance` is called after each file and budget, and after the long one."""
    with _garbage_left():
        return _bench(files, options, nodes, advance)


@contextmanager
def _garbage_left() -> Iterator[None]:
    """The trace of a replay grows without end: collecting garbage in it would be timed with the drafters."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bench(
    files: Sequence[RecordedFile],
    options: DraftOptions,
    nodes: Sequence[int],
    advance: Callable[[], None],
) -> Bench:
    has_suffix = new_suffix_cache() is not None
    done = Bench(options.method, options.shape.name.lower(), has_suffix)
    for nodes_max in nodes:
        for file in files:
            row, memory = _row(file, replace(options, nodes_max=nodes_max))
            done.rows.append(row)
            done.memory = memory
            gc.collect()
            advance()
        if has_suffix:
            done.summary.append(_summary([r for r in done.rows if r.nodes_max == nodes_max]))
    done.long = long_context(files, replace(options, nodes_max=LONG_NODES))
    advance()
    return done


def _row(file: RecordedFile, options: DraftOptions) -> tuple[Row, Memory]:
    # The engine is timed as a Python caller sees it: a StepRequest in, a tree out, learning included.
    backend = ReplayBackend(is_recording=True)
    with EngineDrafter(file, Setting(options), backend) as drafter:
        figures = figures_of(play(drafter, file.sequences))
        memory = _memory(drafter, backend)
    lookup = _played(LookupPeer(options.nodes_max), file.sequences)
    suffix = _best_suffix(file.sequences, options)
    ours = _side(figures)
    direct = None
    if options.method == DIRECT_METHOD:
        direct = _side(_played(DirectDrafter(file, options), file.sequences))
    return (
        Row(
            file.name,
            options.nodes_max,
            ours,
            _side(lookup),
            suffix,
            figures.expected / figures.kept if figures.kept else None,
            ours.mat / suffix.mat if suffix else None,
            ours.us_mean / suffix.us_mean if suffix else None,
            direct,
            direct.us_mean / suffix.us_mean if direct and suffix else None,
        ),
        memory,
    )


def _best_suffix(sequences: Sequence[Recorded], options: DraftOptions) -> Side | None:
    sides = []
    for setting in SUFFIX_SETTINGS:
        cache = new_suffix_cache()
        if cache is None:
            return None
        is_tree = options.shape != TreeShape.CHAIN
        peer = SuffixPeer(cache, setting, options.nodes_max, is_tree=is_tree)
        sides.append(_side(_played(peer, sequences), str(setting)))
    return max(sides, key=lambda side: side.mat)


def _played(drafter: Drafter, sequences: Sequence[Recorded]) -> Figures:
    return figures_of(play(drafter, sequences))


def _side(figures: Figures, setting: str = "") -> Side:
    return Side(
        figures.mat, figures.nodes, figures.us_mean, figures.us_p50, figures.us_p99, setting
    )


def _summary(rows: Sequence[Row]) -> Summary:
    ratios = [row.mat_ratio for row in rows if row.mat_ratio is not None]
    ours = sum(row.ours.us_mean for row in rows)
    theirs = sum(row.suffix.us_mean for row in rows if row.suffix is not None)
    direct = [row.direct.us_mean for row in rows if row.direct is not None]
    gaps = [abs(row.expected_over_kept - 1) for row in rows if row.expected_over_kept is not None]
    return Summary(
        rows[0].nodes_max,
        len(rows),
        geomean(ratios),
        min(ratios),
        ours / theirs,
        sum(direct) / theirs if direct else None,
        max(gaps, default=math.nan),
    )


def _memory(drafter: EngineDrafter, backend: ReplayBackend) -> Memory:
    learned = drafter.state.learned
    journal = sum(len(encode_batch(batch)) for _, batch in backend.sent)
    tokens = learned.tokens_learned
    return Memory(tokens, learned.nbytes, journal / max(1, tokens))


def long_context(files: Sequence[RecordedFile], options: DraftOptions) -> Long:
    """Time and memory of a sequence whose context is long: the files' texts, one behind the other."""
    texts = [text for file in files for s in file.sequences for text in (s.prompt, s.output)]
    wanted = LONG_CONTEXT_TOKENS + LONG_OUTPUT_TOKENS
    together = np.concatenate(texts)
    is_repeated = len(together) < wanted
    whole = int32s(np.resize(together, wanted))
    sequence = Recorded(whole[:LONG_CONTEXT_TOKENS], whole[LONG_CONTEXT_TOKENS:])
    vocab_size = max(file.vocab_size for file in files)
    file = RecordedFile("long", vocab_size, [sequence])
    with EngineDrafter(file, Setting(options)) as drafter:
        weighed = _Weighed(drafter)
        trace = play(weighed, [sequence])
    suffix = None
    if (cache := new_suffix_cache()) is not None:
        is_tree = options.shape != TreeShape.CHAIN
        peer = SuffixPeer(cache, SUFFIX_SETTINGS[-1], options.nodes_max, is_tree=is_tree)
        suffix = _us(play(peer, [sequence]).seconds)
    return Long(
        LONG_CONTEXT_TOKENS,
        options.nodes_max,
        is_repeated,
        *_us(trace.seconds),
        *_us(trace.answer_seconds),
        suffix[0] if suffix else None,
        suffix[1] if suffix else None,
        weighed.sequence_bytes,
    )


def _us(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 without the first step, which takes the whole context in."""
    us = np.array(seconds[1:]) * 1e6
    return float(np.quantile(us, 0.5)), float(np.quantile(us, 0.99))


class _Weighed:
    """An EngineDrafter whose open sequence is weighed before it is closed."""

    def __init__(self, drafter: EngineDrafter) -> None:
        self.sequence_bytes = 0
        self._drafter = drafter
        self.open, self.commit, self.draft = drafter.open, drafter.commit, drafter.draft

    @property
    def seconds(self) -> float:
        return self._drafter.seconds

    @property
    def answer_seconds(self) -> float:
        return self._drafter.answer_seconds

    def close(self) -> None:
        sequences = self._drafter.engine.clients.open_sequences()
        self.sequence_bytes = sum(sequence.nbytes for sequence in sequences)
        self._drafter.close()
