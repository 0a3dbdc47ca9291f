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
    np.testing.assert_allclose(found.milliseconds[:4], truth, rtol=0.15)
    np.testing.assert_allclose(
        costs.by_width(sequences, 100).milliseconds[:4], found.milliseconds[:4], rtol=1e-5
    )


def test_a_machine_on_which_rows_get_dearer_is_followed_and_forgotten_again() -> None:
    """Relative to a plain step, which takes half as long again."""
    costs = table(40, 2)
    play(costs, 300, (60, 6))
    assert costs.at(1, 100).milliseconds[0] == pytest.approx(40)
    assert costs.at(1, 100).milliseconds[3] == pytest.approx(40 * 108 / 60, rel=0.12)
    play(costs, 300, (40, 2))
    assert costs.at(1, 100).milliseconds[3] == pytest.approx(56, rel=0.12)


def test_batches_are_corrected_apart() -> None:
    costs = table(40, 2)
    play(costs, 100, (40, 6), sequences=4)
    assert costs.at(1, 100).milliseconds.tolist() == costs.measured.at(1, 100).milliseconds.tolist()
    assert costs.at(4, 100).milliseconds[3] > 1.5 * costs.measured.at(4, 100).milliseconds[3]


def test_a_machine_that_slows_down_alike_changes_no_price() -> None:
    """Steps of one width cannot say what a node costs; those of many say that it costs the same share."""
    costs = table(40, 2)
    for _ in range(100):
        costs.took(1, 4, 100, 1.5 * 48)
    found = costs.at(1, 100).milliseconds
    assert found[0] == pytest.approx(40)
    assert found[2] == pytest.approx(48, rel=0.1)
    play(costs, 300, (60, 3))
    assert costs.at(1, 100).milliseconds[3] == pytest.approx(56, rel=0.1)


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


class Seen(LiveCosts):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(table(1, 0).measured)
        self.steps: list[tuple[int, int, float]] = []

    def took(self, sequences: int, width: int, context_tokens: float, milliseconds: float) -> None:
        assert milliseconds > 0
        self.steps.append((sequences, width, context_tokens))


def test_a_decoder_reports_its_steps() -> None:
    prompt, costs = prompts(1)[0], Seen()
    decoder = Decoder(tiny("llama"), slots=1, length_max=64, nodes_max=8, costs=costs)
    decode_all(decoder, [Request("x", prompt, 10)])
    assert costs.steps == [(1, 0, float(len(prompt) + i)) for i in range(9)]


def test_a_step_that_had_to_be_recorded_is_no_measure() -> None:
    costs, model = Seen(), tiny("llama")
    runner = static(model)
    decoder = Decoder(model, length_max=LENGTH_MAX, nodes_max=NODES_MAX, runner=runner, costs=costs)
    first = Request("first", prompts(1)[0], 2)
    decode_all(decoder, [first])
    assert not costs.steps
    decode_all(decoder, [first])
    assert len(costs.steps) == 1
