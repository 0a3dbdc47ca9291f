"""What a step costs, learned from steps: on made-up engines whose true costs are known."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.adapters.measured_cost import MeasuredCost
from retrieval_draft.step import VerifyCost

Engine = Callable[[int, int], float]
"""Milliseconds of a step by its sequences and drafted nodes."""
NODES = 8
NOISE = 0.05


def cpu(sequences: int, nodes: int) -> float:
    """Every row is computed."""
    return 3.0 + 0.4 * sequences + 0.1 * nodes


def verifying(sequences: int, nodes: int) -> float:
    """What is drafted goes another way than what is not."""
    return cpu(sequences, nodes) + (3.0 if nodes else 0.0)


def gpu(sequences: int, nodes: int) -> float:
    """Rows are free up to a knee."""
    return 20.0 + 0.05 * max(0, sequences + nodes - 128)


def run(
    cost: MeasuredCost, engine: Engine, sequences: int, steps: int, seed: int = 1, least: int = 0
) -> None:
    """Steps that draft `least` to 8 nodes a sequence, each a little faster or slower than it should be.

    Those that are to be varied draft nothing.
    """
    random = np.random.default_rng(seed)
    for _ in range(steps):
        nodes = sum(int(random.integers(least, NODES + 1)) for _ in range(min(sequences, 4)))
        nodes = nodes * sequences // min(sequences, 4)
        cost.at(sequences)
        if cost.should_vary(sequences):
            nodes = 0
        noise = 1 + NOISE * float(random.uniform(-1, 1))
        cost.observe(sequences, nodes, noise * engine(sequences, nodes))


def table(cost: MeasuredCost, sequences: int) -> VerifyCost:
    found = cost.at(sequences)
    assert found is not None
    return found


def at(cost: MeasuredCost, sequences: int, nodes: int) -> float:
    return table(cost, sequences).at(nodes)


@pytest.mark.parametrize("sequences", [1, 8, 40])
@pytest.mark.parametrize("engine", [cpu, gpu, verifying])
def test_a_step_costs_what_the_engine_takes_for_it(engine: Engine, sequences: int) -> None:
    cost = MeasuredCost()
    run(cost, engine, sequences, 200)
    for nodes in (0, 4 * sequences, NODES * sequences):
        assert at(cost, sequences, nodes) == pytest.approx(engine(sequences, nodes), rel=0.2)


def test_what_drafting_anything_costs_is_told_from_what_rows_cost() -> None:
    cost = MeasuredCost()
    run(cost, verifying, 8, 1500, least=2)
    assert at(cost, 8, 1) - at(cost, 8, 0) == pytest.approx(3.1, rel=0.3)
    assert at(cost, 8, 64) - at(cost, 8, 32) == pytest.approx(3.2, rel=0.3)


def test_above_a_knee_the_next_row_has_the_price_that_rows_have_there() -> None:
    cost = MeasuredCost()
    run(cost, gpu, 100, 400, least=2)
    assert at(cost, 100, 500) == pytest.approx(gpu(100, 500), rel=0.05)
    assert at(cost, 100, 532) - at(cost, 100, 500) == pytest.approx(32 * 0.05, rel=0.25)


def test_some_ten_steps_tell_enough_once_one_of_them_was_a_plain_one() -> None:
    cost = MeasuredCost()
    for step in range(9):
        cost.observe(8, 40 + 3 * step, cpu(8, 40 + 3 * step))
    assert cost.at(8) is None
    run(cost, cpu, 8, 8, seed=2, least=4)
    assert at(cost, 8, 0) == pytest.approx(cpu(8, 0), rel=0.25)


def test_steps_that_are_all_alike_tell_nothing() -> None:
    cost = MeasuredCost()
    for _ in range(200):
        cost.observe(4, 32, 10.0)
    assert cost.at(4) is None
    run(cost, cpu, 4, 40)
    assert cost.at(4) is not None


def test_what_is_known_stays_known_while_steps_are_all_alike() -> None:
    cost = MeasuredCost()
    run(cost, cpu, 8, 100)
    random = np.random.default_rng(3)
    for _ in range(5000):
        cost.observe(8, 40, cpu(8, 40) * (1 + NOISE * float(random.uniform(-1, 1))))
    assert at(cost, 8, 64) - at(cost, 8, 0) == pytest.approx(6.4, rel=0.3)


def test_a_changed_load_is_followed() -> None:
    cost = MeasuredCost()
    run(cost, cpu, 8, 300)
    run(cost, lambda sequences, nodes: 3 * cpu(sequences, nodes), 8, 300)
    assert at(cost, 8, 0) == pytest.approx(3 * cpu(8, 0), rel=0.15)
    run(cost, gpu, 8, 600)
    assert at(cost, 8, 64) == pytest.approx(20, rel=0.1)
    assert at(cost, 8, 64) - at(cost, 8, 0) < 3, "plain steps are rare, and tell slowly"


def test_a_pause_now_and_then_is_not_what_rows_cost() -> None:
    cost = MeasuredCost()
    random = np.random.default_rng(4)
    for step in range(400):
        nodes = int(random.integers(0, 65))
        held_up = 500.0 if step % 10 == 9 and nodes > 32 else 0.0
        cost.observe(8, nodes, cpu(8, nodes) + held_up)
    assert at(cost, 8, 64) == pytest.approx(cpu(8, 64), rel=0.2)
    assert at(cost, 8, 0) == pytest.approx(cpu(8, 0), rel=0.25)


def test_another_number_of_sequences_has_another_step_and_the_same_price_of_a_row() -> None:
    cost = MeasuredCost()
    run(cost, cpu, 8, 100)
    assert cost.at(2) is None
    for _ in range(3):
        cost.observe(2, 12, cpu(2, 12))
    assert at(cost, 2, 0) == pytest.approx(cpu(2, 0), rel=0.15)
    assert at(cost, 8, 0) == pytest.approx(cpu(8, 0), rel=0.15)


def test_where_more_rows_take_less_time_they_are_free() -> None:
    cost = MeasuredCost()
    run(cost, lambda _, nodes: 10 - nodes / 20, 8, 100)
    assert at(cost, 8, 64) == at(cost, 8, 0) == pytest.approx(10 - 32 / 20, rel=0.1)


def test_a_table_serves_for_more_than_one_step() -> None:
    cost = MeasuredCost()
    run(cost, cpu, 8, 200)
    first = table(cost, 8)
    run(cost, cpu, 8, 8)
    assert cost.at(8) is first
    run(cost, cpu, 8, 16)
    assert cost.at(8) is not first


observed = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 8, 100, 5000]),
        st.integers(0, 20_000),
        st.floats(allow_nan=True, allow_infinity=True) | st.floats(1e-9, 1e6),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(observed)
def test_tables_are_finite_above_0_and_rise_from_0_nodes(
    steps: list[tuple[int, int, float]],
) -> None:
    cost = MeasuredCost()
    for sequences, nodes, milliseconds in steps:
        cost.observe(sequences, nodes, milliseconds)
        found = cost.at(sequences)
        if found is not None:
            assert found.nodes[0] == 0
            assert (np.diff(found.nodes) > 0).all()
            assert np.isfinite(found.milliseconds).all()
            assert (found.milliseconds > 0).all()
            assert (np.diff(found.milliseconds) >= 0).all()


def test_steps_that_are_all_alike_are_varied_now_and_then() -> None:
    cost = MeasuredCost()
    plain: list[int] = []
    for step in range(1000):
        cost.at(4)
        nodes = 0 if cost.should_vary(4) else 32
        if not nodes:
            plain.append(step)
        cost.observe(4, nodes, cpu(4, nodes))
    assert plain[0] < 40
    assert 3 <= len(plain) <= 6
    assert at(cost, 4, 0) == pytest.approx(cpu(4, 0), rel=0.1)


def test_an_engine_that_does_not_draft_is_not_varied() -> None:
    cost = MeasuredCost()
    for _ in range(100):
        assert not cost.should_vary(4)
        cost.observe(4, 0, 5.0)
