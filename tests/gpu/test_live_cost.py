"""Prices of steps that follow what steps take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.step_cost import BatchCost, StepCosts
from retrieval_draft.tree import int32s
from tests.gpu.driving import decode_all
from tests.gpu.models import prompts, tiny
from tests.gpu.test_static_steps import LENGTH_MAX, NODES_MAX, static

NODES = int32s([0, 2, 4, 8, 16])


def table(plain_ms: float, node_ms: float) -> LiveCosts:
    """Batches of 1 and 4, each with so much a node of every sequence; a cached token costs nothing."""
    batches = tuple(
        BatchCost(b, NODES, (plain_ms + node_ms * b * NODES).astype(np.float32)) for b in (1, 4)
    )
    return LiveCosts(StepCosts(batches, 100, np.zeros(len(NODES), np.float32)))


def play(
    costs: LiveCosts,
    steps: int,
    ms_of: tuple[float, float],
    *,
    sequences: int = 1,
    width_max: int = 12,
) -> None:
    generator = np.random.default_rng(0)
    for width in generator.integers(0, width_max + 1, steps).tolist():
        ms = ms_of[0] + ms_of[1] * sequences * width
        costs.took(sequences, width, 100, ms * float(generator.normal(1, 0.05)))


def test_the_table_stands_until_a_step_was_made() -> None:
    costs = table(40, 2)
    assert costs.at(1, 100).milliseconds.tolist() == costs.measured.at(1, 100).milliseconds.tolist()
    wide = costs.measured.by_width(4, 100).milliseconds.tolist()
    assert costs.by_width(4, 100).milliseconds.tolist() == wide


@pytest.mark.parametrize("sequences", [1, 4])
@pytest.mark.parametrize("said", [0.2, 6.0])
def test_a_wrong_table_is_put_right(said: float, sequences: int) -> None:
    costs = table(40, said)
    play(costs, 100, (40, 2), sequences=sequences)
    found = costs.at(sequences, 100)
    truth = 40 + 2 * found.nodes[:4].astype(np.float64)
    np.testing.assert_allclose(found.milliseconds[:4], truth, rtol=0.12)
    np.testing.assert_allclose(
        costs.by_width(sequences, 100).milliseconds[:4], found.milliseconds[:4], rtol=1e-5
    )


def test_a_machine_that_slows_down_is_followed_and_forgotten_again() -> None:
    costs = table(40, 2)
    play(costs, 300, (60, 6))
    assert costs.at(1, 100).milliseconds[3] == pytest.approx(108, rel=0.12)
    play(costs, 300, (40, 2))
    assert costs.at(1, 100).milliseconds[3] == pytest.approx(56, rel=0.12)


def test_batches_are_corrected_apart() -> None:
    costs = table(40, 2)
    play(costs, 100, (40, 6), sequences=4)
    assert costs.at(1, 100).milliseconds.tolist() == costs.measured.at(1, 100).milliseconds.tolist()
    assert costs.at(4, 100).milliseconds[3] > 1.5 * costs.measured.at(4, 100).milliseconds[3]


def test_steps_of_one_width_are_a_matter_of_level() -> None:
    """They cannot say what a node costs: nearly all goes to the level."""
    costs = table(40, 2)
    for _ in range(100):
        costs.took(1, 4, 100, 1.5 * 48)
    found = costs.at(1, 100).milliseconds
    assert found[2] == pytest.approx(72, rel=0.02)
    assert (found[3] - found[2]) / 4 == pytest.approx(3, rel=0.4)


def test_a_stopped_machine_says_little() -> None:
    costs = table(40, 2)
    play(costs, 100, (40, 2))
    before = costs.at(1, 100).milliseconds
    costs.took(1, 8, 100, 60_000)
    np.testing.assert_allclose(costs.at(1, 100).milliseconds, before, rtol=0.1)


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 80), st.floats(0, 5000), st.floats(0, 1e6))
    ),
    sequences=st.integers(1, 9),
)
def test_prices_are_positive_and_rise_whatever_was_seen(
    steps: list[tuple[int, int, float, float]], sequences: int
) -> None:
    costs = table(40, 2)
    for step in steps:
        costs.took(*step)
    for cost in (costs.at(sequences, 700), costs.by_width(sequences, 700)):
        assert np.isfinite(cost.milliseconds).all()
        assert (cost.milliseconds > 0).all()
        assert (np.diff(cost.milliseconds) >= 0).all()


def test_a_decoder_reports_its_steps() -> None:
    costs = table(1e-6, 0)
    decoder = Decoder(tiny("llama"), slots=1, length_max=64, nodes_max=8, costs=costs)
    decode_all(decoder, [Request("x", prompts(1)[0], 10)])
    # Every step took far longer than this table says.
    assert costs.at(1, 100).milliseconds[0] > 2e-6


def test_a_step_that_had_to_be_recorded_is_no_measure() -> None:
    costs = table(1e-6, 0)
    model = tiny("llama")
    runner = static(model)
    decoder = Decoder(model, length_max=LENGTH_MAX, nodes_max=NODES_MAX, runner=runner, costs=costs)
    first = Request("first", prompts(1)[0], 2)
    decode_all(decoder, [first])
    assert costs.at(1, 100).milliseconds[0] == pytest.approx(1e-6)
    decode_all(decoder, [first])
    assert costs.at(1, 100).milliseconds[0] > 2e-6 / 1.1
