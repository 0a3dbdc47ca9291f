"""What is stored, as bytes: journal batches, namespaces and corpus blocks.

Everything is msgpack behind a schema version and a CRC-32: bytes that changed on their way are
never read as data. Knows nothing of Redis.
"""

import hashlib
import struct
import zlib
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import Corrupt, InvalidInput
from retrieval_draft.tree import Float32Array, Int32Array

SCHEMA_VERSION = 2
TOKEN_BYTES = 4
ROW_WIDTH = 10  # predictions kept of every row
ROW_CONTEXT_TOKENS = 4
CONTEXT_TOKENS_MAX = 8
DIGEST_BYTES = 16
BLOCK_BYTES_MAX = 64 * 2**20
TEXT_CHARACTERS_MAX = 256  # of every text field of a namespace
END_TOKENS_MAX = 64
VOCAB_SIZE_MAX = 2**31 - 1
LOGPROB_STEPS_PER_NAT = 16
LOGPROB_NONE = 255

UInt8Array = npt.NDArray[np.uint8]
_HEADER = struct.Struct("<BI")  # schema version, CRC-32 of what follows


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Tokens that one sequence committed, each position once, with what the target predicted.

    `context` holds the last tokens before `tokens[0]`, which stands at `position`. A row is what the
    target expected of one next token, most probable first. The rows of `row_contexts` come first, each
    after up to ROW_CONTEXT_TOKENS tokens of its own, -1 in front where there are fewer (rejected nodes,
    prompts). Then those of `row_at`: row_at[i] indexes the token of context + tokens that the row
    follows; it ascends, and what came next is one of `tokens`.
    """

    sequence: int  # running number within this replica
    position: int
    context: bytes = b""  # int32, at most CONTEXT_TOKENS_MAX
    tokens: bytes = b""  # int32
    row_contexts: bytes = b""  # int32[r, ROW_CONTEXT_TOKENS]
    row_at: bytes = b""  # int32[s]
    row_tokens: bytes = b""  # int32[r + s, ROW_WIDTH], -1 where the engine gave fewer
    row_logprobs: bytes = b""  # uint8[r + s, ROW_WIDTH], see `packed_logprobs`


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """One journal entry. `number` rises by one with every batch of `replica`, from 1."""

    replica: str
    number: int
    records: list[Record]


class NamespaceSpec(msgspec.Struct, frozen=True, array_like=True):
    """What a namespace is made for. `learned_bytes_max` 0 stands for the server's default."""

    namespace: str
    vocab_size: int
    model: str = ""
    tokenizer_fingerprint: str = ""
    adapter: str = ""
    revision: str = ""
    learn_prompts: bool = False
    end_tokens: tuple[int, ...] = ()
    learned_bytes_max: int = 0


class StoredNamespace(msgspec.Struct, frozen=True, array_like=True):
    """A namespace and its incarnation: one that is deleted and created again is another one."""

    incarnation: str
    spec: NamespaceSpec


class BlockDocument(msgspec.Struct, frozen=True, array_like=True):
    """One document of a block: how many of its tokens, and `document_digest` of them."""

    name: str
    digest: bytes
    tokens: int


class Block(msgspec.Struct, frozen=True, array_like=True):
    """Some documents of a corpus, their int32 tokens one after the other."""

    documents: tuple[BlockDocument, ...]
    tokens: bytes


_batches = msgspec.msgpack.Decoder(Batch)
_namespaces = msgspec.msgpack.Decoder(StoredNamespace)
_blocks = msgspec.msgpack.Decoder(Block)
_encoder = msgspec.msgpack.Encoder()
_Stored = TypeVar("_Stored", Batch, StoredNamespace, Block)


def encode_batch(batch: Batch) -> bytes:
    """The batch as stored: 58 to 64 bytes a token with a row for each, else about 4."""
    return _framed(batch)


def decode_batch(data: bytes) -> Batch:
    """The batch of these bytes. Raises Corrupt, and nothing else, if they are not one."""
    batch = _unframed(data, _batches, "journal batch")
    for record in batch.records:
        problem = _record_problem(record)
        if problem:
            raise Corrupt(f"journal batch {batch.number}: {problem}")
    return batch


def encode_namespace(stored: StoredNamespace) -> bytes:
    """The namespace as stored."""
    return _framed(stored)


def decode_namespace(data: bytes) -> StoredNamespace:
    """The namespace of these bytes. Raises Corrupt, and nothing else, if they are not one."""
    return _unframed(data, _namespaces, "namespace")


def encode_block(block: Block) -> bytes:
    """The block as stored. Raises InvalidInput for one that `decode_block` would refuse."""
    problem = _block_problem(block)
    if problem:
        raise InvalidInput("block", len(block.documents), "documents that fill it", problem)
    data = _framed(block)
    if len(data) > BLOCK_BYTES_MAX:
        raise InvalidInput("block bytes", len(data), f"{BLOCK_BYTES_MAX} bytes")
    return data


def decode_block(data: bytes) -> Block:
    """The block of these bytes. Raises Corrupt, and nothing else, if they are not one."""
    block = _unframed(data, _blocks, "corpus block")
    problem = _block_problem(block)
    if problem:
        raise Corrupt(f"corpus block: {problem}")
    return block


def content_digest(data: bytes) -> bytes:
    """The address of content: BLAKE2b, DIGEST_BYTES long."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def document_digest(tokens: bytes) -> bytes:
    """What makes a document known: its int32 tokens, whatever its name."""
    return content_digest(tokens)


def packed_logprobs(logprobs: npt.ArrayLike) -> UInt8Array:
    """Log-probabilities in steps of 1/16 nat: -15.875 stands for all below, NaN for unknown."""
    values = np.asarray(logprobs, dtype=np.float32)
    # Cut first: a wild value would overflow when multiplied.
    cut = np.clip(values, -LOGPROB_NONE / LOGPROB_STEPS_PER_NAT, 0)
    steps = np.clip(-cut * LOGPROB_STEPS_PER_NAT, 0, LOGPROB_NONE - 1)
    return np.where(np.isnan(values), LOGPROB_NONE, np.rint(steps)).astype(np.uint8)


def unpacked_logprobs(packed: npt.NDArray[np.uint8]) -> Float32Array:
    """The log-probabilities again, within 1/32 nat; NaN where unknown."""
    values = packed.astype(np.float32) / -LOGPROB_STEPS_PER_NAT
    return np.where(packed == LOGPROB_NONE, np.float32(np.nan), values)


def tokens_of(data: bytes) -> Int32Array:
    """Stored tokens as a read-only int32 array, without a copy."""
    return np.frombuffer(data, dtype="<i4")


def check_spec(spec: NamespaceSpec) -> None:
    """Raises InvalidInput for a namespace outside its limits; NamespaceKey checks its name."""
    if not 1 <= spec.vocab_size <= VOCAB_SIZE_MAX:
        raise InvalidInput("vocab_size", spec.vocab_size, f"1 to {VOCAB_SIZE_MAX}")
    for field in ("model", "tokenizer_fingerprint", "adapter", "revision"):
        text: str = getattr(spec, field)
        if len(text) > TEXT_CHARACTERS_MAX:
            raise InvalidInput(field, text, f"{TEXT_CHARACTERS_MAX} characters")
    if len(spec.end_tokens) > END_TOKENS_MAX:
        raise InvalidInput("end_tokens", len(spec.end_tokens), f"{END_TOKENS_MAX} tokens")
    for token in spec.end_tokens:
        if not 0 <= token < spec.vocab_size:
            raise InvalidInput("end_tokens", token, f"0 to {spec.vocab_size - 1}")
    if spec.learned_bytes_max < 0:
        raise InvalidInput("learned_bytes_max", spec.learned_bytes_max, "0 or more")


def _record_problem(record: Record) -> str:
    if len(record.context) > CONTEXT_TOKENS_MAX * TOKEN_BYTES:
        return f"{len(record.context)} bytes of context"
    for field in (record.context, record.tokens, record.row_at):
        if len(field) % TOKEN_BYTES:
            return f"tokens of {len(field)} bytes"
    if len(record.row_contexts) % (ROW_CONTEXT_TOKENS * TOKEN_BYTES):
        return f"contexts of rows of {len(record.row_contexts)} bytes"
    own = len(record.row_contexts) // (ROW_CONTEXT_TOKENS * TOKEN_BYTES)
    rows = own + len(record.row_at) // TOKEN_BYTES
    if len(record.row_tokens) != rows * ROW_WIDTH * TOKEN_BYTES:
        return f"{rows} rows with {len(record.row_tokens)} bytes of tokens"
    if len(record.row_logprobs) != rows * ROW_WIDTH:
        return f"{rows} rows with {len(record.row_logprobs)} bytes of log-probabilities"
    if problem := _row_at_problem(record):
        return problem
    if record.sequence < 0 or record.position < 0:
        return f"sequence {record.sequence} at position {record.position}"
    return ""


def _row_at_problem(record: Record) -> str:
    if not record.row_at:
        return ""
    at = tokens_of(record.row_at)
    context = len(record.context) // TOKEN_BYTES
    stop = context + len(record.tokens) // TOKEN_BYTES - 1
    if at[0] < max(0, context - 1) or at[-1] >= stop or bool((at[1:] <= at[:-1]).any()):
        return f"rows after the tokens {at[0]} to {at[-1]}, not rising within {stop}"
    return ""


def _block_problem(block: Block) -> str:
    if not block.documents:
        return "no documents"
    if any(len(d.digest) != DIGEST_BYTES or d.tokens < 0 for d in block.documents):
        return f"a document without a digest of {DIGEST_BYTES} bytes or with negative length"
    tokens = sum(document.tokens for document in block.documents)
    if tokens * TOKEN_BYTES != len(block.tokens):
        return f"documents of {tokens} tokens in {len(block.tokens)} bytes"
    return ""


def _framed(value: Batch | StoredNamespace | Block) -> bytes:
    body = _encoder.encode(value)
    return _HEADER.pack(SCHEMA_VERSION, zlib.crc32(body)) + body


def _unframed(data: bytes, decoder: msgspec.msgpack.Decoder[_Stored], what: str) -> _Stored:
    if len(data) < _HEADER.size:
        raise Corrupt(f"{what} of {len(data)} bytes")
    version, checksum = _HEADER.unpack_from(data)
    if version != SCHEMA_VERSION:
        raise Corrupt(f"{what} of schema version {version}; this program reads {SCHEMA_VERSION}")
    body = data[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise Corrupt(f"{what} whose checksum does not fit its {len(body)} bytes")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{what} that does not decode: {error}") from error
