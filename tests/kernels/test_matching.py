"""Places that agree, found and moved, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import evidence
from retrieval_draft.drafting.kernels import matching as kernels
from retrieval_draft.store.ring import TokenRing
from tests.kernels import twins_matching as twins
from tests.kernels import worlds
from tests.kernels.strategies import int32s, quick
from tests.kernels.twins_evidence import Place, Places, World
from tests.kernels.twins_ngrams import Table
from tests.kernels.worlds import Both

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

NOWHERE: Places = ([], [], [])
few = st.lists(st.integers(0, 1), max_size=worlds.TEXT_MAX * 2)
with_boundaries = st.lists(st.integers(-1, 1), max_size=worlds.TEXT_MAX * 2)


def found_in(ring: TokenRing, context: TokenRing, first: int = 0) -> list[Place]:
    places = worlds.empty_nodes(1).places
    count = kernels.search(
        ring.tokens, ring.head, ring.prev, ring.low, ring.stop,
        context.tokens, context.low, context.stop, places, first,
    )  # fmt: skip
    return [Place(*row) for row in places[0, first : first + count].tolist()]


@quick(300)
@given(with_boundaries, few, st.integers(0, 9))
def test_search_finds_the_longest_agreements_and_then_the_newest(
    spoken: list[int], written: list[int], first: int
) -> None:
    learned, context = TokenRing(worlds.CAPACITY, 4), TokenRing(worlds.CAPACITY, 4)
    learned.extend(int32s(spoken))
    context.extend(int32s(written))
    text, own = dict(enumerate(spoken)), dict(enumerate(written))
    assert found_in(learned, context, first) == twins.search(text, own)
    assert found_in(context, context, first) == twins.search(own, own)


@quick(300)
@given(st.lists(st.integers(0, 2), max_size=80), st.integers(0, 3))
def test_what_search_finds_in_a_ring_that_went_round_is_true(text: list[int], back: int) -> None:
    ring = TokenRing(worlds.CAPACITY, 4)
    ring.extend(int32s(text))
    ring.truncate(max(ring.low, ring.stop - back))
    kept = {p: text[p] for p in range(ring.low, ring.stop)}
    places = found_in(ring, ring)
    assert [place.length for place in places] == sorted((p.length for p in places), reverse=True)
    for place in places:
        assert place.next == kept[place.position]
        assert place.length == twins.agreement(kept, place.position - 1, kept) >= 3


def test_an_agreement_counts_up_to_64_tokens_and_ends_at_a_boundary() -> None:
    context, learned = TokenRing(256, 4), TokenRing(256, 4)
    long = list(range(20, 90))
    context.extend(int32s(long))
    learned.extend(int32s([*long, 12, -1, *long[-5:], 13, -1, *long[-3:]]))
    assert found_in(learned, context) == [Place(70, 64, 12), Place(77, 5, 13)]


def test_short_agreements_are_looked_for_where_there_are_not_enough_long_ones() -> None:
    context = TokenRing(64, 4)
    context.extend(int32s([1, 2, 3, 4, 5, 6, 7]))
    for copies, lengths in ((3, [7, 7, 7, 3]), (4, [7] * 4), (9, [7] * 8)):
        learned = TokenRing(128, 4)
        for copy in range(copies):
            learned.extend(int32s([-1, 1, 2, 3, 4, 5, 6, 7, 10 + copy]))
        learned.extend(int32s([-1, 5, 6, 7, 9]))
        places = found_in(learned, context)
        assert [place.length for place in places] == lengths
        assert places[0].next == 9 + copies, "the newest first"


def test_interrupted_agreements_are_told_apart_by_what_they_were() -> None:
    for length in range(65):
        for gap in range(5):
            assert kernels.gap_after(length, gap) == twins.gap_after(length, gap)
    assert [kernels.gap_after(n, 0) for n in (2, 3, 15, 16)] == [0, 1, 1, 2]
    assert [kernels.gap_after(0, gap) for gap in (1, 2, 3, 4)] == [3, 3, 0, 0]
    assert [kernels.gap_after(1, gap) for gap in (1, 2, 3, 4)] == [3, 3, 4, 4]


@quick(300)
@given(worlds.worlds(), st.data(), st.lists(worlds.small, min_size=1, max_size=6))
def test_places_move_along_with_every_token_of_a_path(
    both: Both, data: st.DataObject, path: list[int]
) -> None:
    places = data.draw(worlds.places_in(both))
    nodes = worlds.empty_nodes(len(path) + 1)
    worlds.write_node(nodes, 0, both.tail(), 0, places)
    stop = len(both.written)
    for depth, token in enumerate(path, start=1):
        worlds.write_node(nodes, depth, both.tail(path[:depth]), depth, NOWHERE)
        kernels.move(
            both.tiers, nodes, depth - 1, token, stop, both.learned.stop, nodes, depth
        )  # fmt: skip
        places = twins.move(both.world, places, token, path[:depth], stop)
        assert worlds.read_places(nodes, depth) == places


def test_a_place_that_outruns_the_context_goes_on_with_the_path() -> None:
    context = TokenRing(64, 4)
    context.extend(int32s([7, 8, 9, 7, 8, 9, 7]))
    tiers = evidence.Tiers(
        context.tokens, context.table, *(TokenRing(8, 4).tokens, TokenRing(8, 4).table),
        int32s([-1]), int32s([[-1]]), np.zeros((1, 1), np.uint8), np.zeros(4, np.uint64),
        np.zeros(4, np.uint8), int32s([[-1]]), np.zeros((1, 1), np.uint16), int32s([[-1], [0]]),
    )  # fmt: skip
    nodes = worlds.empty_nodes(40)
    written = [7, 8, 9, 7, 8, 9, 7]
    worlds.write_node(nodes, 0, written[::-1], 0, ([Place(4, 4, 8)], [], []))
    for depth in range(1, 40):
        token = int(nodes.places[depth - 1, 0, evidence.NEXT])
        assert token == (8, 9, 7)[(depth - 1) % 3]
        written.append(token)
        worlds.write_node(nodes, depth, written[::-1][: evidence.TAIL], depth, NOWHERE)
        kernels.move(tiers, nodes, depth - 1, token, 7, 0, nodes, depth)
        assert nodes.places[depth, 0, evidence.LENGTH] == min(64, 4 + depth)


def test_a_near_copy_comes_back_after_another_word() -> None:
    # The copy says 5 where the text says 4: the place goes on as a gap, and agrees again from there.
    text = dict(enumerate([1, 2, 3, 4, 6, 7, 8]))
    world = World(text, {}, {}, Table(4), Table(4), [], {}, [])
    places: Places = ([Place(3, 3, 4)], [], [])
    places = twins.move(world, places, 5, [5], 7)
    assert places[0] == [Place(4, 0, 6, gap=1)]
    places = twins.move(world, places, 6, [5, 6], 7)
    assert places[0] == [Place(5, 1, 7, gap=1)]


@quick(300)
@given(worlds.worlds(), st.data())
def test_a_root_is_searched_anew_and_keeps_what_was_interrupted(
    both: Both, data: st.DataObject
) -> None:
    moved_places = data.draw(worlds.places_in(both))
    moved, root = worlds.empty_nodes(1), worlds.empty_nodes(1)
    worlds.write_node(moved, 0, [], 0, moved_places)
    context, learned = both.context, both.learned
    kernels.renew(
        both.tiers, context.head, context.prev, context.low, context.stop,
        learned.head, learned.prev, learned.low, learned.stop, moved, root,
    )  # fmt: skip
    assert worlds.read_places(root, 0) == twins.renew(both.world, moved_places)
