from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TreeShape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TREE_SHAPE_UNSPECIFIED: _ClassVar[TreeShape]
    TREE_SHAPE_TREE: _ClassVar[TreeShape]
    TREE_SHAPE_CHAIN: _ClassVar[TreeShape]

class SequenceStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEQUENCE_STATUS_UNSPECIFIED: _ClassVar[SequenceStatus]
    SEQUENCE_STATUS_OK: _ClassVar[SequenceStatus]
    SEQUENCE_STATUS_RESYNC: _ClassVar[SequenceStatus]
    SEQUENCE_STATUS_REJECTED: _ClassVar[SequenceStatus]

class Learning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEARNING_UNSPECIFIED: _ClassVar[Learning]
    LEARNING_OUTPUT: _ClassVar[Learning]
    LEARNING_PROMPT_AND_OUTPUT: _ClassVar[Learning]
    LEARNING_NONE: _ClassVar[Learning]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_TIER_CONTEXT: _ClassVar[Source]
    SOURCE_TIER_LEARNED: _ClassVar[Source]
    SOURCE_TIER_CORPUS: _ClassVar[Source]
    SOURCE_MATCH: _ClassVar[Source]
    SOURCE_ORDER1: _ClassVar[Source]
    SOURCE_ORDER2: _ClassVar[Source]
    SOURCE_ORDER3: _ClassVar[Source]
    SOURCE_ORDER4: _ClassVar[Source]
    SOURCE_RECYCLING: _ClassVar[Source]
    SOURCE_STAND: _ClassVar[Source]
    SOURCE_CORPUS: _ClassVar[Source]
    SOURCE_DENSE: _ClassVar[Source]
    SOURCE_MODEL: _ClassVar[Source]
    SOURCE_ORDER0: _ClassVar[Source]
TREE_SHAPE_UNSPECIFIED: TreeShape
TREE_SHAPE_TREE: TreeShape
TREE_SHAPE_CHAIN: TreeShape
SEQUENCE_STATUS_UNSPECIFIED: SequenceStatus
SEQUENCE_STATUS_OK: SequenceStatus
SEQUENCE_STATUS_RESYNC: SequenceStatus
SEQUENCE_STATUS_REJECTED: SequenceStatus
LEARNING_UNSPECIFIED: Learning
LEARNING_OUTPUT: Learning
LEARNING_PROMPT_AND_OUTPUT: Learning
LEARNING_NONE: Learning
SOURCE_TIER_CONTEXT: Source
SOURCE_TIER_LEARNED: Source
SOURCE_TIER_CORPUS: Source
SOURCE_MATCH: Source
SOURCE_ORDER1: Source
SOURCE_ORDER2: Source
SOURCE_ORDER3: Source
SOURCE_ORDER4: Source
SOURCE_RECYCLING: Source
SOURCE_STAND: Source
SOURCE_CORPUS: Source
SOURCE_DENSE: Source
SOURCE_MODEL: Source
SOURCE_ORDER0: Source

class DraftRequest(_message.Message):
    __slots__ = ("step_id", "namespace", "options", "client_id", "sequence_ids", "base_positions", "token_offsets", "tokens", "starts", "nodes_max", "finished", "verified_steps", "accepted", "observations", "model_trees", "verified_trees")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    BASE_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    NODES_MAX_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_STEPS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_TREES_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_TREES_FIELD_NUMBER: _ClassVar[int]
    step_id: int
    namespace: str
    options: DraftOptions
    client_id: str
    sequence_ids: _containers.RepeatedScalarFieldContainer[str]
    base_positions: bytes
    token_offsets: bytes
    tokens: bytes
    starts: _containers.RepeatedCompositeFieldContainer[SequenceStart]
    nodes_max: bytes
    finished: bytes
    verified_steps: bytes
    accepted: bytes
    observations: Observations
    model_trees: Trees
    verified_trees: Trees
    def __init__(self, step_id: _Optional[int] = ..., namespace: _Optional[str] = ..., options: _Optional[_Union[DraftOptions, _Mapping]] = ..., client_id: _Optional[str] = ..., sequence_ids: _Optional[_Iterable[str]] = ..., base_positions: _Optional[bytes] = ..., token_offsets: _Optional[bytes] = ..., tokens: _Optional[bytes] = ..., starts: _Optional[_Iterable[_Union[SequenceStart, _Mapping]]] = ..., nodes_max: _Optional[bytes] = ..., finished: _Optional[bytes] = ..., verified_steps: _Optional[bytes] = ..., accepted: _Optional[bytes] = ..., observations: _Optional[_Union[Observations, _Mapping]] = ..., model_trees: _Optional[_Union[Trees, _Mapping]] = ..., verified_trees: _Optional[_Union[Trees, _Mapping]] = ...) -> None: ...

class SequenceStart(_message.Message):
    __slots__ = ("index", "prompt_length", "first_position", "learn_from", "learning", "temperature", "length_max", "end_tokens", "corpora", "namespace")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LEARN_FROM_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_MAX_FIELD_NUMBER: _ClassVar[int]
    END_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    index: int
    prompt_length: int
    first_position: int
    learn_from: int
    learning: Learning
    temperature: float
    length_max: int
    end_tokens: bytes
    corpora: _containers.RepeatedScalarFieldContainer[str]
    namespace: str
    def __init__(self, index: _Optional[int] = ..., prompt_length: _Optional[int] = ..., first_position: _Optional[int] = ..., learn_from: _Optional[int] = ..., learning: _Optional[_Union[Learning, str]] = ..., temperature: _Optional[float] = ..., length_max: _Optional[int] = ..., end_tokens: _Optional[bytes] = ..., corpora: _Optional[_Iterable[str]] = ..., namespace: _Optional[str] = ...) -> None: ...

class DraftOptions(_message.Message):
    __slots__ = ("nodes_max", "depth_max", "children_max", "shape", "method", "batch_nodes_max", "verify_cost", "draft_us_max", "seed")
    NODES_MAX_FIELD_NUMBER: _ClassVar[int]
    DEPTH_MAX_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_MAX_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BATCH_NODES_MAX_FIELD_NUMBER: _ClassVar[int]
    VERIFY_COST_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_MAX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    nodes_max: int
    depth_max: int
    children_max: int
    shape: TreeShape
    method: str
    batch_nodes_max: int
    verify_cost: VerifyCost
    draft_us_max: int
    seed: int
    def __init__(self, nodes_max: _Optional[int] = ..., depth_max: _Optional[int] = ..., children_max: _Optional[int] = ..., shape: _Optional[_Union[TreeShape, str]] = ..., method: _Optional[str] = ..., batch_nodes_max: _Optional[int] = ..., verify_cost: _Optional[_Union[VerifyCost, _Mapping]] = ..., draft_us_max: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class VerifyCost(_message.Message):
    __slots__ = ("nodes", "milliseconds")
    NODES_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    nodes: bytes
    milliseconds: bytes
    def __init__(self, nodes: _Optional[bytes] = ..., milliseconds: _Optional[bytes] = ...) -> None: ...

class Observations(_message.Message):
    __slots__ = ("width", "sequences", "at", "tokens", "logprobs", "hidden_width", "hidden")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_WIDTH_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    width: int
    sequences: bytes
    at: bytes
    tokens: bytes
    logprobs: bytes
    hidden_width: int
    hidden: bytes
    def __init__(self, width: _Optional[int] = ..., sequences: _Optional[bytes] = ..., at: _Optional[bytes] = ..., tokens: _Optional[bytes] = ..., logprobs: _Optional[bytes] = ..., hidden_width: _Optional[int] = ..., hidden: _Optional[bytes] = ...) -> None: ...

class Trees(_message.Message):
    __slots__ = ("node_offsets", "tokens", "parents", "probabilities", "sources", "proposals")
    NODE_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    node_offsets: bytes
    tokens: bytes
    parents: bytes
    probabilities: bytes
    sources: bytes
    proposals: Proposals
    def __init__(self, node_offsets: _Optional[bytes] = ..., tokens: _Optional[bytes] = ..., parents: _Optional[bytes] = ..., probabilities: _Optional[bytes] = ..., sources: _Optional[bytes] = ..., proposals: _Optional[_Union[Proposals, _Mapping]] = ...) -> None: ...

class Proposals(_message.Message):
    __slots__ = ("width", "nodes", "tokens", "probabilities")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    width: int
    nodes: bytes
    tokens: bytes
    probabilities: bytes
    def __init__(self, width: _Optional[int] = ..., nodes: _Optional[bytes] = ..., tokens: _Optional[bytes] = ..., probabilities: _Optional[bytes] = ...) -> None: ...

class DraftResponse(_message.Message):
    __slots__ = ("step_id", "statuses", "trees", "draft_us", "problems", "padding")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    TREES_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    step_id: int
    statuses: bytes
    trees: Trees
    draft_us: int
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    padding: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, step_id: _Optional[int] = ..., statuses: _Optional[bytes] = ..., trees: _Optional[_Union[Trees, _Mapping]] = ..., draft_us: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., padding: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("index", "field", "value", "limit", "reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    field: str
    value: str
    limit: str
    reason: str
    def __init__(self, index: _Optional[int] = ..., field: _Optional[str] = ..., value: _Optional[str] = ..., limit: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FinishSequencesRequest(_message.Message):
    __slots__ = ("namespace", "client_id", "sequence_ids")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    client_id: str
    sequence_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., client_id: _Optional[str] = ..., sequence_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class FinishSequencesResponse(_message.Message):
    __slots__ = ("finished",)
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    finished: int
    def __init__(self, finished: _Optional[int] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerInfo(_message.Message):
    __slots__ = ("version", "replica_id", "methods", "default_method", "features", "limits", "observation_width", "hidden_width", "store")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_METHOD_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_WIDTH_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_WIDTH_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    version: str
    replica_id: str
    methods: _containers.RepeatedScalarFieldContainer[str]
    default_method: str
    features: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    observation_width: int
    hidden_width: int
    store: str
    def __init__(self, version: _Optional[str] = ..., replica_id: _Optional[str] = ..., methods: _Optional[_Iterable[str]] = ..., default_method: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., observation_width: _Optional[int] = ..., hidden_width: _Optional[int] = ..., store: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("batch_sequences_max", "context_tokens_max", "nodes_max", "depth_max", "default_nodes_max", "message_bytes_max")
    BATCH_SEQUENCES_MAX_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    NODES_MAX_FIELD_NUMBER: _ClassVar[int]
    DEPTH_MAX_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NODES_MAX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    batch_sequences_max: int
    context_tokens_max: int
    nodes_max: int
    depth_max: int
    default_nodes_max: int
    message_bytes_max: int
    def __init__(self, batch_sequences_max: _Optional[int] = ..., context_tokens_max: _Optional[int] = ..., nodes_max: _Optional[int] = ..., depth_max: _Optional[int] = ..., default_nodes_max: _Optional[int] = ..., message_bytes_max: _Optional[int] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("namespace", "tokens", "options", "corpora")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    tokens: bytes
    options: DraftOptions
    corpora: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., tokens: _Optional[bytes] = ..., options: _Optional[_Union[DraftOptions, _Mapping]] = ..., corpora: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("trees", "nodes", "match_length", "draft_us")
    TREES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MATCH_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DRAFT_US_FIELD_NUMBER: _ClassVar[int]
    trees: Trees
    nodes: _containers.RepeatedCompositeFieldContainer[NodeEvidence]
    match_length: int
    draft_us: int
    def __init__(self, trees: _Optional[_Union[Trees, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeEvidence, _Mapping]]] = ..., match_length: _Optional[int] = ..., draft_us: _Optional[int] = ...) -> None: ...

class NodeEvidence(_message.Message):
    __slots__ = ("node", "evidence")
    NODE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    node: int
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    def __init__(self, node: _Optional[int] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("source", "match_length", "count", "total", "probability", "corpus", "document", "position")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MATCH_LENGTH_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    source: int
    match_length: int
    count: float
    total: float
    probability: float
    corpus: str
    document: str
    position: int
    def __init__(self, source: _Optional[int] = ..., match_length: _Optional[int] = ..., count: _Optional[float] = ..., total: _Optional[float] = ..., probability: _Optional[float] = ..., corpus: _Optional[str] = ..., document: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...
