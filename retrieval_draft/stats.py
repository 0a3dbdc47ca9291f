"""An engine's figures and the fleet's as the wire's Stats, for both transports."""

import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress

from retrieval_draft.engine import Engine
from retrieval_draft.errors import NotFound, Unreachable
from retrieval_draft.metrics import EXPECTED, SUMS, THOUSANDTHS, Hits, hits_of
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.rates import set_quantiles
from retrieval_draft.sequence import Sequence
from retrieval_draft.store.counts import FleetCounts
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.timing import Timing, timings_of
from retrieval_draft.v1 import store_pb2 as pb

ROWS = {
    "methods": "method",
    "tiers": "tier",
    "sources": "source",
    "depths": "depth",
    "match_lengths": "match",
    "sizes": "size",
    "tenths": "tenth",
}
"""The wire's fields, and the kinds of rows that they hold."""
SHOWN = tuple(name for name in SUMS if name in pb.NamespaceStats.DESCRIPTOR.fields_by_name)
"""All counts are stored for the fleet; these have a field of the wire."""


def stats_of(engine: Engine, tenant: str, namespace: str = "", *, digest: bool = False) -> pb.Stats:
    """Of one namespace, or of all of the tenant's, in this replica. Raises NotFound for an unknown one."""
    states = _states(engine, tenant, namespace)
    mine: dict[NamespaceState, list[Sequence]] = {state: [] for state in states}
    for sequence in engine.clients.open_sequences():
        if sequence.state in mine:
            mine[sequence.state].append(sequence)
    return pb.Stats(
        unix_seconds=time.time(),
        replica_id=engine.replica,
        uptime_seconds=time.monotonic() - engine.began,
        namespaces=[_namespace_stats(engine, state, mine[state], digest) for state in states],
    )


def corpora_of(state: NamespaceState) -> list[pb.Corpus]:
    """The namespace's corpora, by name."""
    return [
        pb.Corpus(
            corpus=name,
            documents=tier.documents,
            tokens=tier.token_count,
            bytes=tier.nbytes,
            segments=len(tier.segments),
        )
        for name, tier in sorted(state.corpus_tiers().items())
    ]


def fleet_stats_of(engine: Engine, tenant: str, namespace: str = "") -> pb.Stats:
    """What all replicas counted. Reads the store. Raises NotFound, or Unreachable and its like."""
    stats = pb.Stats(
        unix_seconds=time.time(),
        replica_id=engine.replica,
        uptime_seconds=time.monotonic() - engine.began,
    )
    for state in _states(engine, tenant, namespace):
        # Another replica may have deleted it a moment ago; that matters to whom asked for it by name.
        with nullcontext() if namespace else suppress(NotFound):
            try:
                fleet = engine.stores.backend.counts(state.key)
            except Unreachable as error:
                raise Unreachable(
                    f"the fleet's figures lie in the store, which is away ({error}); "
                    "those of one sidecar need no store: ask without --fleet"
                ) from error
            stats.namespaces.append(_fleet_namespace_stats(state.key, fleet))
    return stats


def _states(engine: Engine, tenant: str, namespace: str) -> list[NamespaceState]:
    if namespace:
        return [engine.stores.state(tenant, namespace)]
    return engine.stores.states(tenant)


def _namespace_stats(
    engine: Engine, state: NamespaceState, mine: list[Sequence], with_digest: bool
) -> pb.NamespaceStats:
    counters = state.counters
    journal = engine.stores.backend.figures(state.key)
    position, digest = state.digest() if with_digest else (state.position, "")
    stats = _counted(state.key, counters.counts())
    stats.MergeFrom(
        pb.NamespaceStats(
            sequences=len(mine),
            context_bytes=sum(sequence.nbytes for sequence in mine),
            learned_bytes=state.learned.nbytes,
            learned_tokens=state.learned.tokens_learned,
            corpus_bytes=sum(tier.nbytes for tier in state.corpus_tiers().values()),
            corpora=corpora_of(state),
            draft_us_p50=counters.timings.step_us_quantile(0.5),
            draft_us_p99=counters.timings.step_us_quantile(0.99),
            lag_records=journal.lag_records,
            journal_records=journal.written,
            dropped_records=journal.dropped,
            journal_position=position,
            learned_digest=digest,
            gaps=journal.gaps,
            corrupt_records=journal.corrupt,
            snapshot_generation=journal.generation,
            snapshot_unix_seconds=journal.saved_unix_seconds,
            problems=journal.problems,
            connected=journal.connected,
        )
    )
    return stats


def _fleet_namespace_stats(key: NamespaceKey, fleet: FleetCounts) -> pb.NamespaceStats:
    stats = _counted(key, fleet.counts)
    stats.connected = True  # it has just been read
    for name, beat in fleet.replicas.items():
        stats.replicas.add(
            replica_id=name,
            unix_seconds=beat.unix_seconds,
            version=beat.version,
            journal_records=beat.written,
            dropped_records=beat.dropped,
            lag_records=beat.lag_records,
        )
    for field in ("journal_records", "dropped_records", "lag_records"):
        setattr(stats, field, sum(getattr(one, field) for one in stats.replicas))
    return stats


def _counted(key: NamespaceKey, counts: Mapping[str, int]) -> pb.NamespaceStats:
    """What is counted, of one replica or of the fleet; counts of unknown names are left out."""
    stats = pb.NamespaceStats(
        namespace=key.namespace,
        expected=counts.get(EXPECTED, 0) / THOUSANDTHS,
        timings=map(_timing, timings_of(counts)),
    )
    for name, kind in ROWS.items():
        getattr(stats, name).extend(map(_hits, hits_of(counts, kind)))
    for name in SHOWN:
        setattr(stats, name, counts.get(name, 0))
    return stats


def _hits(hits: Hits) -> pb.Hits:
    return pb.Hits(
        name=hits.name,
        steps=hits.steps,
        hits=hits.hits,
        drafted=hits.drafted,
        accepted=hits.accepted,
        expected=hits.expected,
    )


def _timing(timing: Timing) -> pb.Timing:
    made = pb.Timing(
        stage=timing.stage,
        count=timing.count,
        sum_us=timing.sum_us,
        bounds_us=[bound for bound, _ in timing.buckets],
        counts=[count for _, count in timing.buckets],
    )
    set_quantiles(made)
    return made
