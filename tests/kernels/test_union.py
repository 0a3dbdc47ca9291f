"""The union of all sources and its teaching, against plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import union as kernels
from retrieval_draft.drafting.mix import fresh_acceptance
from tests.kernels import strategies, twins
from tests.kernels.strategies import VOCAB, int32s

QUICK = settings(deadline=None, max_examples=300)
ROOM = 20


@QUICK
@given(
    strategies.knowledge(),
    strategies.tokens,
    st.integers(0, ROOM),
    st.integers(0, 5),
    st.sampled_from([1, 2, 99]),
    st.booleans(),
    st.lists(strategies.tokens, max_size=2),
)
def test_the_union_grows_the_same_tree_as_plain_python(
    known: twins.Knowledge,
    last_token: int,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    chain: bool,
    end_tokens: list[int],
) -> None:
    token, parent = np.full(ROOM, -9, np.int32), np.full(ROOM, -9, np.int32)
    probability, source = np.full(ROOM, -9, np.float32), np.zeros(ROOM, np.uint32)
    evidence = np.full((ROOM, kernels.SOURCES), -9, np.int32)
    n = kernels.grow_union(
        int32s(known.windows, 3),
        int32s(known.lengths),
        int32s([row for rows in known.tiers for row in rows]),
        np.cumsum([0, *map(len, known.tiers)]),
        int32s(known.successors),
        np.array(known.logprobs, np.uint8),
        last_token,
        known.accept,
        nodes_max,
        depth_max,
        children_max,
        int(chain),
        int32s(end_tokens),
        token,
        parent,
        probability,
        source,
        evidence,
    )
    tree = twins.grow_union(
        known, last_token, nodes_max, depth_max, children_max, chain, end_tokens
    )
    assert token[:n].tolist() == tree.token
    assert parent[:n].tolist() == tree.parent
    assert probability[:n].tolist() == np.array(tree.probability, np.float32).tolist()
    assert source[:n].tolist() == tree.source
    assert evidence[:n].tolist() == tree.evidence
    assert (token[n:] == -9).all()


@QUICK
@given(
    strategies.trees(),
    st.lists(strategies.tokens, max_size=6),
    st.integers(0, 9),
    st.sampled_from([0.0, kernels.TRIALS_MAX - 7]),
)
def test_teaching_counts_a_trial_for_every_node_whose_parent_was_reached(
    tree: tuple[list[int], list[int]], committed: list[int], seed: int, before: float
) -> None:
    token, parent = tree
    chance = np.random.default_rng(seed)
    evidence = chance.integers(-1, 6, (len(token), kernels.SOURCES)).astype(np.int32)
    accept, expected = fresh_acceptance(), fresh_acceptance()
    accept[1] += np.float32(before)
    expected[1] += np.float32(before)
    kernels.teach(int32s(token), int32s(parent), evidence, int32s(committed), accept)
    twins.teach(token, parent, evidence.tolist(), committed, expected)
    assert (accept == expected).all()
    assert (accept[0] <= accept[1]).all()
    assert (accept[1] <= kernels.TRIALS_MAX).all()


def test_length_classes_are_those_of_the_docstring() -> None:
    for length in range(1, 200):
        assert kernels.length_class(length) == twins.length_class(length)


def test_every_kind_of_evidence_has_a_bin_of_its_own() -> None:
    bins = []
    for tier in range(kernels.TIERS):
        for length in (1, 2, 3, 4, 6, 10, 18, 99):
            for share in range(kernels.SHARES):
                for support in (1, 2, 3):
                    p = (share + 0.5) / kernels.SHARES
                    found = kernels.place_bin(tier, length, p, support)
                    assert found == twins.place_bin(tier, length, p, support)
                    bins.append(found)
    for rank in range(kernels.RANKS):
        for logprob in (0, 8, 16, 24, 32, 40, 48, 56, 255):
            found = kernels.recycling_bin(rank, logprob)
            assert found == twins.recycling_bin(rank, logprob)
            bins.append(found)
    assert sorted(bins) == list(range(kernels.BINS))
    assert kernels.place_bin(0, 1, 1.0, 9) == kernels.place_bin(0, 1, 0.99, 3)
    assert kernels.recycling_bin(0, 254) == kernels.recycling_bin(0, 56)
    assert kernels.BINS > VOCAB
