"""Sampling: the processed distribution, the law of the draws, and noise by counter alone."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu import sampling
from retrieval_draft.gpu.gumbel import GOLDEN
from retrieval_draft.gpu.sampling import SampledDraws, SamplingOptions, draw, probabilities

Logits = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]

TEMPERATURES = (0.3, 1.0, 2.5)


def defined_probabilities(logits: Logits, options: SamplingOptions) -> Probabilities:
    """Temperature, top-k, top-p by sorting everything; ties with the last kept stay."""
    scaled = logits.astype(np.float64) / options.temperature
    weight = np.exp(scaled - scaled.max())
    order = np.argsort(-logits, kind="stable")
    if 0 < options.top_k < len(logits):
        weight[logits < logits[order[options.top_k - 1]]] = 0
    weight /= weight.sum()
    if options.top_p < 1:
        before = np.cumsum(weight[order]) - weight[order]
        last = order[int((before < options.top_p).sum()) - 1]
        weight[logits < logits[last]] = 0
    kept: Probabilities = weight / weight.sum()
    return kept


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from((5, 300, 3000)),
    st.sampled_from(TEMPERATURES),
    st.sampled_from((0, 1, 7, 150)),
    st.sampled_from((1.0, 0.999, 0.8, 0.1)),
    st.booleans(),
)
def test_the_processed_distribution_is_the_defined_one(
    seed: int, vocab_size: int, temperature: float, top_k: int, top_p: float, ties: bool
) -> None:
    logits: Logits = np.random.default_rng(seed).normal(0, 2, vocab_size).astype(np.float32)
    if ties:
        logits = (np.round(logits * 2) / 2).astype(np.float32)
    options = SamplingOptions(temperature, top_p, top_k)
    expected = defined_probabilities(logits, options)
    found = probabilities(torch.from_numpy(logits)[None], options)[0].numpy()
    # The last token kept may differ where the mass before it equals top_p up to rounding.
    if ((found > 0) == (expected > 0)).all():
        np.testing.assert_allclose(found, expected, atol=1e-12)
    else:
        assert abs(found - expected).sum() < 0.1


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(0.7),
        SamplingOptions(1.0, top_k=6),
        SamplingOptions(1.5, top_p=0.8),
        SamplingOptions(0.9, top_p=0.9, top_k=12),
    ],
)
def test_draws_follow_the_processed_distribution(options: SamplingOptions) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 20) * 1.5
    expected = probabilities(logits, options)[0].numpy()
    n = 4000
    drawn = [
        draw(logits, [9], SamplingOptions(options.temperature, options.top_p, options.top_k, seed))[
            0
        ]
        for seed in range(n)
    ]
    counts = np.bincount(drawn, minlength=20)
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    assert chisquare(counts[kept], expected[kept] * n).pvalue > 1e-3


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 500)
    options = SamplingOptions(1.0, seed=7)
    together = draw(logits, [3, 4, 5, 6, 7, 8], options)
    for row in range(6):
        alone = draw(logits[row : row + 1], [3 + row], options)
        assert alone == [together[row]]
    backwards = draw(logits.flip(0), [8, 7, 6, 5, 4, 3], options)
    assert backwards[::-1] == together
    parents = [-1, 0, 0, 1, 3]
    tree = SampledDraws(logits, 2, parents, options)
    assert [tree.positions[i] for i in range(6)] == [3, 4, 5, 5, 6, 7]
    assert tree(0) == draw(logits[1:2], [4], options)[0]
    assert tree(2) == draw(logits[3:4], [5], options)[0]
    assert tree(-1) == tree(-1) == together[0]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from((7, 300, 5000)),
    st.sampled_from((0.01, 0.7, 1.0, 50.0)),
    st.sampled_from((0, 3)),
    st.sampled_from((1.0, 0.9)),
)
def test_the_kernel_draws_what_the_batched_form_draws(
    seed: int, vocab_size: int, temperature: float, top_k: int, top_p: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, vocab_size, generator=generator) * 3
    logits[0, ::2] = -math.inf
    logits[1, vocab_size // 2] = math.inf if top_p == 1 else 60.0
    options = SamplingOptions(temperature, top_p, top_k, seed)
    keys = [sampling._key(seed, position) for position in range(4)]
    batched = sampling._draw_batch(logits, keys, sampling._floor(logits, options), temperature)
    assert draw(logits, range(4), options) == batched


@pytest.mark.parametrize("logit", [math.nan, -math.inf])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_broken_row_still_gives_a_token_and_no_error(logit: float, top_p: float) -> None:
    logits = torch.full((1, 30), logit)
    (token,) = draw(logits, [1], SamplingOptions(1.0, top_p))
    assert 0 <= token < 30


def test_a_filter_that_keeps_the_drawn_token_does_not_change_the_draw() -> None:
    torch.manual_seed(2)
    for seed in range(50):
        logits = torch.randn(1, 300)
        free = draw(logits, [5], SamplingOptions(1.0, seed=seed))[0]
        rank = int((logits[0] > logits[0, free]).sum())
        assert draw(logits, [5], SamplingOptions(1.0, top_k=rank + 1, seed=seed)) == [free]
        assert draw(logits, [5], SamplingOptions(1.0, top_p=0.99999, seed=seed)) == [free]


def test_the_noise_is_gumbels_and_differs_by_seed_position_and_token() -> None:
    noise = [
        sampling._gumbel(
            sampling._counters(2000, torch.device("cpu")) + sampling._key(seed, position)
        ).numpy()
        for seed, position in ((0, 0), (0, 1), (1, 0), (2**64 - 1, 0))
    ]
    for one in noise:
        assert kstest(one, "gumbel_r").pvalue > 1e-3
    correlations = np.corrcoef(noise)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.1


def test_the_counter_is_splitmix64() -> None:
    assert sampling._mixed(GOLDEN) == 0xE220A8397B1DCDAF  # its first output at seed 0
    state = torch.tensor([sampling._signed(GOLDEN)])
    u = (0xE220A8397B1DCDAF >> 12) + 0.5
    expected = -np.log(-np.log1p(-u * 2.0**-52))
    assert float(sampling._gumbel(state)) == pytest.approx(expected, rel=1e-12)


def test_temperature_zero_is_the_argmax() -> None:
    torch.manual_seed(3)
    logits = torch.randn(4, 50)
    options = SamplingOptions(0.0, top_p=0.5, top_k=3, seed=9)
    assert draw(logits, [1, 2, 3, 4], options) == logits.argmax(-1).tolist()
    assert probabilities(logits, options).sum() == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", float("nan")),
        ("top_k", -1),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_options_outside_their_limits_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=field):
        SamplingOptions(**{field: value})  # type: ignore[arg-type]
