"""Small random inputs with many repetitions: what hash chains, searches and trees can get wrong."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from retrieval_draft.drafting.kernels import union
from retrieval_draft.drafting.mix import fresh_acceptance
from retrieval_draft.tree import Int32Array
from tests.kernels.twins import Knowledge, sort_rows

VOCAB = 6

tokens = st.integers(0, VOCAB - 1)
texts = st.lists(st.integers(-1, 2), max_size=40)
"""Tokens of a tiny vocabulary, with boundaries."""
queries = st.lists(st.integers(0, 2), max_size=12)
windows_of_three = st.lists(
    st.lists(st.integers(0, 2), max_size=3).map(lambda row: row + [-1] * (3 - len(row))),
    max_size=12,
)
"""Rows that end somewhere, and stay ended."""


@st.composite
def trees(draw: st.DrawFn, nodes_max: int = 12) -> tuple[list[int], list[int]]:
    """Tokens and parents, topological, siblings distinct."""
    children: dict[int, list[int]] = {-1: []}
    token: list[int] = []
    parent: list[int] = []
    for _ in range(draw(st.integers(0, nodes_max))):
        above = draw(st.integers(-1, len(token) - 1))
        child = draw(tokens)
        if child in children[above]:
            continue
        children[above].append(child)
        children[len(token)] = []
        token.append(child)
        parent.append(above)
    return token, parent


@st.composite
def knowledge(draw: st.DrawFn) -> Knowledge:
    """Places of three tiers, a recycling matrix, and acceptances that differ."""
    windows = draw(windows_of_three)
    lengths = [draw(st.integers(1, 20)) for _ in windows]
    cuts = sorted(draw(st.integers(0, len(windows))) for _ in range(2))
    bounds = [0, *cuts, len(windows)]
    tiers = [sort_rows(windows, first, stop - first) for first, stop in pairwise(bounds)]
    width = draw(st.integers(1, 4))
    successors = [[draw(st.integers(-1, VOCAB + 1)) for _ in range(width)] for _ in range(VOCAB)]
    logprobs = [[draw(st.sampled_from([0, 9, 70, 255])) for _ in range(width)] for _ in successors]
    accept = fresh_acceptance()
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    # Few different values: equally good candidates must be told apart alike.
    accept[0] = accept[1] * chance.choice([0.1, 0.25, 0.5, 0.75], union.BINS).astype(np.float32)
    return Knowledge(windows, lengths, tiers, successors, logprobs, accept)


def int32s(values: object, width: int | None = None) -> Int32Array:
    """As kernels take them; an empty table keeps its width."""
    array = np.array(values, np.int32)
    return array if width is None else array.reshape(-1, width)
