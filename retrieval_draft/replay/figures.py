"""What a replay came to: the figures of one run, from its trace."""

from dataclasses import dataclass

import numpy as np

from retrieval_draft.replay.agreement import LENGTHS
from retrieval_draft.replay.play import Nodes, Trace, nodes_of
from retrieval_draft.tree import SOURCES, TIERS, Int32Array

RELIABILITY_BINS = 10
DEPTHS_SHOWN = 24
"""Deeper nodes are counted, and not listed one by one."""


@dataclass(frozen=True, slots=True)
class Share:
    """Nodes of one kind: how many were drafted, how many of these accepted."""

    name: str
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Nodes whose path probability lies in one tenth: their mean of it, and the share accepted."""

    nodes: int
    probability: float
    accepted: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Steps that began where the last `length` tokens had been seen before."""

    length: int
    steps: int
    gained: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. A step gains `mat` tokens on average over all steps, the bonus token included.

    `expected` is the sum of the returned path probabilities a step and `kept` the accepted nodes: equal
    where the probabilities are right. `ece` is the mean distance of the reliability bins, weighted by
    nodes. Microseconds `us_*` cover drafting and all learning, in one thread; `answer_us_*` of these end
    when the tree is there, as a step waits for it.
    """

    steps: int
    tokens: int
    mat: float
    nodes: float
    kept: float
    expected: float
    ece: float
    us_mean: float
    us_p50: float
    us_p99: float
    answer_us_p50: float
    answer_us_p99: float
    reliability: list[Bin]
    by_tier: list[Share]
    by_source: list[Share]
    by_depth: list[Share]
    by_agreement: list[Agreement]


def figures_of(trace: Trace, agreements: Int32Array | None = None) -> Figures:
    """The figures of a trace of at least one step; `agreements` as of the file that was replayed."""
    steps, tokens = len(trace.gained), sum(trace.gained)
    us, answer_us = np.array(trace.seconds) * 1e6, np.array(trace.answer_seconds) * 1e6
    nodes = nodes_of(trace)
    bins = _reliability(nodes)
    total = max(1, sum(one.nodes for one in bins))
    return Figures(
        steps=steps,
        tokens=tokens,
        mat=tokens / steps,
        nodes=sum(trace.nodes) / steps,
        kept=sum(trace.kept) / steps,
        expected=sum(trace.expected) / steps,
        ece=sum(one.nodes * abs(one.probability - one.accepted) for one in bins) / total,
        us_mean=float(us.mean()),
        us_p50=float(np.quantile(us, 0.5)),
        us_p99=float(np.quantile(us, 0.99)),
        answer_us_p50=float(np.quantile(answer_us, 0.5)),
        answer_us_p99=float(np.quantile(answer_us, 0.99)),
        reliability=bins,
        by_tier=_by_bit(nodes, TIERS),
        by_source=_by_bit(nodes, SOURCES),
        by_depth=_by_depth(nodes),
        by_agreement=[] if agreements is None else _by_agreement(trace, agreements),
    )


def _reliability(nodes: Nodes) -> list[Bin]:
    place = np.clip((nodes.probability * RELIABILITY_BINS).astype(int), 0, RELIABILITY_BINS - 1)
    count = np.bincount(place, minlength=RELIABILITY_BINS)
    said = np.bincount(place, nodes.probability, RELIABILITY_BINS)
    kept = np.bincount(place, nodes.kept, RELIABILITY_BINS)
    rows = zip(count.tolist(), said.tolist(), kept.tolist(), strict=True)
    return [Bin(n, p / max(1, n), k / max(1, n)) for n, p, k in rows]


def _by_bit(nodes: Nodes, bits: dict[str, int]) -> list[Share]:
    shares = []
    for name, bit in bits.items():
        has = (nodes.source >> np.uint32(bit)) & np.uint32(1) == 1
        if drafted := int(has.sum()):
            shares.append(Share(name, drafted, int((has & nodes.kept).sum())))
    return shares


def _by_depth(nodes: Nodes) -> list[Share]:
    drafted = np.bincount(nodes.depth)[1 : DEPTHS_SHOWN + 1].tolist()
    accepted = np.bincount(nodes.depth, nodes.kept)[1 : DEPTHS_SHOWN + 1].tolist()
    rows = enumerate(zip(drafted, accepted, strict=True), start=1)
    return [Share(str(depth), n, int(k)) for depth, (n, k) in rows]


def _by_agreement(trace: Trace, agreements: Int32Array) -> list[Agreement]:
    length = agreements[np.array(trace.at, np.int64)]
    gained = np.array(trace.gained)
    return [
        Agreement(one, int((length == one).sum()), int(gained[length == one].sum()))
        for one in (0, *LENGTHS)
        if (length == one).any()
    ]
