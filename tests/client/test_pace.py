"""Asking for drafts stops costing where it does not pay, and is never given up for good."""

import numpy as np
import pytest

from retrieval_draft.pace import LOSS_MAX, SKIPS_MAX, Pace
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import int32s

COST = VerifyCost(int32s([0, 8]), np.array([2.0, 3.0], np.float32))


def run(pace: Pace, tokens: int, steps: int, asking_ms: float = 1.0, nodes: int = 8) -> int:
    """How many of so many steps asked, each gaining `tokens`."""
    asked = 0
    for _ in range(steps):
        if pace.asks():
            asked += 1
            pace.gained(tokens, 1, nodes, COST, asking_ms)
    return asked


def test_every_step_asks_while_drafting_pays() -> None:
    assert run(Pace(), tokens=3, steps=200) == 200


@pytest.mark.parametrize("asking_ms", [0.1, 0.5, 1.0, 20.0])
def test_where_nothing_is_accepted_asking_costs_a_share_of_the_time_at_most(
    asking_ms: float,
) -> None:
    pace = Pace()
    run(pace, 1, 500, asking_ms, nodes=0)
    steps = 40 * (SKIPS_MAX + 1)
    asked = run(pace, 1, steps, asking_ms, nodes=0)
    assert asked >= steps // (SKIPS_MAX + 1)
    plain_ms = float(COST.milliseconds[0])
    loss = 1 - plain_ms / (plain_ms + asking_ms)
    assert asked == steps or asked * loss / steps <= max(LOSS_MAX, 1 / (SKIPS_MAX + 1))
    # And no more seldom than that asks for.
    assert asked * loss / steps > 0.5 * LOSS_MAX or asked in (steps, steps // (SKIPS_MAX + 1))


def test_a_gain_just_below_one_does_not_stop_asking() -> None:
    """A drafted token pays for the time, nearly: chance alone may not switch that off."""
    generator = np.random.default_rng(0)
    pace, asked = Pace(), 0
    for _ in range(4000):
        if pace.asks():
            asked += 1
            pace.gained(1 + int(generator.random() < 0.99), 1, 8, COST, asking_ms=1.0)
    assert asked > 0.8 * 4000


def test_asking_comes_back_when_it_pays_again() -> None:
    pace = Pace()
    run(pace, tokens=1, steps=400)
    run(pace, tokens=4, steps=10 * (SKIPS_MAX + 1))
    assert run(pace, tokens=4, steps=100) == 100


def test_the_gain_is_in_tokens_per_millisecond_of_a_plain_step() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.gained(2, 1, 8, COST, asking_ms=1.0)
    # 2 tokens in 3 + 1 ms against 1 in 2 ms.
    assert abs(pace.gain - 1.0) < 1e-6


def test_a_batch_is_judged_by_all_its_sequences() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.gained(12, 4, 8, COST, asking_ms=1.0)
    assert abs(pace.gain - (12 / 4) / (4 / 2)) < 1e-6
