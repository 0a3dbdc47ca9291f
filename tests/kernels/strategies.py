"""Small random inputs with many repetitions: what hash chains, searches and trees can get wrong."""

import os

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from retrieval_draft.tree import Int32Array

VOCAB = 6
JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"


def quick(examples: int) -> settings:
    """So many examples, fewer where kernels are plain Python."""
    return settings(deadline=None, max_examples=examples if JIT else max(10, examples // 5))


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


def int32s(values: object, width: int | None = None) -> Int32Array:
    """As kernels take them; an empty table keeps its width."""
    array = np.array(values, np.int32)
    return array if width is None else array.reshape(-1, width)
