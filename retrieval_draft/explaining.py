"""Explain as the wire has it: one context's tree, and what every source says of its nodes."""

from collections.abc import Mapping

import numpy as np

from retrieval_draft.columns import column
from retrieval_draft.drafting.explaining import Evidence, evidence_of
from retrieval_draft.engine import Engine
from retrieval_draft.errors import Corrupt
from retrieval_draft.store.segment import Segment
from retrieval_draft.tree import SOURCES, TIERS
from retrieval_draft.v1 import draft_pb2 as pb
from retrieval_draft.wire import decode_options, encode_trees


def explained(engine: Engine, tenant: str, message: pb.ExplainRequest) -> pb.ExplainResponse:
    """Raises what a step would for such a context; leaves no trace. O(nodes), a millisecond or ten."""
    tokens = column(message.tokens, np.int32, "tokens")
    options = decode_options(message.options)
    preview = engine.preview(tenant, message.namespace, tokens, options, tuple(message.corpora))
    named = {
        segment: name
        for name, tier in engine.stores.state(tenant, message.namespace).corpus_tiers().items()
        for segment in tier.segments
    }
    return pb.ExplainResponse(
        trees=encode_trees([preview.tree]),
        nodes=[
            pb.NodeEvidence(node=node, evidence=[_encoded(one, named) for one in found])
            for node, found in enumerate(evidence_of(preview.sight, preview.tree))
        ],
        match_length=preview.sight.root.agreement(),
        draft_us=preview.draft_us,
    )


def _encoded(one: Evidence, named: Mapping[Segment, str]) -> pb.Evidence:
    corpus, document, position = "", "", -1
    if one.segment is not None:
        corpus = named.get(one.segment, "")
        try:
            document, position = one.segment.document_at(one.position)
        except Corrupt:
            document = "(damaged)"
    return pb.Evidence(
        source=1 << TIERS[one.tier] | 1 << SOURCES[one.source],
        match_length=one.match_length,
        count=one.count,
        total=one.total,
        probability=one.probability,
        corpus=corpus,
        document=document,
        position=position,
    )
