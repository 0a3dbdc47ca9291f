"""Fusing two trees, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import fuse as kernels
from retrieval_draft.drafting.kernels import paths
from retrieval_draft.tree import Float32Array
from tests.kernels import strategies
from tests.kernels import twins_fuse as twins
from tests.kernels.strategies import int32s, quick, tokens
from tests.kernels.twins_paths import line_to

Edges = tuple[list[int], list[int]]


def probabilities(parent: list[int], dice: np.random.Generator) -> Float32Array:
    found = np.empty(len(parent), np.float32)
    for i, above in enumerate(parent):
        found[i] = dice.uniform(0.01, 1.0) * (found[above] if above >= 0 else 1.0)
    return found


def test_levels_fall_with_the_share() -> None:
    shares = np.geomspace(1e-6, 1, 300).tolist()
    levels = [int(kernels.share_level(share)) for share in shares]
    assert levels == [twins.share_level(share) for share in shares]
    assert levels == sorted(levels, reverse=True)
    assert set(levels) == set(range(kernels.LISTED, kernels.SHARES))
    assert kernels.share_level(0.0) == kernels.SHARES - 1


@quick(200)
@given(
    strategies.trees(nodes_max=10),
    strategies.trees(nodes_max=10),
    st.lists(st.lists(tokens, max_size=5), max_size=3),
    st.integers(0, 99),
)
def test_the_union_its_worth_the_best_of_it_and_what_it_learns(
    first: Edges, second: Edges, told: list[list[int]], seed: int
) -> None:
    dice = np.random.default_rng(seed)
    worth = np.stack(
        [dice.uniform(0, 1, kernels.BINS), dice.uniform(380, 400, kernels.BINS)], axis=1
    ).astype(np.float32)
    trials = dice.uniform(1, 2048, paths.BINS)
    path_worth = np.stack([trials * dice.uniform(0, 1, paths.BINS), trials]).astype(np.float32)
    path_scale = dice.uniform(0.25, 4, paths.DEPTHS).astype(np.float32)
    both = [(*edges, probabilities(edges[1], dice)) for edges in (first, second)]
    masks = dice.integers(1, 1 << 19, (2, 10)).astype(np.uint32)
    room, split = len(first[0]) + len(second[0]), len(first[0])
    token, parent, bins, path_bins = np.empty((4, room), np.int32)
    probability, source = np.empty(room, np.float32), np.empty(room, np.uint32)
    size = kernels.unite(
        int32s([*first[0], *second[0]]), int32s([*first[1], *second[1]]),
        np.concatenate([both[0][2], both[1][2]]),
        np.concatenate([masks[0, :split], masks[1, : room - split]]),
        split, worth, path_worth, path_scale, token, parent, probability, source, bins, path_bins,
    )  # fmt: skip
    plain = worth.astype(np.float64).tolist()
    trees = [(t, p, q.tolist(), mask.tolist()) for (t, p, q), mask in zip(both, masks, strict=True)]
    nodes = twins.unite(
        trees[0], trees[1], plain, path_worth.astype(np.float64).tolist(), path_scale.tolist()
    )
    found = [tuple(line_to(i, token.tolist(), parent.tolist())) for i in range(size)]
    assert found == list(nodes)
    assert bins[:size].tolist() == [node.bin for node in nodes.values()]
    assert source[:size].tolist() == [node.source for node in nodes.values()]
    assert probability[:size] == pytest.approx([n.probability for n in nodes.values()], rel=1e-4)

    nodes_max, depth_max, children_max = dice.integers(1, [12, 5, 4]).tolist()
    floor, ends = float(dice.choice([0.0, 0.05])), dice.integers(0, 6, 1).tolist()
    picked = np.full(nodes_max, -9, np.int32)
    count = kernels.pick(
        token, parent, probability, size, nodes_max, depth_max, children_max, floor, int32s(ends),
        picked,
    )  # fmt: skip
    worths = {path: float(probability[i]) for i, path in enumerate(found)}
    expected = twins.pick(worths, nodes_max, depth_max, children_max, floor, ends)
    assert [found[i] for i in picked[:count]] == expected
    assert (picked[count:] == -9).all()

    numbers = dict(zip(found, bins.tolist(), strict=False))
    for committed in told:
        kernels.teach_fused(token[:size], parent[:size], bins[:size], int32s(committed), worth)
        twins.teach_fused(numbers, committed, plain)
    assert np.allclose(worth, plain, rtol=1e-4)
