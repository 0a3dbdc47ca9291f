"""The figures in Prometheus' text format, of one tenant: nobody sees another's.

acceptance rate        retrieval_draft_accepted_total / retrieval_draft_drafted_total
mean accepted length   1 + retrieval_draft_accepted_total / retrieval_draft_drafted_steps_total
tokens per step        retrieval_draft_tokens_total / retrieval_draft_steps_total
"""

import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from retrieval_draft import __version__
from retrieval_draft.engine import Engine
from retrieval_draft.stats import stats_of
from retrieval_draft.tenants import LOCAL_TENANT
from retrieval_draft.v1 import store_pb2 as pb
from retrieval_draft.web.total import total

PREFIX = "retrieval_draft_"
NAMESPACES_MAX = 100
"""Those with most steps; all others together are namespace "_other", which no namespace is called."""
OTHERS = "_other"
COUNTERS = {
    "steps": "Steps that gained tokens.",
    "tokens": "Tokens gained, bonus tokens included.",
    "drafted_steps": "Steps that verified a tree of ours.",
    "drafted": "Nodes of verified trees.",
    "accepted": "Nodes that verification kept.",
    "expected": "Summed path probabilities of verified trees: should equal the accepted nodes.",
    "resyncs": "Sequences that had to be sent anew.",
    "rejected": "Sequences refused for what was sent.",
    "evicted_sequences": "Sequences that gave up their memory to others.",
    "ignored_feedback": "Verdicts about trees that were not held any more.",
    "journal_records": "Records that this replica wrote.",
    "dropped_records": "Records lost while the store was away.",
    "gaps": "Times that journal entries were gone before they were read.",
    "corrupt_records": "Journal entries that were damaged.",
}
GAUGES = {
    "sequences": "Open sequences.",
    "context_bytes": "Memory of open sequences.",
    "learned_bytes": "Memory of what was learned.",
    "learned_tokens": "Tokens learned from.",
    "corpus_bytes": "Memory and files of what was warmed.",
    "lag_records": "Records written and not yet applied here.",
    "snapshot_unix_seconds": "When the newest snapshot was taken; 0 = none.",
}
ROWS = {
    "tiers": "tier",
    "sources": "source",
    "methods": "method",
    "depths": "depth",
    "match_lengths": "match_length",
    "sizes": "size",
    "tenths": "tenth",
}
COLUMNS = {
    "steps": "Verified steps in which it drafted",
    "hits": "Of these, steps in which a node of it was kept",
    "drafted": "Nodes of verified trees",
    "accepted": "Nodes that verification kept",
    "expected": "Summed path probabilities",
}

LE_US = tuple(float(1 << power) for power in range(3, 21))
"""Bounds of the histograms, 8 us to 1 s: always all of them, or sums over namespaces would not ascend. What
was timed has these bounds, and some between them."""


class Sample(NamedTuple):
    """One line: labels are pairs of name and value."""

    labels: tuple[tuple[str, str], ...]
    value: float


def text(engine: Engine, tenant: str) -> bytes:
    """All metrics of the tenant. Costs milliseconds a namespace."""
    stats = stats_of(engine, tenant)
    # Whose they are is said to nobody who does not know it; the operator's own need no label.
    whose = () if tenant == LOCAL_TENANT else (("tenant", hashed(tenant)),)
    lines = _family("info", "gauge", "Which sidecar this is.", [_info(stats)])
    started = time.time() - stats.uptime_seconds
    lines += _family("start_unix_seconds", "gauge", "When it started.", [Sample((), started)])
    kept = [((*whose, ("namespace", one.namespace)), one) for one in bounded(stats.namespaces)]
    for names, kind, end in ((COUNTERS, "counter", "_total"), (GAUGES, "gauge", "")):
        for name, said in names.items():
            samples = [Sample(labels, getattr(one, name)) for labels, one in kept]
            lines += _family(name + end, kind, said, samples)
    samples = [Sample(labels, float(one.connected)) for labels, one in kept]
    lines += _family("connected", "gauge", "1 while the store answers.", samples)
    samples = [Sample(labels, len(one.problems)) for labels, one in kept]
    lines += _family("problems", "gauge", "Things that are not as they should be.", samples)
    for field, label in ROWS.items():
        for column, said in COLUMNS.items():
            samples = [
                Sample((*labels, (label, row.name)), getattr(row, column))
                for labels, one in kept
                for row in getattr(one, field)
            ]
            lines += _family(f"{label}_{column}_total", "counter", f"{said}, by {label}.", samples)
    lines += _times(kept)
    return "".join(f"{line}\n" for line in lines).encode()


def hashed(tenant: str) -> str:
    """What stands for a tenant in a label."""
    return blake2b(tenant.encode(), digest_size=4).hexdigest()


def bounded(namespaces: Iterable[pb.NamespaceStats]) -> list[pb.NamespaceStats]:
    """At most NAMESPACES_MAX of them, and the sum of the rest."""
    ordered = sorted(namespaces, key=lambda one: (-one.steps, one.namespace))
    shown, rest = ordered[:NAMESPACES_MAX], ordered[NAMESPACES_MAX:]
    if rest:
        others = total(rest)
        others.namespace = OTHERS
        shown.append(others)
    return shown


def _info(stats: pb.Stats) -> Sample:
    return Sample((("version", __version__), ("replica", stats.replica_id)), 1)


def _times(kept: list[tuple[tuple[tuple[str, str], ...], pb.NamespaceStats]]) -> list[str]:
    name = f"{PREFIX}stage_seconds"
    lines = [f"# HELP {name} What the stages of a step took.", f"# TYPE {name} histogram"]
    for labels, one in kept:
        for timing in one.timings:
            mine = (*labels, ("stage", timing.stage))
            timed = list(zip(timing.bounds_us, timing.counts, strict=True))
            for le_us in LE_US:
                below = sum(count for bound_us, count in timed if bound_us <= le_us)
                lines.append(_line(f"{name}_bucket", (*mine, ("le", f"{le_us / 1e6:.9g}")), below))
            lines.append(_line(f"{name}_bucket", (*mine, ("le", "+Inf")), timing.count))
            lines.append(_line(f"{name}_sum", mine, timing.sum_us / 1e6))
            lines.append(_line(f"{name}_count", mine, timing.count))
    return lines


def _family(name: str, kind: str, said: str, samples: Iterable[Sample]) -> list[str]:
    whole = PREFIX + name
    return [
        f"# HELP {whole} {said}",
        f"# TYPE {whole} {kind}",
        *(_line(whole, sample.labels, sample.value) for sample in samples),
    ]


def _line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    named = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels)
    return f"{name}{{{named}}} {value:.17g}" if named else f"{name} {value:.17g}"


def _escaped(said: str) -> str:
    return said.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
