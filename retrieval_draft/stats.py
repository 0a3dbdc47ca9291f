"""An engine's figures as the wire's Stats, for both transports."""

import time

from retrieval_draft.engine import Engine
from retrieval_draft.metrics import Hits
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.v1 import store_pb2 as pb


def stats_of(engine: Engine, tenant: str, namespace: str = "") -> pb.Stats:
    """Of one namespace, or of all of the tenant's. Raises NotFound for an unknown one."""
    states = engine.stores.states(tenant)
    if namespace:
        states = [engine.stores.state(tenant, namespace)]
    return pb.Stats(
        unix_seconds=time.time(),
        replica_id=engine.replica,
        uptime_seconds=time.monotonic() - engine.began,
        namespaces=[_namespace_stats(engine, state) for state in states],
    )


def corpora_of(state: NamespaceState) -> list[pb.Corpus]:
    """The namespace's corpora, by name."""
    return [
        pb.Corpus(
            corpus=name,
            documents=tier.documents,
            tokens=tier.token_count,
            bytes=tier.nbytes,
            segments=1,
        )
        for name, tier in sorted(state.corpus_sizes().items())
    ]


def _namespace_stats(engine: Engine, state: NamespaceState) -> pb.NamespaceStats:
    counters = state.counters
    journal = engine.stores.backend.figures(state.key)
    mine = [s for s in engine.clients.open_sequences() if s.state is state]
    return pb.NamespaceStats(
        namespace=state.spec.namespace,
        steps=counters.steps,
        tokens=counters.tokens,
        drafted_steps=counters.drafted_steps,
        drafted=counters.drafted,
        accepted=counters.accepted,
        expected=counters.expected,
        methods=map(_hits, counters.methods()),
        tiers=map(_hits, counters.tiers()),
        sources=map(_hits, counters.sources()),
        depths=map(_hits, counters.depths()),
        sequences=len(mine),
        context_bytes=sum(sequence.nbytes for sequence in mine),
        learned_bytes=state.learned.nbytes,
        learned_tokens=state.learned.tokens_learned,
        corpus_bytes=sum(tier.nbytes for tier in state.corpus_sizes().values()),
        corpora=corpora_of(state),
        draft_us_p50=counters.draft_us_quantile(0.5),
        draft_us_p99=counters.draft_us_quantile(0.99),
        resyncs=counters.resyncs,
        rejected=counters.rejected,
        evicted_sequences=counters.evicted_sequences,
        lag_records=journal.lag_records,
        journal_records=journal.written,
        dropped_records=journal.dropped,
    )


def _hits(hits: Hits) -> pb.Hits:
    return pb.Hits(
        name=hits.name,
        steps=hits.steps,
        hits=hits.hits,
        drafted=hits.drafted,
        accepted=hits.accepted,
    )
