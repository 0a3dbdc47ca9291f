"""Bins and evidence, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import bins, gathering
from retrieval_draft.drafting.kernels import evidence as kernels
from tests.kernels import twins_evidence as twins
from tests.kernels import twins_ngrams as ngrams
from tests.kernels import worlds
from tests.kernels.strategies import int32s, quick
from tests.kernels.twins_evidence import Place
from tests.kernels.worlds import Both

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def test_classes_cover_all_values_in_order() -> None:
    for kernel, twin, count in (
        (bins.length_class, twins.length_class, bins.LENGTH_CLASSES),
        (bins.total_class, twins.total_class, bins.TOTALS),
        (bins.agreement_class, twins.agreement_class, 4),
    ):
        classes = [int(kernel(n)) for n in range(200)]
        assert classes == [twin(n) for n in range(200)]
        assert classes == sorted(classes)
        assert set(classes) == set(range(count))


def test_the_levels_of_a_blend_cover_all_probabilities_in_order() -> None:
    levels = [int(bins.blend_level(i / 8192)) for i in range(8193)]
    assert levels == [twins.blend_level(i / 8192) for i in range(8193)]
    assert bins.blend_level(0.5 - 1e-16) == bins.blend_level(0.5), "whatever rounding makes of it"
    assert levels == sorted(levels)
    assert set(levels) == set(range(bins.BLEND_LEVELS))
    assert bins.blend_level(-3.0) == 0
    assert bins.blend_level(7.0) == bins.BLEND_LEVELS - 1


def test_expected_tokens_have_bins_of_their_own() -> None:
    for order in range(1, 5):
        for visits in range(1, 65):
            found = [int(bins.stand_bin(share, order, visits)) for share in range(0, 65536, 5)]
            assert found == [twins.stand_bin(share, order, visits) for share in range(0, 65536, 5)]
            assert 0 <= min(found) <= max(found) < bins.STAND_BINS
            assert found[1:] == sorted(found[1:], reverse=True)
            assert found[0] >= bins.STAND_ABSENT > max(found[1:])


def test_the_inputs_bins_do_not_overlap() -> None:
    sizes = np.diff(bins.OFFSETS)
    assert len(sizes) == bins.INPUTS
    assert sizes.min() > 0
    assert bins.OFFSETS[-1] == bins.BINS


@quick(500)
@given(worlds.worlds(), st.data(), st.sampled_from([0.0, 0.0, 0.01, 0.1]))
def test_evidence_is_what_each_source_says_of_each_candidate(
    both: Both, data: st.DataObject, floor: float
) -> None:
    places = data.draw(worlds.places_in(both))
    path = data.draw(st.lists(worlds.small, max_size=4))
    nodes, found = worlds.empty_nodes(3), worlds.empty_found()
    worlds.write_node(nodes, 1, both.tail(path), len(path), places)
    gathering.gather(found, both.tiers, nodes, 1, floor)
    expected = twins.gather(both.world, places, both.tail(path), floor)
    got = worlds.read_found(found)
    assert list(got.listed) == list(expected.listed)
    assert got.items == expected.items
    assert got.absent == expected.absent
    assert got.blend == pytest.approx(expected.blend, rel=1e-9)
    assert got.blended == expected.blended
    assert (got.orders, got.longest) == (expected.orders, expected.longest)
    for _, index, b in got.items:
        assert bins.OFFSETS[index] <= b < bins.OFFSETS[index + 1]
    for index, b in got.absent.items():
        assert bins.OFFSETS[index] <= b < bins.OFFSETS[index + 1]
    for pair in got.blended.values():
        for k, b in enumerate(pair):
            assert bins.OFFSETS[bins.BLEND + k] <= b < bins.OFFSETS[bins.BLEND + k + 1]
    assert sum(got.blend.values()) <= 1 + 1e-9


def test_matches_are_ranked_by_their_length_and_shared_by_how_many_agree() -> None:
    found, nodes = worlds.empty_found(), worlds.empty_nodes(1)
    found.slots[:] = 0
    found.rows[kernels.COUNTS] = 0
    lengths = [(7, 1), (7, 2), (3, 3), (3, 1), (3, 3)]
    places = [Place(10 * i, length, token) for i, (length, token) in enumerate(lengths)]
    worlds.write_node(nodes, 0, [], 0, ([*places, Place(90, 5, 4, gap=2)], [], []))
    gathering.list_places(found, nodes, 0, bins.CONTEXT)
    said = {
        token: (index, b - int(bins.OFFSETS[index]))
        for token, index, b in worlds.read_found(found).items
    }
    # (length class, rank, share of 5 places in fifths, less one)
    cells = {1: (6, 0, 1), 2: (6, 1, 0), 3: (2, 2, 1)}
    shape = (bins.LENGTH_CLASSES, bins.RANKS, bins.SHARES)
    expected = {t: (bins.MATCH, int(np.ravel_multi_index(c, shape))) for t, c in cells.items()}
    assert said == {**expected, 4: (bins.GAPPED, 1 * bins.GAP_LENGTHS + 5)}


def test_a_blend_trusts_the_context_more_and_every_order_as_far_as_it_has_seen() -> None:
    # After 5: in the context 7 twice; in the learned tier 7 once and 8 once. Nothing else is known.
    world = twins.World({}, {}, {}, ngrams.Table(4), ngrams.Table(4), [], {}, [])
    for token in (7, 7):
        ngrams.see(world.context_table, ngrams.hash_of([5]), 0, token)
    for token in (7, 8):
        ngrams.see(world.learned_table, ngrams.hash_of([5]), 0, token)
    blend = twins.gather(world, ([], [], []), [5], 0.0).blend
    # Counts are doubled: 4 * 4 + 4 in all, two distinct followers doubted with 2.5 each.
    assert blend == pytest.approx({7: 18 / 25, 8: 2 / 25})


@quick(200)
@given(st.lists(st.integers(0, 2**31 - 1), max_size=120), st.integers(1, 2**20))
def test_candidates_are_found_again_and_those_beyond_the_room_are_not_made(
    wanted: list[int], step: int
) -> None:
    wanted = [*wanted, *range(0, 90 * step, step), *wanted]
    found = worlds.empty_found()
    found.slots[:] = 0
    found.rows[kernels.COUNTS] = 0
    expected = twins.Evidence()
    for token in wanted:
        c = kernels.candidate(found, token)
        if expected.has_room(token):
            assert c == list(expected.listed).index(token)
            assert found.rows[kernels.TOKEN, c] == token
        else:
            assert c == -1
    assert found.rows[kernels.COUNTS, kernels.CANDIDATES] == len(expected.listed)


def test_a_full_house_stays_within_the_arrays() -> None:
    """The most items that all sources can list at once."""
    orders = 2 * sum((7, 7, 3, 3, 3))
    most = kernels.PLACES_MAX + orders + bins.SUCCESSORS + 10 + bins.COMMON_ASKED
    assert most <= kernels.FOUND_WIDTH
    assert max(kernels.CANDIDATES_MAX, bins.INPUTS) <= kernels.FOUND_WIDTH
    assert kernels.CANDIDATES_MAX < kernels.SLOTS == 1 << (32 - kernels.HASH_SHIFT)
    assert int32s([bins.BINS])[0] == bins.BINS
