"""The learned tier is a function of the records it applied, and of nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.store.kernels import windows
from retrieval_draft.store.learned import (
    LOOP_PERIOD_MAX,
    LOOP_TOKENS_MIN,
    RING_TOKENS_FIRST,
    LearnedTier,
    is_loop,
)
from retrieval_draft.store.learned_image import image_of, restore
from retrieval_draft.store.records import Batch, Record
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import int32s

VOCAB = 12
text = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30)
batches = st.lists(st.tuples(st.sampled_from("ab"), text, text), max_size=8)


def applied(some: list[tuple[str, list[int], list[int]]], look: bool = False) -> LearnedTier:
    tier = LearnedTier(VOCAB, 1 << 16)
    windows, lengths = np.empty((8, 4), np.int32), np.empty(8, np.int32)
    for number, (replica, context, tokens) in enumerate(some):
        record = Record(
            number, len(context), context=int32s(context).tobytes(), tokens=int32s(tokens).tobytes()
        )
        tier.apply(Batch(replica, number + 1, [record]))
        if look:
            tier.ring.continuations(int32s(tokens), 8, windows, lengths)
    return tier


@settings(deadline=None, max_examples=60)
@given(batches)
def test_equal_records_make_equal_digests_whoever_looks_and_other_records_others(
    some: list[tuple[str, list[int], list[int]]],
) -> None:
    tier = applied(some)
    assert applied(some, look=True).digest() == tier.digest()
    assert applied([*some, ("a", [1], [2, 3])]).digest() != tier.digest()


def test_the_counts_are_part_of_the_digest() -> None:
    one, other = applied([("a", [1], [2, 3])]), applied([("a", [1], [2, 3])])
    assert one.digest() == other.digest()
    counts = other.ring.table[windows.first_wide(int(other.ring.table[windows.BUCKETS])) :]
    counts[np.flatnonzero(counts)[0]] ^= 1
    assert one.digest() != other.digest()


def test_a_text_that_goes_on_repeating_itself_is_a_loop() -> None:
    for period in range(1, LOOP_PERIOD_MAX + 1):
        once = list(range(period))
        whole = int32s((once * 64)[: 8 + LOOP_TOKENS_MIN])
        assert is_loop(whole[:8], whole[8:])
        assert not is_loop(whole[:8], whole[8:-1]), "too short to be sure"
        assert not is_loop(int32s([]), whole), "where it begins it is learned"
        assert not is_loop(int32s([99]), whole)
        assert not is_loop(whole[:8], int32s([*whole[8:-1].tolist(), 99]))
    longer = int32s(list(range(LOOP_PERIOD_MAX + 1)) * 4)
    assert not is_loop(longer[:8], longer[8:])
    tier = applied([("a", [2, 3], [2, 3] * LOOP_TOKENS_MIN)])
    assert tier.tokens_learned == 0
    assert tier.ring.stop == 0


def test_what_a_loop_interrupts_goes_on_behind_it_with_its_own_context() -> None:
    tier = LearnedTier(VOCAB, 1 << 16)
    parts = [[1, 4, 5], [4, 5] * 32, [6, 7]]
    position = 0
    for number, tokens in enumerate(parts):
        context = parts[number - 1][-2:] if number else []
        record = Record(
            1, position, context=int32s(context).tobytes(), tokens=int32s(tokens).tobytes()
        )
        tier.apply(Batch("a", number + 1, [record]))
        position += len(tokens)
    ring = tier.ring
    assert ring.read(ring.low, ring.stop).tolist() == [-1, 1, 4, 5, -1, 4, 5, 6, 7]


def test_a_tier_begins_small_and_its_ring_grows_with_nothing_lost() -> None:
    dice = np.random.default_rng(3)
    tier, wide = LearnedTier(VOCAB, 4 << 20), TokenRing(1 << 14, 64)
    assert tier.nbytes < 1 << 18
    for number in range(1, 8):
        tokens = int32s(dice.integers(0, VOCAB, 1000))
        tier.apply(Batch("a", number, [Record(number, 0, tokens=tokens.tobytes())]))
        wide.extend(int32s([-1, *tokens.tolist()]))
        assert tier.ring.stop == wide.stop
        assert tier.ring.capacity >= tier.ring.stop
    assert RING_TOKENS_FIRST < tier.ring.capacity < tier.ring_tokens_max
    assert (tier.ring.read(0, tier.ring.stop) == wide.read(0, wide.stop)).all()
    copy = LearnedTier(VOCAB, 4 << 20)
    restore(copy, image_of(tier))
    assert copy.digest() == tier.digest()
    assert copy.ring.capacity == tier.ring.capacity
    for end in (100, 4000, 4200, 6990):
        found = []
        for ring in (tier.ring, copy.ring, wide):
            windows_found, lengths = np.zeros((1, 4), np.int32), np.zeros(1, np.int32)
            count = ring.continuations(wide.read(end - 20, end), 20, windows_found, lengths)
            found.append((count, lengths.tolist(), windows_found.tolist()))
        assert found[0] == found[1] == found[2]
        assert found[0][1] == [20]


def test_a_ring_that_has_grown_to_its_bound_forgets_the_oldest() -> None:
    tier = LearnedTier(VOCAB, 1 << 18)
    dice = np.random.default_rng(4)
    most = tier.ring_tokens_max
    tokens = int32s([])
    for number in range(1, 5):
        tokens = int32s(dice.integers(0, VOCAB, most // 2))
        tier.apply(Batch("a", number, [Record(number, 0, tokens=tokens.tobytes())]))
    assert tier.ring.capacity == most
    assert tier.ring.stop - tier.ring.low == most
    assert (tier.ring.read(tier.ring.stop - len(tokens), tier.ring.stop) == tokens).all()
    assert tier.nbytes <= 1 << 18
    copy = LearnedTier(VOCAB, 1 << 18)
    restore(copy, image_of(tier))
    assert (copy.ring.low, copy.digest()) == (tier.ring.low, tier.digest())
