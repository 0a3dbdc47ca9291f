"""Embeddings of contexts against plain Python, and what they are for."""

import numpy as np
import pytest
from hypothesis import given

from retrieval_draft.store.embedding import TAIL_TOKENS, StateEmbedding, TokenEmbedding
from retrieval_draft.tree import Float32Array, int32s
from tests.kernels import twins_embedding as twins
from tests.kernels.strategies import quick, texts

# Without the JIT the hash overflows as numpy scalars do: with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def embedded(tokens: list[int]) -> Float32Array:
    return TokenEmbedding()(int32s(tokens), None)


@quick(60)
@given(texts)
def test_every_context_is_embedded_as_the_sum_of_its_tokens(text: list[int]) -> None:
    np.testing.assert_allclose(
        embedded(text), np.array(twins.embed(text)).reshape(-1, 64), atol=1e-4
    )


def test_a_context_is_nearer_to_itself_with_another_name_than_to_others() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        text = random.integers(0, 1000, 12).tolist()
        renamed = [*text[:6], 5000, *text[7:]]
        other = random.integers(0, 1000, 12).tolist()
        one, two, three = (embedded(context)[-1] for context in (text, renamed, other))
        assert one @ two > 0.7 > 0.5 > one @ three


def test_order_tells_contexts_of_equal_tokens_apart() -> None:
    one, two = embedded([1, 2, 3, 4])[-1], embedded([2, 1, 4, 3])[-1]
    assert one @ two < 0.95


def test_the_tail_alone_is_nearly_the_whole_context() -> None:
    text = np.random.default_rng(0).integers(0, 1000, 200).tolist()
    assert embedded(text)[-1] @ embedded(text[-TAIL_TOKENS:])[-1] > 0.98


# Hidden states.


def states(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Around 8 directions, far from the origin, with a little noise."""
    random = np.random.default_rng(seed)
    kinds = np.random.default_rng(7).normal(size=(8, width)) * 4
    noise = random.normal(size=(rows, width)) * 0.1
    return (5 + kinds[np.arange(rows) % 8] + noise).astype(np.float16)


def test_hidden_states_are_reduced_so_that_like_ones_stay_alike() -> None:
    embed = StateEmbedding()
    assert embed(int32s([0] * 500), states(500, 96)) is None
    vectors = embed(int32s([0] * 1000), states(1000, 96, 1))
    assert vectors is not None
    assert vectors.shape == (1000, 64)
    likeness = vectors @ vectors.T
    alike = np.arange(1000)[:, None] % 8 == np.arange(1000) % 8
    assert likeness[alike].min() > 0.9 > likeness[~alike].max()


def test_states_of_few_dimensions_are_kept_as_they_are() -> None:
    embed = StateEmbedding()
    vectors = embed(int32s([0] * 1024), states(1024, 16))
    assert vectors is not None
    assert not vectors[:, 16:].any()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def test_states_that_are_unknown_infinite_or_of_another_width_are_never_near() -> None:
    embed = StateEmbedding()
    broken = states(1024 + 2, 32)
    broken[3], broken[4, 5] = 0, np.inf
    vectors = embed(int32s([0] * len(broken)), broken)
    assert vectors is not None
    assert not vectors[3:5].any()
    assert np.isfinite(vectors).all()
    assert embed(int32s([0]), states(1, 31)) is None
