from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]
    DURABILITY_REDIS: _ClassVar[Durability]
    DURABILITY_FSYNC: _ClassVar[Durability]
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MEMORY: Durability
DURABILITY_REDIS: Durability
DURABILITY_FSYNC: Durability

class CreateNamespaceRequest(_message.Message):
    __slots__ = ("namespace", "vocab_size", "model", "tokenizer_fingerprint", "adapter", "revision", "learn_prompts", "end_tokens", "learned_bytes_max")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LEARN_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    END_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEARNED_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    vocab_size: int
    model: str
    tokenizer_fingerprint: str
    adapter: str
    revision: str
    learn_prompts: bool
    end_tokens: bytes
    learned_bytes_max: int
    def __init__(self, namespace: _Optional[str] = ..., vocab_size: _Optional[int] = ..., model: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., adapter: _Optional[str] = ..., revision: _Optional[str] = ..., learn_prompts: bool = ..., end_tokens: _Optional[bytes] = ..., learned_bytes_max: _Optional[int] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("namespace", "vocab_size", "model", "tokenizer_fingerprint", "adapter", "revision", "learn_prompts", "end_tokens", "learned_bytes_max")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LEARN_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    END_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEARNED_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    vocab_size: int
    model: str
    tokenizer_fingerprint: str
    adapter: str
    revision: str
    learn_prompts: bool
    end_tokens: bytes
    learned_bytes_max: int
    def __init__(self, namespace: _Optional[str] = ..., vocab_size: _Optional[int] = ..., model: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., adapter: _Optional[str] = ..., revision: _Optional[str] = ..., learn_prompts: bool = ..., end_tokens: _Optional[bytes] = ..., learned_bytes_max: _Optional[int] = ...) -> None: ...

class GetNamespaceRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class ListNamespacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNamespacesResponse(_message.Message):
    __slots__ = ("namespaces",)
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    def __init__(self, namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ...) -> None: ...

class CopyNamespaceRequest(_message.Message):
    __slots__ = ("source", "target", "decay")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: CreateNamespaceRequest
    decay: float
    def __init__(self, source: _Optional[str] = ..., target: _Optional[_Union[CreateNamespaceRequest, _Mapping]] = ..., decay: _Optional[float] = ...) -> None: ...

class DeleteNamespaceRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class DeleteNamespaceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WarmRequest(_message.Message):
    __slots__ = ("namespace", "corpus", "document_offsets", "tokens", "document_names")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_NAMES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    corpus: str
    document_offsets: bytes
    tokens: bytes
    document_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., corpus: _Optional[str] = ..., document_offsets: _Optional[bytes] = ..., tokens: _Optional[bytes] = ..., document_names: _Optional[_Iterable[str]] = ...) -> None: ...

class WarmProgress(_message.Message):
    __slots__ = ("documents", "tokens", "documents_known", "durability", "ready", "corpus_documents", "corpus_tokens")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    CORPUS_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    CORPUS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    documents: int
    tokens: int
    documents_known: int
    durability: Durability
    ready: bool
    corpus_documents: int
    corpus_tokens: int
    def __init__(self, documents: _Optional[int] = ..., tokens: _Optional[int] = ..., documents_known: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., ready: bool = ..., corpus_documents: _Optional[int] = ..., corpus_tokens: _Optional[int] = ...) -> None: ...

class KnownDocumentsRequest(_message.Message):
    __slots__ = ("namespace", "corpus", "digests")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    corpus: str
    digests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, namespace: _Optional[str] = ..., corpus: _Optional[str] = ..., digests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class KnownDocumentsResponse(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: bytes
    def __init__(self, known: _Optional[bytes] = ...) -> None: ...

class ListCorporaRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class Corpus(_message.Message):
    __slots__ = ("corpus", "documents", "tokens", "bytes", "segments")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    documents: int
    tokens: int
    bytes: int
    segments: int
    def __init__(self, corpus: _Optional[str] = ..., documents: _Optional[int] = ..., tokens: _Optional[int] = ..., bytes: _Optional[int] = ..., segments: _Optional[int] = ...) -> None: ...

class ListCorporaResponse(_message.Message):
    __slots__ = ("corpora",)
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    corpora: _containers.RepeatedCompositeFieldContainer[Corpus]
    def __init__(self, corpora: _Optional[_Iterable[_Union[Corpus, _Mapping]]] = ...) -> None: ...

class CompactCorpusRequest(_message.Message):
    __slots__ = ("namespace", "corpus")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    corpus: str
    def __init__(self, namespace: _Optional[str] = ..., corpus: _Optional[str] = ...) -> None: ...

class CompactCorpusResponse(_message.Message):
    __slots__ = ("corpus",)
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    corpus: Corpus
    def __init__(self, corpus: _Optional[_Union[Corpus, _Mapping]] = ...) -> None: ...

class DeleteCorpusRequest(_message.Message):
    __slots__ = ("namespace", "corpus")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    corpus: str
    def __init__(self, namespace: _Optional[str] = ..., corpus: _Optional[str] = ...) -> None: ...

class DeleteCorpusResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SaveSnapshotRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("namespace", "generation", "journal_position", "bytes", "unix_seconds")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_POSITION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    generation: int
    journal_position: str
    bytes: int
    unix_seconds: float
    def __init__(self, namespace: _Optional[str] = ..., generation: _Optional[int] = ..., journal_position: _Optional[str] = ..., bytes: _Optional[int] = ..., unix_seconds: _Optional[float] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ...) -> None: ...

class VerifySnapshotsRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class SnapshotVerdict(_message.Message):
    __slots__ = ("snapshot", "problem")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    problem: str
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., problem: _Optional[str] = ...) -> None: ...

class VerifySnapshotsResponse(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[SnapshotVerdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[SnapshotVerdict, _Mapping]]] = ...) -> None: ...

class ExportNamespaceRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class ExportNamespaceResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportNamespaceRequest(_message.Message):
    __slots__ = ("namespace", "data")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    data: bytes
    def __init__(self, namespace: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("namespace", "fleet", "digest")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    fleet: bool
    digest: bool
    def __init__(self, namespace: _Optional[str] = ..., fleet: bool = ..., digest: bool = ...) -> None: ...

class WatchStatsRequest(_message.Message):
    __slots__ = ("namespace", "interval_ms", "fleet")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    interval_ms: int
    fleet: bool
    def __init__(self, namespace: _Optional[str] = ..., interval_ms: _Optional[int] = ..., fleet: bool = ...) -> None: ...

class Stats(_message.Message):
    __slots__ = ("unix_seconds", "replica_id", "uptime_seconds", "namespaces")
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    unix_seconds: float
    replica_id: str
    uptime_seconds: float
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceStats]
    def __init__(self, unix_seconds: _Optional[float] = ..., replica_id: _Optional[str] = ..., uptime_seconds: _Optional[float] = ..., namespaces: _Optional[_Iterable[_Union[NamespaceStats, _Mapping]]] = ...) -> None: ...

class Hits(_message.Message):
    __slots__ = ("name", "steps", "hits", "drafted", "accepted", "expected")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    steps: int
    hits: int
    drafted: int
    accepted: int
    expected: float
    def __init__(self, name: _Optional[str] = ..., steps: _Optional[int] = ..., hits: _Optional[int] = ..., drafted: _Optional[int] = ..., accepted: _Optional[int] = ..., expected: _Optional[float] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("stage", "count", "sum_us", "p50_us", "p99_us", "bounds_us", "counts")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SUM_US_FIELD_NUMBER: _ClassVar[int]
    P50_US_FIELD_NUMBER: _ClassVar[int]
    P99_US_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_US_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    count: int
    sum_us: int
    p50_us: float
    p99_us: float
    bounds_us: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, stage: _Optional[str] = ..., count: _Optional[int] = ..., sum_us: _Optional[int] = ..., p50_us: _Optional[float] = ..., p99_us: _Optional[float] = ..., bounds_us: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class NamespaceStats(_message.Message):
    __slots__ = ("namespace", "steps", "tokens", "drafted_steps", "drafted", "accepted", "expected", "methods", "tiers", "sources", "depths", "sequences", "context_bytes", "learned_bytes", "learned_tokens", "corpus_bytes", "corpora", "draft_us_p50", "draft_us_p99", "resyncs", "rejected", "evicted_sequences", "lag_records", "journal_records", "dropped_records", "match_lengths", "journal_position", "learned_digest", "replicas", "sizes", "tenths", "timings", "connected", "ignored_feedback", "gaps", "corrupt_records", "snapshot_generation", "snapshot_unix_seconds", "problems")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_STEPS_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    DEPTHS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEARNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEARNED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CORPUS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_P50_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_P99_FIELD_NUMBER: _ClassVar[int]
    RESYNCS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    EVICTED_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MATCH_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_POSITION_FIELD_NUMBER: _ClassVar[int]
    LEARNED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    TENTHS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_RECORDS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_GENERATION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    steps: int
    tokens: int
    drafted_steps: int
    drafted: int
    accepted: int
    expected: float
    methods: _containers.RepeatedCompositeFieldContainer[Hits]
    tiers: _containers.RepeatedCompositeFieldContainer[Hits]
    sources: _containers.RepeatedCompositeFieldContainer[Hits]
    depths: _containers.RepeatedCompositeFieldContainer[Hits]
    sequences: int
    context_bytes: int
    learned_bytes: int
    learned_tokens: int
    corpus_bytes: int
    corpora: _containers.RepeatedCompositeFieldContainer[Corpus]
    draft_us_p50: int
    draft_us_p99: int
    resyncs: int
    rejected: int
    evicted_sequences: int
    lag_records: int
    journal_records: int
    dropped_records: int
    match_lengths: _containers.RepeatedCompositeFieldContainer[Hits]
    journal_position: str
    learned_digest: str
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    sizes: _containers.RepeatedCompositeFieldContainer[Hits]
    tenths: _containers.RepeatedCompositeFieldContainer[Hits]
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    connected: bool
    ignored_feedback: int
    gaps: int
    corrupt_records: int
    snapshot_generation: int
    snapshot_unix_seconds: float
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., steps: _Optional[int] = ..., tokens: _Optional[int] = ..., drafted_steps: _Optional[int] = ..., drafted: _Optional[int] = ..., accepted: _Optional[int] = ..., expected: _Optional[float] = ..., methods: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., tiers: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., sources: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., depths: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., sequences: _Optional[int] = ..., context_bytes: _Optional[int] = ..., learned_bytes: _Optional[int] = ..., learned_tokens: _Optional[int] = ..., corpus_bytes: _Optional[int] = ..., corpora: _Optional[_Iterable[_Union[Corpus, _Mapping]]] = ..., draft_us_p50: _Optional[int] = ..., draft_us_p99: _Optional[int] = ..., resyncs: _Optional[int] = ..., rejected: _Optional[int] = ..., evicted_sequences: _Optional[int] = ..., lag_records: _Optional[int] = ..., journal_records: _Optional[int] = ..., dropped_records: _Optional[int] = ..., match_lengths: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., journal_position: _Optional[str] = ..., learned_digest: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ..., sizes: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., tenths: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ..., connected: bool = ..., ignored_feedback: _Optional[int] = ..., gaps: _Optional[int] = ..., corrupt_records: _Optional[int] = ..., snapshot_generation: _Optional[int] = ..., snapshot_unix_seconds: _Optional[float] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("replica_id", "unix_seconds", "version", "journal_records", "dropped_records", "lag_records")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    unix_seconds: float
    version: str
    journal_records: int
    dropped_records: int
    lag_records: int
    def __init__(self, replica_id: _Optional[str] = ..., unix_seconds: _Optional[float] = ..., version: _Optional[str] = ..., journal_records: _Optional[int] = ..., dropped_records: _Optional[int] = ..., lag_records: _Optional[int] = ...) -> None: ...

class AdviseRequest(_message.Message):
    __slots__ = ("namespace", "cost_nodes", "cost_milliseconds")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    COST_NODES_FIELD_NUMBER: _ClassVar[int]
    COST_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    cost_nodes: bytes
    cost_milliseconds: bytes
    def __init__(self, namespace: _Optional[str] = ..., cost_nodes: _Optional[bytes] = ..., cost_milliseconds: _Optional[bytes] = ...) -> None: ...

class Advice(_message.Message):
    __slots__ = ("kind", "text", "action", "now", "then", "unit")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    action: str
    now: float
    then: float
    unit: str
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., action: _Optional[str] = ..., now: _Optional[float] = ..., then: _Optional[float] = ..., unit: _Optional[str] = ...) -> None: ...

class AdviseResponse(_message.Message):
    __slots__ = ("replays_done", "replays", "advice", "sequences", "tokens")
    REPLAYS_DONE_FIELD_NUMBER: _ClassVar[int]
    REPLAYS_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    replays_done: int
    replays: int
    advice: _containers.RepeatedCompositeFieldContainer[Advice]
    sequences: int
    tokens: int
    def __init__(self, replays_done: _Optional[int] = ..., replays: _Optional[int] = ..., advice: _Optional[_Iterable[_Union[Advice, _Mapping]]] = ..., sequences: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...
