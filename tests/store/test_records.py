"""What is stored as bytes: round trips, damage, limits, and how large it is."""

import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.errors import Corrupt, InvalidInput
from retrieval_draft.store import records
from retrieval_draft.store.records import (
    Batch,
    Block,
    BlockDocument,
    NamespaceSpec,
    Record,
    StoredNamespace,
    check_spec,
    decode_batch,
    decode_block,
    decode_namespace,
    document_digest,
    encode_batch,
    encode_block,
    encode_namespace,
    packed_logprobs,
    tokens_of,
    unpacked_logprobs,
)

BYTES_PER_TOKEN_MAX = 64


def int32(count: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=count * 4, max_size=count * 4)


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    context, tokens = draw(st.integers(0, 8)), draw(st.integers(0, 6))
    after = range(max(0, context - 1), context + tokens - 1)
    at = sorted(draw(st.sets(st.sampled_from(after)))) if after else []
    own = draw(st.integers(0, 3))
    rows = own + len(at)
    return Record(
        sequence=draw(st.integers(0, 2**40)),
        position=draw(st.integers(0, 2**31)),
        context=draw(int32(context)),
        tokens=draw(int32(tokens)),
        row_contexts=draw(int32(own * 4)),
        row_at=np.array(at, "<i4").tobytes(),
        row_tokens=draw(int32(rows * 10)),
        row_logprobs=draw(st.binary(min_size=rows * 10, max_size=rows * 10)),
    )


batches = st.builds(
    Batch, st.text(max_size=20), st.integers(0, 2**60), st.lists(any_record(), max_size=4)
)


@st.composite
def any_block(draw: st.DrawFn) -> Block:
    texts = draw(st.lists(int32(draw(st.integers(0, 5))), min_size=1, max_size=4))
    documents = [BlockDocument("d", document_digest(text), len(text) // 4) for text in texts]
    return Block(tuple(documents), b"".join(texts))


@given(batches)
def test_a_batch_comes_back_as_it_was(batch: Batch) -> None:
    assert decode_batch(encode_batch(batch)) == batch


@given(any_block())
def test_a_block_comes_back_as_it_was(block: Block) -> None:
    assert decode_block(encode_block(block)) == block


def test_a_namespace_comes_back_as_it_was() -> None:
    spec = NamespaceSpec("demo", 4096, "m", "f", "a", "r", True, (1, 2), 10)
    stored = StoredNamespace("abc", spec)
    assert decode_namespace(encode_namespace(stored)) == stored


@given(batches, st.data())
def test_a_truncated_batch_is_corrupt(batch: Batch, data: st.DataObject) -> None:
    encoded = encode_batch(batch)
    with pytest.raises(Corrupt):
        decode_batch(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(batches, st.data())
def test_a_flipped_bit_is_corrupt(batch: Batch, data: st.DataObject) -> None:
    encoded = bytearray(encode_batch(batch))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt):
        decode_batch(bytes(encoded))


@settings(max_examples=500)
@given(st.data())
def test_without_the_checksum_the_parser_still_never_fails_otherwise(data: st.DataObject) -> None:
    """The checksum must not be what keeps damage from crashing the reader."""
    body = bytearray(encode_batch(data.draw(batches))[5:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    framed = records._HEADER.pack(records.SCHEMA_VERSION, zlib.crc32(body)) + bytes(body)
    try:
        batch = decode_batch(framed)
    except Corrupt:
        return
    for record in batch.records:
        rows = len(record.row_contexts) // 16 + len(record.row_at) // 4
        assert len(record.row_tokens) == 40 * rows
        within = (len(record.context) + len(record.tokens)) // 4 - 1
        assert all(0 <= at < within for at in tokens_of(record.row_at).tolist())


@given(st.binary(max_size=60))
def test_any_bytes_are_corrupt_as_whatever_they_are_read(data: bytes) -> None:
    for decode in (decode_batch, decode_namespace, decode_block):
        with pytest.raises(Corrupt):
            decode(data)


@pytest.mark.parametrize(
    "wrong",
    [
        Record(1, 0, tokens=b"abc"),
        Record(1, 0, context=b"\0" * 36),
        Record(1, 0, row_contexts=b"\0" * 16),
        Record(1, 0, row_contexts=b"\0" * 12, row_tokens=b"\0" * 40, row_logprobs=b"\0" * 10),
        Record(1, 0, row_contexts=b"\0" * 16, row_tokens=b"\0" * 40),
        Record(1, 0, row_contexts=b"\0" * 16, row_tokens=b"\0" * 36, row_logprobs=b"\0" * 10),
        *(
            Record(1, 0, C, T, row_at=at, row_tokens=b"\0" * 80, row_logprobs=b"\0" * 20)
            for C, T, at in (
                (b"", b"", b"\0\0\0\0\1\0\0\0"),
                (b"", b"\0" * 8, b"\0\0\0\0\1\0\0\0"),  # nothing follows the second
                (b"", b"\0" * 16, b"\1\0\0\0\0\0\0\0"),  # falls
                (b"", b"\0" * 16, b"\1\0\0\0\1\0\0\0"),  # twice
                (b"\0" * 12, b"\0" * 8, b"\1\0\0\0\2\0\0\0"),  # before the last of the context
                (b"", b"\0" * 16, b"\xff\xff\xff\xff\1\0\0\0"),
            )
        ),
        Record(1, -1),
    ],
)
def test_arrays_that_disagree_are_corrupt(wrong: Record) -> None:
    with pytest.raises(Corrupt, match="journal batch 3"):
        decode_batch(encode_batch(Batch("r", 3, [wrong])))


def test_another_schema_version_says_so() -> None:
    encoded = encode_batch(Batch("r", 1, []))
    with pytest.raises(Corrupt, match="schema version 1"):
        decode_batch(b"\1" + encoded[1:])


def test_a_learned_token_takes_at_most_64_bytes() -> None:
    tokens = 32
    rows = np.arange(tokens * 10, dtype="<i4").tobytes()
    full = Record(
        2**31,
        2**20,
        b"\0" * 32,
        b"\1" * 4 * tokens,
        row_at=np.arange(7, 7 + tokens, dtype="<i4").tobytes(),
        row_tokens=rows,
        row_logprobs=b"\3" * 10 * tokens,
    )
    size = len(encode_batch(Batch("replica-name/0123456789ab", 2**40, [full])))
    assert size <= BYTES_PER_TOKEN_MAX * tokens
    tokens = 64
    without_rows = Record(2**31, 2**20, b"\0" * 32, b"\1" * 4 * tokens)
    size = len(encode_batch(Batch("replica-name/0123456789ab", 2**40, [without_rows])))
    assert size <= 6 * tokens


@given(st.lists(st.floats(-100, 0, width=32), min_size=1))
def test_log_probabilities_are_kept_within_half_a_step(values: list[float]) -> None:
    back = unpacked_logprobs(packed_logprobs(values))
    expected = np.maximum(np.array(values, np.float32), -254 / 16)
    assert back.dtype == np.float32
    assert np.abs(back - expected).max() <= 1 / 32 + 1e-6


def test_unknown_and_impossible_log_probabilities() -> None:
    packed = packed_logprobs([np.nan, -np.inf, 0.0, 1e-6, np.inf])
    assert packed.tolist() == [255, 254, 0, 0, 0]
    assert np.isnan(unpacked_logprobs(packed)[0])
    assert not np.isnan(unpacked_logprobs(packed)[1:]).any()


def test_tokens_are_read_without_a_copy() -> None:
    tokens = tokens_of(np.array([1, -2], "<i4").tobytes())
    assert tokens.tolist() == [1, -2]
    assert not tokens.flags.writeable


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": 2**31}, "vocab_size"),
        ({"model": "m" * 257}, "model"),
        ({"end_tokens": (100,)}, "end_tokens"),
        ({"end_tokens": (-1,)}, "end_tokens"),
        ({"end_tokens": (1,) * 65}, "end_tokens"),
        ({"learned_bytes_max": -1}, "learned_bytes_max"),
    ],
)
def test_a_namespace_outside_its_limits_is_refused(change: dict[str, object], field: str) -> None:
    good = NamespaceSpec("demo", 100, model="m" * 256, end_tokens=(0, 99))
    check_spec(good)
    with pytest.raises(InvalidInput) as refused:
        check_spec(msgspec.structs.replace(good, **change))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "wrong",
    [
        Block((), b""),
        Block((BlockDocument("d", b"short", 1),), b"\0" * 4),
        Block((BlockDocument("d", b"\0" * 16, 2),), b"\0" * 4),
        Block((BlockDocument("d", b"\0" * 16, -1), BlockDocument("e", b"\0" * 16, 1)), b""),
    ],
)
def test_a_block_that_does_not_add_up_is_refused(wrong: Block) -> None:
    with pytest.raises(InvalidInput, match="block"):
        encode_block(wrong)
