"""The path map, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import paths as kernels
from tests.kernels import strategies
from tests.kernels import twins_paths as twins
from tests.kernels.strategies import int32s, quick, tokens


def test_bins_cover_the_map_in_order() -> None:
    found = set()
    for depth in range(1, 65):
        assert kernels.depth_class(depth) == twins.depth_class(depth)
        row = [int(kernels.path_bin(depth, p)) for p in np.geomspace(1e-6, 1, 500)]
        assert row == [twins.path_bin(depth, p) for p in np.geomspace(1e-6, 1, 500)]
        assert row == sorted(row, reverse=True)
        found |= set(row)
    assert found == set(range(kernels.BINS))
    assert kernels.path_bin(1, 0.0) == kernels.path_bin(1, 1e-30) == kernels.LEVELS - 1


@quick(300)
@given(
    strategies.trees(nodes_max=20),
    st.lists(st.lists(tokens, max_size=5), max_size=3),
    st.integers(0, 99),
    st.booleans(),
)
def test_paths_are_mapped_to_what_such_paths_have_been_worth_and_taught_by_what_followed(
    tree: tuple[list[int], list[int]], told: list[list[int]], seed: int, nearly_full: bool
) -> None:
    token, parent = tree
    size = len(token)
    dice = np.random.default_rng(seed)
    trials = dice.uniform(2046 if nearly_full else 1, 2048, kernels.BINS)
    worth = np.stack([trials * dice.uniform(0, 1, kernels.BINS), trials]).astype(np.float32)
    scale = dice.uniform(0.25, 4, kernels.DEPTHS).astype(np.float32)
    estimates = dice.uniform(0, 1, size + 2).astype(np.float32)
    probability, bins = estimates.copy(), np.full(size + 2, -9, np.int32)
    kernels.map_paths(int32s([*parent, -9, -9]), probability, size, worth, scale, bins)
    plain = [row.astype(np.float64).tolist() for row in worth]
    plain_scale = scale.astype(np.float64).tolist()
    nodes = twins.map_paths(parent, estimates.tolist(), plain, plain_scale)
    assert bins[:size].tolist() == [depth * kernels.BINS + b for depth, b, _ in nodes]
    assert probability[:size] == pytest.approx([p for _, _, p in nodes], rel=1e-5)
    assert (bins[size:] == -9).all()
    assert (probability[size:] == estimates[size:]).all()
    assert all(
        p <= (probability[above] if above >= 0 else 1.0)
        for p, above in zip(probability[:size], parent, strict=True)
    )
    for committed in told:
        kernels.teach_paths(
            int32s(token), int32s(parent), probability[:size].copy(), bins[:size].copy(),
            int32s(committed), worth, scale,
        )  # fmt: skip
        twins.teach_paths(token, parent, nodes, committed, plain, plain_scale)
    assert np.allclose(worth, plain, rtol=1e-5)
    assert np.allclose(scale, plain_scale, rtol=1e-5)


def test_what_is_kept_of_a_depth_and_what_was_promised_come_together() -> None:
    """The map is late by its trials; the scale is not."""
    worth = np.full((2, kernels.BINS), 1000, np.float32)
    worth[0] = 900
    scale = np.ones(kernels.DEPTHS, np.float32)
    token, parent = int32s([1]), int32s([-1])
    promised, kept = 0.0, 0
    for step in range(6000):
        probability, bins = np.array([0.9], np.float32), int32s([0])
        kernels.map_paths(parent, probability, 1, worth, scale, bins)
        came = int(step % 10 < 3)
        if step >= 5000:
            promised, kept = promised + float(probability[0]), kept + came
        kernels.teach_paths(token, parent, probability, bins, int32s([came]), worth, scale)
    assert promised == pytest.approx(kept, rel=0.05)
