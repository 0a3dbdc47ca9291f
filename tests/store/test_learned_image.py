"""A learned tier that was copied out and put back is the same one; damage is an error, never a crash."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.errors import Corrupt, FailedPrecondition
from retrieval_draft.store.blocks import PIECE_BYTES
from retrieval_draft.store.image_blocks import load_image, store_image
from retrieval_draft.store.journal_position import JournalPosition
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage, image_of, restore
from retrieval_draft.store.manifest import Manifest, decode_manifest, encode_manifest
from retrieval_draft.store.memory_blocks import MemoryBlocks
from retrieval_draft.store.records import Batch
from tests.store.learning import VOCAB, lesson

DEMO = NamespaceKey("local", "demo")
BYTES_MAX = 1 << 17
lessons = st.lists(st.integers(0, 5_000), max_size=30)


def learned(*seeds: int, tier: LearnedTier | None = None, from_number: int = 1) -> LearnedTier:
    tier = tier or LearnedTier(VOCAB, BYTES_MAX)
    for number, seed in enumerate(seeds, start=from_number):
        tier.apply(Batch("ab"[seed % 2], number, [lesson(seed)]))
    return tier


def stored(blocks: MemoryBlocks, image: LearnedImage) -> Manifest:
    arrays, size = store_image(blocks, DEMO, image, lambda _: None)
    position = JournalPosition("7-3", 100, 40)
    return Manifest(4, "x" * 32, position, {"a": 3}, image.scalars, arrays, size, 1.5)


@settings(deadline=None, max_examples=40)
@given(lessons, lessons, st.booleans())
def test_what_comes_after_a_snapshot_makes_what_a_whole_replay_makes(
    before: list[int], tail: list[int], is_used: bool
) -> None:
    """Also where a larger table was replaced by a smaller one, and something else was known before."""
    whole = learned(*before)
    blocks = MemoryBlocks()
    manifest = decode_manifest(encode_manifest(stored(blocks, image_of(whole))))
    image = load_image(manifest.scalars, manifest.arrays, lambda d: blocks.get(DEMO, d))
    other = learned(*range(100, 140)) if is_used else learned()
    restore(other, image)
    assert other.digest() == whole.digest()
    for tier in (whole, other):
        learned(*tail, tier=tier, from_number=len(before) + 1)
    assert other.digest() == whole.digest()
    assert image_of(other).scalars == image_of(whole).scalars


def test_an_image_is_a_copy() -> None:
    tier = learned(1)
    image = image_of(tier)
    before = {name: array.copy() for name, array in image.arrays.items()}
    learned(2, 3, tier=tier)
    assert all((image.arrays[name] == array).all() for name, array in before.items())


def test_the_chains_are_built_again() -> None:
    """What followed in the ring is found as before."""
    whole, other = learned(*range(20)), learned()
    restore(other, image_of(whole))
    query = whole.ring.read(whole.ring.stop - 30, whole.ring.stop - 20)
    found = []
    for tier in (whole, other):
        windows, lengths = np.zeros((8, 4), np.int32), np.zeros(8, np.int32)
        count = tier.ring.continuations(query, 8, windows, lengths)
        found.append((count, windows.tolist(), lengths.tolist()))
    assert found[0] == found[1]
    assert found[0][0] > 0


def test_another_vocabulary_or_size_is_refused_by_name() -> None:
    image = image_of(learned(1, 2))
    with pytest.raises(FailedPrecondition, match=r"vocabulary of 50 tokens.*has 51"):
        restore(LearnedTier(VOCAB + 1, BYTES_MAX), image)
    for bytes_max in (BYTES_MAX * 4, BYTES_MAX // 16):
        other = LearnedTier(VOCAB, bytes_max)
        with pytest.raises(FailedPrecondition):
            restore(other, image)
        assert other.digest() == LearnedTier(VOCAB, bytes_max).digest(), "untouched"


def test_every_truncation_and_flip_of_a_block_is_an_error_or_harmless() -> None:
    """With no digest in the way: what still loads may be wrong, and leads no kernel astray."""
    blocks = MemoryBlocks()
    tier = learned(*range(12))
    manifest = stored(blocks, image_of(tier))
    dice = np.random.default_rng(1)
    wrong = 0
    for digest in sorted(manifest.digests):
        data = blocks.get(DEMO, digest)
        cuts = [data[:at] for at in np.unique(dice.integers(0, len(data), 12))]
        flips = []
        for at in np.unique(dice.integers(0, len(data), 24)):
            flips.append(
                data[:at] + bytes([data[at] ^ 1 << int(dice.integers(8))]) + data[at + 1 :]
            )
        for bad in (*cuts, *flips, b"", data * 2, b"\0" * len(data)):
            try:
                restored = LearnedTier(VOCAB, BYTES_MAX)
                image = load_image(
                    manifest.scalars,
                    manifest.arrays,
                    lambda d, digest=digest, bad=bad: bad if d == digest else blocks.get(DEMO, d),  # type: ignore[misc]
                )
                restore(restored, image)
            except Corrupt:
                wrong += 1
                continue
            works(restored)
    assert wrong > 100


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_values_that_nobody_wrote_are_refused_or_harmless(data: st.DataObject) -> None:
    """Any words anywhere in the arrays: ids, counts and states outside their ranges are refused."""
    tier = learned(*range(6))
    image = image_of(tier)
    arrays = {name: array.copy() for name, array in image.arrays.items()}
    name = data.draw(st.sampled_from(sorted(arrays)))
    flat = arrays[name].reshape(-1)
    limits = np.iinfo(flat.dtype.str)
    edges = [limits.min, limits.max, -1, 0, 1, VOCAB - 1, VOCAB, 1 << 27, 1 << 28, 15 << 20]
    values = st.sampled_from([e for e in edges if limits.min <= e <= limits.max])
    values |= st.integers(int(limits.min), int(limits.max))
    used = np.flatnonzero(flat)
    for _ in range(data.draw(st.integers(1, 8))):
        flat[data.draw(st.sampled_from(used.tolist() or [0]))] = data.draw(values)
    other = learned()
    before = other.digest()
    try:
        restore(other, LearnedImage(image.scalars, arrays))
    except Corrupt:
        assert other.digest() == before, "untouched"
    else:
        works(other)


def works(tier: LearnedTier) -> None:
    """Searching and learning on it ends, and what it finds are tokens."""
    learned(7, 8, 9, tier=tier, from_number=100)
    ring = tier.ring
    windows, lengths = np.zeros((8, 4), np.int32), np.zeros(8, np.int32)
    for at in range(max(ring.low, ring.stop - 40), ring.stop, 7):
        ring.continuations(ring.read(ring.low, at)[-9:], 8, windows, lengths)
        assert int(windows.max()) < VOCAB
    assert (
        -1 <= int(tier.recycling.successors.min()) <= int(tier.recycling.successors.max()) < VOCAB
    )


def test_every_truncation_and_flip_of_a_manifest_is_a_named_error() -> None:
    data = encode_manifest(stored(MemoryBlocks(), image_of(learned(1))))
    for at in range(len(data)):
        for bad in (data[:at], data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]):
            with pytest.raises((Corrupt, FailedPrecondition)):
                decode_manifest(bad)


def test_large_arrays_are_cut_into_pieces_and_equal_pieces_are_stored_once() -> None:
    blocks = MemoryBlocks()
    tier = LearnedTier(VOCAB, 48 << 20)
    learned(1, 2, tier=tier)
    image = image_of(tier)
    manifest = stored(blocks, image)
    pieces = manifest.arrays["counts"].digests
    assert len(pieces) == image.arrays["counts"].nbytes // PIECE_BYTES > 2
    assert len(set(pieces)) <= len(pieces)
    assert manifest.stored_bytes < 200_000, "what is still zero costs nothing"
    other = LearnedTier(VOCAB, 48 << 20)
    restore(other, load_image(manifest.scalars, manifest.arrays, lambda d: blocks.get(DEMO, d)))
    assert other.digest() == tier.digest()
