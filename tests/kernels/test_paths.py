"""The path map against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import paths as kernels
from retrieval_draft.drafting.mix import fresh_worth
from tests.kernels import strategies, twins
from tests.kernels.strategies import int32s

QUICK = settings(deadline=None, max_examples=300)
chances = st.floats(0, 1, width=32)


@QUICK
@given(strategies.trees(), st.integers(0, 99))
def test_a_node_is_worth_what_such_paths_have_been_and_never_more_than_its_parent(
    tree: tuple[list[int], list[int]], seed: int
) -> None:
    token, parent = tree
    chance = np.random.default_rng(seed)
    probability = np.asarray(chance.uniform(0, 1, len(token)) ** 3, np.float32)
    worth = fresh_worth()
    worth[0] = worth[1] * chance.uniform(0, 1, len(worth[1])).astype(np.float32)
    bins, mapped = np.empty(len(token), np.int32), np.empty(len(token), np.float32)
    kernels.map_paths(int32s(parent), probability, worth, bins, mapped)
    assert (bins.tolist(), mapped.tolist()) == twins.mapped_paths(parent, probability, worth)
    above = [float(mapped[p]) if p >= 0 else 1.0 for p in parent]
    assert all(p <= most for p, most in zip(mapped.tolist(), above, strict=True))


@QUICK
@given(
    strategies.trees(),
    st.lists(strategies.tokens, max_size=6),
    st.integers(0, 99),
    st.sampled_from([0.0, kernels.TRIALS_MAX - 23]),
)
def test_teaching_counts_every_node_that_the_tokens_decide(
    tree: tuple[list[int], list[int]], committed: list[int], seed: int, before: float
) -> None:
    token, parent = tree
    bins = np.random.default_rng(seed).integers(0, 4, len(token)).astype(np.int32)
    worth, expected = fresh_worth(), fresh_worth()
    worth[1] += np.float32(before)
    expected[1] += np.float32(before)
    kernels.teach_paths(int32s(token), int32s(parent), bins, int32s(committed), worth)
    twins.teach_paths(token, parent, bins.tolist(), committed, expected)
    assert (worth == expected).all()
    assert (worth[0] <= worth[1]).all()
    assert (worth[1] <= kernels.TRIALS_MAX).all()


@QUICK
@given(st.integers(1, 99), chances | st.sampled_from([0.0, 0.5, 0.25, 1.0, 1e-30]))
def test_paths_are_told_apart_by_depth_and_by_halves_of_a_power_of_two(
    depth: int, probability: float
) -> None:
    found = kernels.path_bin(depth, probability)
    assert found == twins.path_bin(depth, probability)
    assert 0 <= found < kernels.DEPTHS * kernels.LEVELS
