"""Growth and following, against plain Python."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import following, frontier, growth, matching
from retrieval_draft.drafting.kernels import paths as path_kernels
from retrieval_draft.drafting.kernels.bins import COMMON_KEPT, CONTEXT
from retrieval_draft.drafting.kernels.contexts import (
    DEPTH_MAX,
    END,
    ENDS,
    ENDS_COUNT,
    FIRST,
    LOW,
    NODES_MAX,
    STOP,
    TEACHING_FROM,
)
from retrieval_draft.drafting.kernels.evidence import Nodes
from retrieval_draft.drafting.kernels.mixing import Skill
from retrieval_draft.store.ring import TokenRing
from tests.kernels import twins_following, twins_mixing, twins_paths, worlds
from tests.kernels import twins_growth as twins
from tests.kernels.strategies import VOCAB, int32s, quick
from tests.kernels.twins_evidence import Place, Places
from tests.kernels.worlds import Both

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

limits = st.tuples(
    st.integers(0, 14),
    st.integers(1, 6),
    st.integers(1, 3) | st.just(1 << 16),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.01, 0.2]),
    st.lists(st.integers(0, VOCAB - 1), max_size=2),
)


@quick(400)
@given(worlds.worlds(), st.data(), st.integers(0, 99), limits)
def test_a_tree_takes_the_most_probable_candidate_next(
    both: Both,
    data: st.DataObject,
    seed: int,
    limit: tuple[int, int, int, bool, float, list[int]],
) -> None:
    places = data.draw(worlds.places_in(both))
    skill = worlds.skill_of(seed)
    nodes_max, depth_max, children_max, chain, floor, ends = limit
    root = worlds.empty_nodes(1)
    worlds.write_node(root, 0, both.tail(), 0, places)
    dice = np.random.default_rng(seed)
    trials = dice.uniform(20, 200, path_kernels.BINS)
    worth = np.stack([trials * dice.uniform(0, 1, path_kernels.BINS), trials]).astype(np.float32)
    scale = dice.uniform(0.5, 2, path_kernels.DEPTHS).astype(np.float32)
    worths, scales = flat_paths(), np.ones((worlds.CLASSES, 2, path_kernels.DEPTHS), np.float32)
    worths[1, int(chain)], scales[1, int(chain)] = worth, scale
    block = grown_block(
        both, [root], [1], [nodes_max], skill, worths, scales, depth_max, children_max, chain, floor, ends
    )  # fmt: skip
    token, parent, probability, source, bins = (plane[0] for plane in block)
    size = len(token)
    try:
        grown = twins.grow(
            both.world, twins_mixing.Skill(*skill), places, both.tail(), both.context.stop,
            max(growth.SHADOW_NODES, nodes_max), depth_max, children_max, chain, floor, ends,
        )  # fmt: skip
    except twins.OnEdge:
        reject()
    assert token[:size].tolist() == [node.token for node in grown]
    assert parent[:size].tolist() == [node.parent for node in grown]
    assert source[:size].tolist() == [twins.sources_of(node.listed) for node in grown]
    above = [node.parent for node in grown]
    estimates = [float(np.float32(node.probability)) for node in grown]
    mapped = twins_paths.map_paths(
        above, estimates, worth.astype(np.float64).tolist(), scale.astype(np.float64).tolist()
    )
    assert bins[:size].tolist() == [d * path_kernels.BINS + b for d, b, _ in mapped]
    assert probability[:size] == pytest.approx([p for _, _, p in mapped], rel=1e-5)


@quick(150)
@given(worlds.worlds(), st.data(), st.integers(0, 99), st.integers(0, 12), st.integers(0, 12))
def test_a_larger_tree_begins_with_the_smaller_one(
    both: Both, data: st.DataObject, seed: int, fewer: int, more: int
) -> None:
    root = worlds.empty_nodes(1)
    worlds.write_node(root, 0, both.tail(), 0, data.draw(worlds.places_in(both)))
    # Common tokens below what waits are left out, which may move what else they were listed by.
    both.tiers.common[:] = 0
    both.tiers.common[0] = -1
    skill = worlds.skill_of(seed)
    scales = np.ones((worlds.CLASSES, 2, path_kernels.DEPTHS), np.float32)
    trees = []
    for nodes_max in (fewer, fewer + more):
        block = grown_block(
            both, [root], [1], [nodes_max], skill, flat_paths(), scales, 6, 1 << 16, False, 0.0, []
        )
        trees.append(list(zip(block[0][0].tolist(), block[1][0].tolist(), strict=True)))
    assert trees[1][: len(trees[0])] == trees[0]


@quick(100)
@given(
    worlds.worlds(),
    st.data(),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 9)), min_size=1, max_size=4),
    st.booleans(),
)
def test_a_batch_grows_every_tree_as_if_it_were_alone(
    both: Both, data: st.DataObject, batch: list[tuple[int, int]], chain: bool
) -> None:
    kinds, nodes = [kind for kind, _ in batch], [most for _, most in batch]
    roots = []
    for _ in batch:
        roots.append(worlds.empty_nodes(1))
        worlds.write_node(roots[-1], 0, both.tail(), 0, data.draw(worlds.places_in(both)))
    skill, scales = (
        worlds.skill_of(3),
        np.ones((worlds.CLASSES, 2, path_kernels.DEPTHS), np.float32),
    )
    rest = skill, flat_paths(), scales, 5, 3, chain, 0.0, [1]
    together = grown_block(both, roots, kinds, nodes, *rest)
    for i, root in enumerate(roots):
        alone = grown_block(both, [root], [kinds[i]], [nodes[i]], *rest)
        for plane, its in zip(together, alone, strict=True):
            assert plane[i].tolist() == its[0].tolist()
    assert all(nodes[i] >= 0 or not len(one) for i, one in enumerate(together[0]))


def flat_paths() -> np.ndarray:
    return np.ones((worlds.CLASSES, 2, 2, path_kernels.BINS), np.float32)


def grown_block(
    both: Both,
    roots: list[Nodes],
    kinds: list[int],
    nodes: list[int],
    skill: Skill,
    path_worth: np.ndarray,
    path_scale: np.ndarray,
    depth_max: int,
    children_max: int,
    chain: bool,
    floor: float,
    ends: list[int],
) -> list[list[np.ndarray]]:
    """By plane and sequence what was grown; all classes have the same skill."""
    t, corpus, end_tokens = both.tiers, both.tiers.corpus, int32s(ends)
    end_at = end_tokens.ctypes.data
    rows = np.array(
        [
            worlds.row_of(
                both.context,
                root,
                corpus,
                kind,
                {NODES_MAX: most, DEPTH_MAX: depth_max, ENDS: end_at, ENDS_COUNT: len(ends)},
            )
            for root, kind, most in zip(roots, kinds, nodes, strict=True)
        ],
        np.int64,
    )
    room = max(growth.SHADOW_NODES, *nodes)
    block = np.full((growth.PLANES, len(rows), room), -9, np.int32)
    sizes = np.full(len(rows), -9, np.int64)
    everything: list[np.ndarray] = [t.common, *skill]
    common, worth, stretch, weights = (np.stack([one] * worlds.CLASSES) for one in everything)
    for first in range(0, len(rows), 2):
        growth.grow(
            rows, t.learned, t.learned_table, both.learned.stop, t.successors, t.logprobs,
            t.stand_keys, t.stand_visits, t.stand_tokens, t.stand_shares, common, worth, stretch, weights,
            path_worth, path_scale, children_max, int(chain), floor,
            block, sizes, first, min(first + 2, len(rows)),
        )  # fmt: skip
    kinds_of = (np.int32, np.int32, np.float32, np.uint32, np.int32)
    return [
        [block[plane, i, : sizes[i]].view(kind) for i in range(len(rows))]
        for plane, kind in enumerate(kinds_of)
    ]


def test_every_input_that_lists_candidates_is_named() -> None:
    for index in twins.ALL_INPUTS:
        assert int(frontier.sources_of(1 << index)) == twins.sources_of(frozenset([index]))
    everything = sum(1 << index for index in twins.ALL_INPUTS)
    assert int(frontier.sources_of(everything)) == twins.sources_of(frozenset(twins.ALL_INPUTS))
    assert int(frontier.sources_of(0)) == 0


def followed(
    both: Both, skill: Skill, root: Nodes, tokens: list[int], teaching_from: int, kind: int = 2
) -> None:
    """The kernel's changes of the class's skill and common tokens; those of others stay as they are."""
    follow_rows(both, [root], [tokens], [teaching_from], [kind], skill)
    both.context.advance(len(tokens))


def follow_rows(
    both: Both,
    roots: list[Nodes],
    texts: list[list[int]],
    teaching: list[int],
    kinds: list[int],
    skill: Skill,
) -> None:
    t, learned = both.tiers, both.learned
    rows, at = [], 0
    for root, text, teaching_from, kind in zip(roots, texts, teaching, kinds, strict=True):
        end = at + len(text)
        came = {FIRST: at, END: end, TEACHING_FROM: teaching_from}
        rows.append(worlds.row_of(both.context, root, t.corpus, kind, came))
        at = end
    kind = kinds[0]
    arrays = [worlds.by_class(array, kind) for array in (t.common, *skill)]
    before = [array.copy() for array in arrays]
    common, worth, stretch, weights = arrays
    table = np.array(rows, np.int64)
    following.follow(
        table, t.learned, t.learned_table, learned.head, learned.prev,
        learned.low, learned.stop, t.successors, t.logprobs, t.stand_keys, t.stand_visits,
        t.stand_tokens, t.stand_shares, common, worth, stretch, weights,
        int32s([one for text in texts for one in text]),
    )  # fmt: skip
    assert table[:, STOP].tolist() == [both.context.stop + len(text) for text in texts]
    assert (
        table[:, LOW] == np.maximum(both.context.low, table[:, STOP] - both.context.capacity)
    ).all()
    for array, old, mine in zip(arrays, before, (t.common, *skill), strict=True):
        mine[:] = array[kind]
        others = [one for one in range(worlds.CLASSES) if one != kind]
        assert (array[others] == old[others]).all(), "each class learns for itself"


@quick(300)
@given(
    worlds.worlds(),
    st.data(),
    st.integers(0, 9),
    st.lists(
        st.tuples(
            st.lists(worlds.small | st.integers(0, VOCAB - 1), max_size=6), st.integers(0, 7)
        ),
        max_size=2,
    ),
)
def test_every_token_teaches_before_it_is_learned(
    both: Both, data: st.DataObject, seed: int, parts: list[tuple[list[int], int]]
) -> None:
    skill, root, plain = worlds.skill_of(seed), worlds.empty_nodes(1), twins_following.Root()
    plain.places = data.draw(worlds.places_in(both))
    plain.tail = both.tail()
    worlds.write_node(root, 0, plain.tail, 0, plain.places)
    expected = twins_mixing.Skill(*skill)
    for tokens, teaching_from in parts:
        followed(both, skill, root, tokens, teaching_from)
        twins_following.follow(both.world, plain, expected, tokens, teaching_from)
        if tokens:
            assert worlds.read_places(root, 0) == plain.places
            tail = [token for token in root.tails[0, :-1].tolist() if token >= 0]
            assert tail == plain.tail
    # A bin on the edge of two steps of its logit may fall to either side.
    assert np.allclose(skill.weights, expected.weights, atol=1e-4)
    assert np.allclose(skill.worth, expected.worth, atol=1e-4)
    common = both.tiers.common
    assert common[:, : len(both.world.common)].T.tolist() == both.world.common
    assert common[1, COMMON_KEPT] == both.world.common_total
    assert both.context.read(0, both.context.stop).tolist() == list(both.world.context.values())


@quick(100)
@given(
    st.lists(worlds.small, max_size=40) | st.lists(worlds.small, min_size=40, max_size=80),
    st.lists(st.integers(0, 40), max_size=4),
    st.integers(0, 90),
)
def test_a_context_that_was_followed_is_one_that_was_extended_however_it_came(
    text: list[int], cuts: list[int], teaching_from: int
) -> None:
    """The same bytes; also where the ring goes round."""
    whole, pieces = (Both(*worlds.empty_world(worlds.CAPACITY, 16)) for _ in range(2))
    plain = TokenRing(worlds.CAPACITY, 16)
    for token in text:
        plain.extend(int32s([token]))
    skills = worlds.skill_of(1), worlds.skill_of(1)
    roots = worlds.empty_nodes(1), worlds.empty_nodes(1)
    followed(whole, skills[0], roots[0], text, teaching_from)
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for first, stop in pairwise(bounds):
        followed(pieces, skills[1], roots[1], text[first:stop], max(0, teaching_from - first))
    for both in (whole, pieces):
        ring = both.context
        assert (ring.low, ring.stop) == (plain.low, plain.stop)
        for name in ("tokens", "head", "prev", "table"):
            assert (getattr(ring, name) == getattr(plain, name)).all(), name
    for place in worlds.read_places(roots[0], 0)[CONTEXT]:
        assert place.position > plain.low
        assert text[place.position] == place.next
    if len(text) <= teaching_from:
        return
    # Nothing was interrupted while the prompt came: the places are the same ones.
    assert whole.tiers.common.tolist() == pieces.tiers.common.tolist()
    if not cuts or teaching_from == 0:
        assert all((a == b).all() for a, b in zip(*skills, strict=True))


def test_a_loop_is_told_from_a_long_repetition() -> None:
    root = worlds.empty_nodes(1)
    for back, length, gap, loops in (
        (16, 64, 0, True), (1, 64, 0, True), (17, 64, 0, False), (16, 63, 0, False), (3, 64, 1, False),
    ):  # fmt: skip
        places: Places = ([Place(100 - back, length, 1, gap)], [], [])
        worlds.write_node(root, 0, [], 0, places)
        assert bool(following.in_loop(root, 100)) == loops
        assert twins_following.in_loop(twins_following.Root([], places), 100) == loops
    assert matching.AGREEMENT_MAX == 64
