"""Every limit and default of the sidecar, written once."""

from dataclasses import dataclass, field
from pathlib import Path

from retrieval_draft.drafting.names import DEFAULT_METHOD
from retrieval_draft.store.blocks import CACHE_BYTES_MAX, REDIS_BYTES_MAX
from retrieval_draft.store.journal_rules import JournalRules

DENSE_OFF, DENSE_TOKENS, DENSE_HIDDEN = "off", "tokens", "hidden"
DENSE = (DENSE_OFF, DENSE_TOKENS, DENSE_HIDDEN)
MESSAGE_BYTES_MAX = 64 << 20
"""Of one gRPC message: a batch that opens again after a restart is megabytes."""
HIDDEN_WIDTH_MAX = 16_384
"""Of the hidden states that a worker may send."""
OBSERVATION_WIDTH = 10
"""Top-k asked of engines: STAND's ten; Token Recycling keeps eight of them."""
BATCH_SEQUENCES_MAX = 1024
"""Of one step, unless a server says otherwise."""
POSITION_MAX = (1 << 31) - 1
"""Of a token in its sequence."""
STEP_MS_MAX = 3.0
"""A client's deadline of one step, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Config:
    """What an Engine is built with; names end in their unit and `_max` is inclusive."""

    method: str = DEFAULT_METHOD
    stand_tree: Path | None = None
    """The static tree that `stand` fills, as `tree optimise` writes it; None = the one that ships."""
    nodes_max: int = 32
    """Drafted per sequence where the request does not say."""
    nodes_hard_max: int = 1024
    """What a request may ask for, per sequence."""
    depth_max: int = 64
    batch_sequences_max: int = BATCH_SEQUENCES_MAX
    context_tokens_max: int = 131_072
    """A longer context keeps its tail. A power of two."""
    context_bytes_max: int = 1 << 30
    """All open sequences; beyond it the tenant that holds most gives up those idle longest: an equal
    share is safe from others. Their engine is asked to resync."""
    clients_max: int = 4096
    tenant_clients_max: int = 1024
    """Of these, one tenant's."""
    tenant_calls_max: int = 64
    """At once, streams included, where there are tenants: half of the threads that serve."""
    watchers_max: int = 32
    """Of figures, at once: by gRPC, where each holds a thread, and as many pages of the dashboard."""
    tenant_watchers_max: int = 16
    """Of these, one tenant's."""
    idle_seconds_max: float = 600.0
    """A sequence that is neither in a batch nor finished for so long is closed."""
    learned_bytes_max: int = 64 << 20
    """Per namespace, where it does not say itself."""
    learned_bytes_hard_max: int = 16 << 30
    """What a namespace may say."""
    namespaces_max: int = 1024
    tenant_namespaces_max: int = 256
    """Of these, one tenant's."""
    tenant_learned_bytes_max: int = 32 << 30
    """What all namespaces of one tenant may say together."""
    journal: JournalRules = field(default_factory=JournalRules)
    """How much of a namespace's journal is kept, and when snapshots are taken."""
    corpus_tokens_max: int = 1 << 36
    segment_tokens_max: int = 1 << 27
    """A larger corpus has several segments. Building one takes some 12 bytes of memory a token."""
    build_tokens_min: int = 16_000_000
    """So many tokens are built into a segment while documents are still coming."""
    scratch: Path | None = None
    """Where segments lie while they are built; None = the system's folder for temporary files."""
    blocks_redis_bytes_max: int = REDIS_BYTES_MAX
    """Of one namespace's snapshots and segments in your own Redis; without bound elsewhere."""
    cache_bytes_max: int = CACHE_BYTES_MAX
    """Of local copies of segments that lie in Redis or an object store."""
    dense: str = DENSE_OFF
    """Also draft what followed similar contexts, found by their tokens or by the model's hidden states."""
    dense_contexts_max: int = 1 << 18
    """Per namespace; 132 bytes each and an index (store/dense.py). A power of two."""
    dense_index: str = "auto"
    record_tokens: int = 64
    """A sequence's output is journalled in pieces of this length, and what is left when it ends."""
    record_rows: int = 32
    """Predictions of the target are journalled as soon as there are so many."""
    sample_tokens: int = 1 << 17
    """Of a namespace's newest finished sequences, prompts included, kept in memory for `advise`; 0 = none."""
    samples_tokens_max: int = 1 << 24
    """Of all namespaces together, 4 bytes each: beyond it the oldest make way, whosever they are."""
    vocab_size_max: int = 1 << 20
    id_characters_max: int = 256
