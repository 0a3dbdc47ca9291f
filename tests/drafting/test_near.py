"""What neighbours say of the next token, moved on by what came since."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retrieval_draft.drafting.kernels.bins import CORPUS, GAP_LENGTHS
from retrieval_draft.drafting.kernels.evidence import GAP, LENGTH, NEXT, PLACES_MAX, POSITION
from retrieval_draft.drafting.near import (
    AGREED,
    DISAGREED,
    NEAR_MAX,
    SHARE_CLASSES,
    Near,
    near,
    share_class,
)
from retrieval_draft.drafting.places import WINDOW_TOKENS
from retrieval_draft.drafting.root import Root
from retrieval_draft.store.neighbours import Neighbours
from retrieval_draft.tree import int32s
from tests.drafting.sights import sight


def neighbours(*rows: tuple[Sequence[int], float]) -> Neighbours:
    """(what followed, similarity), the most similar first."""
    windows = int32s([[*tokens, *[-1] * (6 - len(tokens))] for tokens, _ in rows])
    return Neighbours(windows.reshape(-1, 6), np.array([s for _, s in rows], np.float32))


def said(found: Near | None) -> list[int]:
    return [] if found is None else found.windows[:, 0].tolist()


def test_tokens_are_proposed_by_what_all_neighbours_give_them() -> None:
    found = near(neighbours(([1, 2], 0.9), ([3, 4], 0.88), ([3, 5], 0.88)), int32s([]))
    assert found is not None
    assert said(found) == [3, 1]
    # The heaviest neighbour goes on for a token.
    assert found.windows[0, :2].tolist() == [3, 4]
    assert found.gaps.tolist() == [AGREED, AGREED]
    assert found.classes[0] > found.classes[1]


def test_neighbours_are_moved_on_by_what_came_since() -> None:
    found = near(neighbours(([7, 8, 1, 2], 0.9), ([7, 9, 3, 4], 0.9)), int32s([7, 8]))
    assert found is not None
    assert said(found) == [1, 3]
    assert found.gaps.tolist() == [AGREED, DISAGREED]
    assert found.windows[0, :3].tolist() == [1, 2, -1]


def test_one_that_went_the_same_way_outweighs_a_more_similar_one() -> None:
    found = near(neighbours(([9, 1], 0.95), ([7, 2], 0.9)), int32s([7]))
    assert said(found) == [2, 1]


def test_nothing_is_said_where_no_neighbour_goes_on() -> None:
    assert near(neighbours(), int32s([])) is None
    assert near(neighbours(([7, 8], 0.9)), int32s([7, 8])) is None
    assert near(neighbours(([1] * 6, 0.9)), int32s([1] * 6)) is None
    assert near(neighbours(([1] * 6, 0.9)), int32s([1] * 99)) is None


def test_share_classes_fall_by_half_for_every_two() -> None:
    assert [share_class(s) for s in (1.0, 0.72, 0.6, 0.4, 0.3, 0.001, 0.0)] == [7, 7, 6, 5, 4, 0, 0]
    assert SHARE_CLASSES == GAP_LENGTHS, "every class has a bin of its own"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), max_size=6), st.floats(0.2, 1)), max_size=12
    ).map(lambda rows: sorted(rows, key=lambda row: -row[1])),
    st.lists(st.integers(0, 3), max_size=7),
)
def test_what_is_proposed_followed_a_neighbour_and_is_distinct(
    rows: list[tuple[list[int], float]], since: list[int]
) -> None:
    found = near(neighbours(*rows), int32s(since))
    nexts = {tokens[len(since)] for tokens, _ in rows if len(tokens) > len(since)}
    assert set(said(found)) <= nexts
    assert bool(said(found)) == bool(nexts)
    assert len(said(found)) == min(NEAR_MAX, len(nexts))
    if found is not None:
        assert (np.diff(found.classes) <= 0).all()
        assert 0 <= found.classes.min() <= found.classes.max() < SHARE_CLASSES
        assert found.windows.dtype == found.gaps.dtype == found.classes.dtype == np.int32


def standing(root: Root) -> list[tuple[int, int, list[int]]]:
    """(length, gap, what follows) of the root's places of the corpora's scope, in order."""
    first, stop = root.segments[0, CORPUS : CORPUS + 2].tolist()
    found = []
    for place in root.places[0, first:stop]:
        behind = root.corpus[place[POSITION] :].tolist()
        followed = behind[: behind.index(-1)]
        assert followed[0] == place[NEXT]
        found.append((int(place[LENGTH]), int(place[GAP]), followed))
    return found


def test_neighbours_stand_behind_the_places_of_the_corpora_anew_in_every_step() -> None:
    seen = sight([1, 2, 3], corpora=[[[1, 2, 3, 4, 5], [9, 2, 3, 6]]])
    seen.stand_in(8)
    corpora = standing(seen.root)
    assert [followed for _, _, followed in corpora] == [[4, 5], [6]]
    long = Near(int32s([[7] * 96, [8] * 96]), int32s([AGREED, DISAGREED]), int32s([5, 2]))
    short = Near(int32s([[5, 1]]), int32s([DISAGREED]), int32s([3]))
    for _ in range(2):
        replace(seen, near=long).stand_in(8)
        near_places = [(5, AGREED, [7] * WINDOW_TOKENS), (2, DISAGREED, [8] * WINDOW_TOKENS)]
        assert standing(seen.root) == corpora + near_places
    replace(seen, near=short).stand_in(8)
    assert standing(seen.root) == [*corpora, (3, DISAGREED, [5, 1])]
    replace(seen, near=short, segments=()).stand_in(8)
    assert standing(seen.root) == [(3, DISAGREED, [5, 1])]
    seen.stand_in(8)
    assert standing(seen.root) == corpora


def test_where_there_is_not_room_for_all_neighbours_the_largest_shares_stand() -> None:
    root = Root()
    many = Near(int32s([[7, 1], [8, 1], [9, 1]]), int32s([AGREED] * 3), int32s([5, 4, 3]))
    for room in (2, 0):
        root.segments[0, CORPUS:] = PLACES_MAX - room
        root.stand_near(many)
        assert standing(root) == [(5, AGREED, [7, 1]), (4, AGREED, [8, 1])][:room]
