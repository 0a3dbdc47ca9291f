"""The kernels that build a segment, and the choice of the codes' bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.store.corpus import CorpusTier
from retrieval_draft.store.kernels import segment, segment_build
from retrieval_draft.store.segment_build import leads
from tests.kernels import strategies
from tests.kernels import twins_segment as twins
from tests.kernels.strategies import int32s

QUICK = strategies.quick(100)
CODES = 1 << 20
codes_of = st.lists(st.integers(0, CODES - 1) | st.integers(0, 300), max_size=50)


@QUICK
@given(strategies.texts)
def test_tokens_are_counted_and_put_in_code(text: list[int]) -> None:
    counts = np.zeros(4, np.int64)
    segment_build.count(int32s(text), counts)
    expected = twins.count(text)
    assert counts.tolist() == [expected[token] for token in (-1, 0, 1, 2)]
    codes = int32s([0, 3, 1, 2])
    changed = int32s(text)
    segment_build.encode(changed, codes)
    assert changed.tolist() == twins.encode(text, {-1: 0, 0: 3, 1: 1, 2: 2})


@QUICK
@given(codes_of, st.integers(0, 200), st.integers(0, 40))
def test_bytes_of_codes_are_in_their_order(text: list[int], singles: int, doubles: int) -> None:
    spelled = np.zeros(3 * len(text) + 1, np.uint8)
    starts = np.zeros(len(spelled) // 64 + 1, np.uint64)
    n = segment_build.spell(int32s(text), singles, doubles, spelled, starts)
    expected = twins.spell(text, singles, doubles)
    assert spelled[:n].tolist() == [byte for code in expected for byte in code]
    bits = [at for at in range(len(spelled)) if int(starts[at // 64]) >> at % 64 & 1]
    firsts = np.cumsum([0, *map(len, expected)]).tolist()[: len(text)]
    assert bits == firsts
    ranked = sorted(range(len(text)), key=lambda i: expected[i])
    assert [text[i] for i in ranked] == sorted(text)
    before = np.zeros(len(starts), np.int32)
    segment_build.rank_words(starts, before)
    assert before.tolist() == twins.rank_words(starts.tolist())
    order = np.random.default_rng(n).permutation(n).astype(np.int32)
    kept = twins.keep_starts(order.tolist(), firsts)
    assert segment_build.keep_starts(order, starts, before) == len(text)
    assert order[: len(text)].tolist() == kept


@given(st.integers(0, 2**64 - 1))
def test_ones_are_counted(bits: int) -> None:
    assert segment_build.ones(np.uint64(bits)) == twins.ones(bits)


@QUICK
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=700), st.integers(1, 1 << 20))
def test_the_shortest_bytes_are_chosen_for_as_many_codes_as_there_are(
    counts: list[int], most: int
) -> None:
    frequency = np.array([5, *sorted(counts, reverse=True)], np.int64)
    singles, doubles = leads(frequency)

    def bytes_of(one: int, two: int) -> int:
        return int(frequency.sum() + frequency[one:].sum() + frequency[one + 256 * two :].sum())

    chosen = bytes_of(singles, doubles)
    threes = 256 - singles - doubles
    assert singles + 256 * doubles + 65536 * threes >= len(frequency)
    for two in range(0, 257, 8):
        if 256 - two + 256 * two >= len(frequency):
            assert chosen <= bytes_of(256 - two, two)
    singles, doubles = leads(np.ones(most, np.int64))
    assert singles + 256 * doubles + 65536 * (256 - singles - doubles) >= most


@QUICK
@given(st.sets(st.integers(0, CODES - 1), min_size=1, max_size=60))
def test_slots_lead_to_the_codes_of_tokens(tokens: set[int]) -> None:
    vocabulary = sorted(tokens)
    slots = np.zeros(1 << (2 * len(tokens) + 1).bit_length(), np.int32)
    segment_build.fill_slots(int32s(vocabulary), slots)
    assert sorted(slots[slots > 0].tolist()) == list(range(1, len(tokens) + 1))
    (one,) = CorpusTier.of_documents([int32s([1])]).segments
    index = one.index._replace(vocabulary=int32s(vocabulary), slots=slots)
    for array in index:
        array.flags.writeable = False
    found = {token: segment.code_of(index, token) for token in vocabulary}
    assert found == twins.fill_slots(vocabulary)
    for token in vocabulary:
        assert segment.slot_of(token) == twins.slot_of(token)


def test_a_vocabulary_above_two_bytes_is_found_in_four() -> None:
    """70,000 tokens once or more: codes of three bytes, and wide ones in the file."""
    random = np.random.default_rng(5)
    every = random.permutation(151_936)[:70_000].astype(np.int32)
    again = np.repeat(every[:500], 3)
    (built,) = CorpusTier.of_documents([every, again, every[100:200]]).segments
    index = built.index
    assert index.codes.dtype == np.int32
    assert built.nbytes < 40 * len(every)
    assert [d.tokens.tolist() for d in built.read()] == [
        every.tolist(), again.tolist(), every[100:200].tolist()
    ]  # fmt: skip
    codes, order = index.codes, index.order
    ranks = random.integers(0, len(order) - 1, 2000)
    for rank in ranks.tolist():
        one, two = (codes[at : at + 50].tolist() for at in order[rank : rank + 2].tolist())
        assert one <= two
    assert np.array_equal(np.sort(order), np.arange(len(codes)))
    for token in every[::997].tolist():
        assert index.vocabulary[segment.code_of(index, token) - 1] == token
