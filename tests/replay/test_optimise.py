"""The data-driven tree keeps what was accepted, and is a tree."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.drafting.templates import Template
from retrieval_draft.replay.optimise import accepted_counts, best_nodes, optimise
from tests.replay.texts import file_of, recorded, repetitive


def test_the_most_accepted_nodes_stay_by_hand() -> None:
    # Root: ranks 0, 1, 2; under the first 0 and 1; under that first 0.
    wide = Template((-1, -1, -1, 0, 0, 3), (0, 1, 2, 0, 1, 0))
    counts = np.array([9, 2, 0, 5, 2, 5], np.int64)
    kept, accepted = best_nodes(wide, counts, 4)
    assert (kept.parents, kept.ranks) == ((-1, 0, 1, -1), (0, 0, 0, 1))
    assert accepted == (9, 5, 5, 2)
    # What was never accepted is not worth a node.
    assert len(best_nodes(wide, counts, 6)[0]) == 5
    assert len(best_nodes(wide, np.zeros(6, np.int64), 6)[0]) == 1


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_every_prefix_of_what_is_kept_is_a_tree(
    nodes: int, depth: int, seed: int, keep: int
) -> None:
    wide = Template.best_first(nodes, depth, (0.6, 0.3, 0.1))
    random = np.random.default_rng(seed)
    counts = np.zeros(len(wide), np.int64)
    for node, parent in enumerate(wide.parents):
        counts[node] = random.integers(0, 20 if parent < 0 else counts[parent] + 1)
    kept, accepted = best_nodes(wide, counts, keep)
    assert len(kept) <= keep
    assert sorted(accepted, reverse=True) == list(accepted)
    for size in range(1, len(kept) + 1):
        Template(kept.parents[:size], kept.ranks[:size])


def test_counts_are_of_the_template_s_own_nodes() -> None:
    # A greedy loop of 3 tokens: the second sequence knows it, and the first child is right at every depth.
    loop = [1, 2, 3] * 12
    file = file_of(
        recorded([1, 2, 3, 1], loop, temperature=0.0), recorded([2], loop, temperature=0.0)
    )
    chain_and_other = Template((-1, -1, 0, 2), (0, 1, 0, 0))
    counts, mat = accepted_counts([file], chain_and_other, lambda: None)
    assert mat > 1.5
    assert counts[1] == 0
    assert counts[0] >= counts[2] >= counts[3] > 5


def test_the_kept_tree_beats_a_poorer_one_of_its_size() -> None:
    done = optimise([repetitive(5, 8, has_rows=True)], nodes=12, wide_nodes=100, depth=8)
    assert 1 <= len(done.template) <= 12
    assert done.wide_mat >= done.mat * 0.95
    assert done.mat > 1.0
