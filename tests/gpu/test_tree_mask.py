"""Masks against their plain definition, entry by entry."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.gpu.tree_mask import MaskMaker, Masks, batched, rooted
from retrieval_draft.tree import DraftTree
from tests.gpu.drafters import random_tree

LENGTH, NODES_MAX = 40, 12
LOWEST = torch.finfo(torch.float32).min

cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, NODES_MAX), st.integers(0, 25))
windows = st.sampled_from((None, 1, 3, 8, 100))


def maker(window: int | None) -> MaskMaker:
    return MaskMaker(LENGTH, NODES_MAX, window, torch.float32, torch.device("cpu"))


def defined(tree: DraftTree, cached: int, used: int, window: int | None) -> torch.Tensor:
    """Node by node: who is an ancestor, and how far back it stands."""
    parents = [-1, *(parent + 1 for parent in tree.parent.tolist())]
    depth = [0, *(d + 1 for d in tree.depths().tolist())]
    mask = torch.full((len(parents), used), LOWEST)
    for node in range(len(parents)):
        seen = {cached + node: depth[node]}
        ancestor = parents[node] if node else -1
        while ancestor >= 0:
            seen[cached + ancestor] = depth[ancestor]
            ancestor = parents[ancestor] if ancestor else -1
        positions = {k: k for k in range(cached)} | {k: cached + d for k, d in seen.items()}
        for entry, position in positions.items():
            if window is None or cached + depth[node] - position < window:
                mask[node, entry] = 0
    return mask


def check(masks: Masks, row: int, tree: DraftTree, cached: int, window: int | None) -> None:
    n, used = len(tree) + 1, masks.full.shape[-1]
    assert torch.equal(masks.full[row, 0, :n], defined(tree, cached, used, None))
    assert torch.equal(masks.sliding[row, 0, :n], defined(tree, cached, used, window))


@settings(max_examples=80, deadline=None)
@given(st.lists(cases, min_size=1, max_size=4), windows)
def test_the_mask_of_one_tree_is_the_defined_one(
    steps: list[tuple[int, int, int]], window: int | None
) -> None:
    masks = maker(window)  # used again and again: nothing of the last tree may remain
    for seed, nodes, cached in steps:
        tree = random_tree(np.random.default_rng(seed), nodes, 50)
        made = masks.one(cached, *rooted(tree)) if len(tree) else masks.one(cached, None, None)
        assert made.full.shape == (1, 1, len(tree) + 1, cached + len(tree) + 1)
        check(made, 0, tree, cached, window)


@settings(max_examples=80, deadline=None)
@given(st.lists(cases, min_size=2, max_size=4), windows)
def test_the_masks_of_a_ragged_batch_are_the_defined_ones(
    rows: list[tuple[int, int, int]], window: int | None
) -> None:
    trees = [random_tree(np.random.default_rng(seed), nodes, 50) for seed, nodes, _ in rows]
    cached = torch.tensor([length for _, _, length in rows])
    if any(len(tree) for tree in trees):
        sees, depth = batched([rooted(tree) for tree in trees])
        made = maker(window).many(cached, int(cached.max()), sees, torch.from_numpy(depth))
    else:
        made = maker(window).many(cached, int(cached.max()), None, None)
    for row, tree in enumerate(trees):
        check(made, row, tree, int(cached[row]), window)
    # No row of the mask, fillers included, may see nothing at all: its softmax would be NaN.
    assert bool((made.full == 0).any(-1).all())
    assert bool((made.sliding == 0).any(-1).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(1, 20), windows)
def test_a_chain_is_causal(cached: int, n: int, window: int | None) -> None:
    made = maker(window).chain(cached, n)
    q, k = torch.arange(cached, cached + n)[:, None], torch.arange(cached + n)
    assert torch.equal(made.full[0, 0] == 0, k <= q)
    near = q - k < (window or LENGTH)
    assert torch.equal(made.sliding[0, 0] == 0, (k <= q) & near)
    assert float(made.sliding.min()) >= LOWEST


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 100))
def test_rooted_agrees_with_the_trees_own_ancestors(seed: int, nodes: int) -> None:
    tree = random_tree(np.random.default_rng(seed), nodes, 500)
    sees, depth = rooted(tree)
    assert sees[:, 0].all()
    assert not sees[0, 1:].any()
    np.testing.assert_array_equal(sees[1:, 1:], tree.ancestors())
    np.testing.assert_array_equal(depth[1:], tree.depths() + 1)
