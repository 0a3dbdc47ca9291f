"""Segments: what is built and what is found in them, against looking at every suffix."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import standing
from retrieval_draft.drafting.kernels.evidence import GAP, LENGTH, NEXT, PLACE_COLUMNS, POSITION
from retrieval_draft.store.corpus import CorpusTier, Trails, match, places
from retrieval_draft.store.kernels import segment as kernels
from retrieval_draft.store.kernels.segment import Index
from retrieval_draft.store.segment import Segment
from tests.kernels import strategies
from tests.kernels import twins_segment as twins
from tests.kernels.strategies import int32s

QUICK = strategies.quick(80)
DEPTH, ROOM = 5, 12
seeds = st.integers(0, 2**32)


def texts(seed: int) -> list[list[int]]:
    """Some hundred tokens that repeat each other, in a few documents; some of these are empty."""
    draw = random.Random(seed)  # noqa: S311 - examples, no secrets
    size = draw.choice((2, 5, 40))
    ids = [draw.randrange(1 << 20) for _ in range(size)]
    phrases = [draw.choices(ids, k=draw.randint(1, 9)) for _ in range(6)]
    documents = []
    for _ in range(draw.randint(1, 5)):
        document: list[int] = []
        for _ in range(draw.randint(0, 18)):
            document += draw.choice(phrases) if draw.random() < 0.8 else draw.choices(ids, k=2)
        documents.append(document)
    return documents


def indexes(segment: Segment) -> Iterator[Index]:
    """The index with codes of two bytes, and the same with four."""
    yield segment.index
    wide = segment.index.codes.astype(np.int32)
    wide.flags.writeable = False
    yield segment.index._replace(codes=wide)


def built(documents: list[list[int]]) -> tuple[Segment, twins.World]:
    (segment,) = CorpusTier.of_documents([int32s(d) for d in documents]).segments
    return segment, twins.World(documents)


def queries(world: twins.World, seed: int, count: int) -> Iterator[list[int]]:
    """Tokens as the text has them, with errors and unknown tokens among them."""
    draw = random.Random(seed)  # noqa: S311 - examples, no secrets
    ids = [*world.vocabulary, 7]
    for _ in range(count):
        at = draw.randrange(len(world.text))
        codes = world.text[at : at + draw.randint(1, 12)]
        query = [world.vocabulary[code - 1] if code else draw.choice(ids) for code in codes]
        if draw.random() < 0.4:
            query[draw.randrange(len(query))] = draw.choice(ids)
        yield query


@QUICK
@given(seeds)
def test_a_segment_holds_the_sorted_suffixes_of_its_documents(seed: int) -> None:
    documents = texts(seed)
    segment, world = built(documents)
    index = segment.index
    assert index.vocabulary.tolist() == world.vocabulary
    assert index.codes.tolist() == world.text
    assert index.order.tolist() == world.order
    expected = twins.sample_keys(world, kernels.SAMPLE, kernels.KEY_BITS, kernels.KEY_TOKENS)
    assert index.keys.tolist() == expected
    firsts = [twins.bound(world, [code], 0) for code in range(len(world.vocabulary) + 1)]
    assert index.firsts.tolist() == [*firsts, len(world.text)]
    assert [document.tokens.tolist() for document in segment.read()] == documents
    assert (segment.documents, segment.token_count) == (len(documents), sum(map(len, documents)))
    assert segment.damaged_page() is None


@QUICK
@given(seeds)
def test_codes_and_intervals_are_those_of_looking_at_every_suffix(seed: int) -> None:
    segment, world = built(texts(seed))
    for index in indexes(segment):
        for token in [*world.vocabulary, 0, 7, (1 << 20) - 1, -1, 2**31 - 1]:
            assert kernels.code_of(index, token) == twins.code_of(world, token)
        for at in (-1, 0, len(world.text) // 2, len(world.text) - 1, len(world.text)):
            assert kernels.code_at(index, at) == twins.code_at(world, at)
        for query in queries(world, seed, 8):
            spelled = np.full(16, -9, np.int32)
            known = kernels.spell_query(index, int32s(query), spelled, len(query))
            key = twins.spell_query(world, query, len(query))
            assert spelled[16 - known :].tolist() == key
            assert spelled[15 - known] == 0
            if not key:
                continue
            codes = int32s(key)
            low, high = twins.interval(world, key)
            assert kernels.interval(index, codes, 0) == (low, high)
            for above, expected in ((0, low), (1, high)):
                start = twins.bound(world, key[:1], 0)
                assert kernels.bound(index, codes, 0, 0, start, len(world.text), above) == expected
            for rank in range(0, len(world.text), 7):
                assert kernels.compare(index, rank, codes, 0, 0) == twins.compare(world, rank, key)
    keys = segment.index.keys.tolist()
    for key_ in [0, *keys, *(k + 1 for k in keys)]:
        found = kernels.sample_bound(segment.index, 0, len(keys), key_)
        assert found <= len(keys)


@QUICK
@given(seeds, st.integers(0, 4), st.integers(1, 9), st.integers(1, 20))
def test_levels_are_the_longest_end_and_the_powers_of_two_below(
    seed: int, length_min: int, length_max: int, places_max: int
) -> None:
    """Carried along a sequence, cleared, or anew: the answer is the same."""
    segment, world = built(texts(seed))
    draw = random.Random(seed)  # noqa: S311 - examples, no secrets
    for index in indexes(segment):
        context: list[int] = []
        trail = np.full(kernels.TRAIL_LENGTH, -1, np.int64)
        levels = np.zeros((kernels.LEVELS_MAX, 3), np.int64)
        codes = np.zeros(length_max, np.int32)
        for piece in queries(world, seed, 12):
            context += piece[: draw.randint(0, 5)]
            if draw.random() < 0.1:
                context = context[: len(context) // 2]
                trail[:] = -1
            query = context[-length_max:]
            count = kernels.find_levels(
                index, int32s(query), len(context), length_min, length_max, places_max,
                codes, trail, levels,
            )  # fmt: skip
            expected = twins.find_levels(world, query, length_min, length_max, places_max)
            assert [tuple(row) for row in levels[:count].tolist()] == expected


@QUICK
@given(seeds, st.integers(1, 4), st.integers(1, 12), st.integers(1, 6))
def test_places_are_those_of_looking_at_every_suffix(
    seed: int, length_min: int, length_max: int, depth: int
) -> None:
    segment, world = built(texts(seed))
    for index in indexes(segment):
        for query in queries(world, seed, 6):
            trail = np.full(kernels.TRAIL_LENGTH, -1, np.int64)
            levels = np.zeros((kernels.LEVELS_MAX, 3), np.int64)
            codes = np.zeros(length_max, np.int32)
            windows, lengths = np.full((ROOM, 7), -9, np.int32), np.zeros(ROOM, np.int32)
            n = kernels.look(
                index, int32s(query), 0, length_min, length_max, depth, codes, trail, levels,
                windows, lengths,
            )  # fmt: skip
            found = list(zip(lengths[:n].tolist(), windows[:n, :depth].tolist(), strict=True))
            assert found == twins.look(world, query, length_min, length_max, depth, ROOM)
            assert (windows[:n, depth] == -1).all()
            for level in twins.find_levels(world, query, length_min, length_max, ROOM):
                step = max(3, -(-(level[2] - level[1]) // ROOM))
                n = kernels.copy_places(
                    index, codes, *level[:1], level[0] + 2, *level[1:], step, depth,
                    windows, lengths, 0,
                )  # fmt: skip
                found = list(zip(lengths[:n].tolist(), windows[:n, :depth].tolist(), strict=True))
                expected = twins.copy_places(
                    world, query, length_max, level, level[0] + 2, step, depth
                )
                assert found == expected


def drawn(segments: list[Segment], query: list[int], room: int = 8) -> list[tuple[int, list[int]]]:
    windows, lengths = np.empty((room, 2), np.int32), np.empty(room, np.int32)
    n = places(segments, Trails(), int32s(query), len(query), 2, 8, 2, windows, lengths)
    return list(zip(lengths[:n].tolist(), windows[:n].tolist(), strict=True))


def segments_of(*corpora: list[list[int]]) -> list[Segment]:
    return [segment for corpus in corpora for segment in built(corpus)[:1]]


def test_of_several_segments_the_longest_agreement_comes_first() -> None:
    short, long = [[9, 2, 3, 40]], [[1, 2, 3, 50], [8, 2, 3, 60]]
    expected = [(3, [50, -1]), (2, [40, -1]), (2, [60, -1])]
    assert drawn(segments_of(short, long), [1, 2, 3]) == expected
    assert sorted(drawn(segments_of(long, short), [1, 2, 3])) == sorted(expected)


def test_of_equal_agreements_in_several_segments_there_is_an_even_sample() -> None:
    often = [[1, 2, token] for token in range(100, 112)]
    once = [[1, 2, token] for token in range(200, 204)]
    found = [tokens[0] for _, tokens in drawn(segments_of(often, once), [1, 2])]
    assert sum(token < 200 for token in found) == 6
    assert sum(token >= 200 for token in found) == 2


def test_trails_follow_the_segments_of_the_moment() -> None:
    one, two = segments_of([[1, 2, 3]], [[1, 2, 4]])
    trails = Trails()
    first, second = trails.of([one, two])
    assert trails.of([two, one]) == [second, first]
    assert trails.of([one])[0] is first
    assert trails.of([one, two])[1] is not second
    trails.clear()
    assert trails.of([one])[0] is not first


def test_no_place_crosses_from_one_document_into_the_next() -> None:
    assert drawn(segments_of([[1, 2], [1, 2, 3], []]), [1, 2]) == [(2, [3, -1])]


@QUICK
@given(seeds, st.integers(1, 4), st.integers(1, 12))
def test_a_match_is_the_longest_known_end(seed: int, length_min: int, length_max: int) -> None:
    segment, world = built(texts(seed))
    for query in queries(world, seed, 5):
        found = match(segment, int32s(query), length_min, length_max)
        levels = twins.find_levels(world, query, length_min, length_max, 0)
        assert (found.length, found.low, found.high) == (levels[0] if levels else (0, 0, 0))


@settings(QUICK, max_examples=40)
@given(seeds)
def test_a_damaged_segment_gives_ids_of_its_vocabulary_or_is_refused(seed: int) -> None:
    segment, world = built(texts(seed))
    draw = random.Random(seed)  # noqa: S311 - examples, no secrets
    for _ in range(5):
        data = bytearray(bytes(segment._data))
        for _ in range(draw.choice((1, 30))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        for at in range(0, len(data), max(1, len(data) // 3)):
            data[at : at + 64] = draw.choice((data[at : at + 64], b"\xff" * 64, bytes(64)))
        data[: segment._base] = bytes(segment._data[: segment._base])
        try:
            damaged = Segment(bytes(data))
        except Exception as error:
            assert type(error).__name__ == "Corrupt"  # noqa: PT017 - anything else is a failure
            continue
        if bytes(data) != bytes(segment._data):
            assert damaged.damaged_page() == 0
        known = set(damaged.index.vocabulary.tolist())
        for query in queries(world, seed, 3):
            for _, window in drawn([damaged], query):
                assert set(window) <= known | {-1}


@QUICK
@given(st.lists(st.tuples(st.integers(1, 5), strategies.tokens), max_size=8), st.integers(0, 3))
def test_places_stand_longest_first_behind_the_others(
    rows: list[tuple[int, int]], first: int
) -> None:
    windows = np.full((8, 3), -1, np.int32)
    lengths = int32s([length for length, _ in rows])
    windows[: len(rows), 0] = [following for _, following in rows]
    table = np.full((16, PLACE_COLUMNS), -9, np.int32)
    standing.stand(windows, lengths, len(rows), first, table)
    own = table[first : first + len(rows)]
    assert [tuple(row) for row in own[:, [POSITION, LENGTH, NEXT]].tolist()] == twins.stand(rows, 3)
    assert (own[:, GAP] == 0).all()
    assert (table[:first] == -9).all()
    assert (table[first + len(rows) :] == -9).all()


@pytest.mark.parametrize("count", [0, 1])
def test_no_document_and_an_empty_one_are_corpora(count: int) -> None:
    tier = CorpusTier.of_documents([int32s([])] * count)
    assert (len(tier.segments), tier.documents, tier.token_count) == (count, count, 0)
    assert drawn(list(tier.segments), [1, 2]) == []
