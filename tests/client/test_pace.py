"""Asking for drafts stops costing where it does not pay, and is never given up for good."""

import numpy as np

from retrieval_draft.pace import SKIPS_MAX, Pace
from retrieval_draft.step import VerifyCost
from retrieval_draft.tree import int32s

COST = VerifyCost(int32s([0, 8]), np.array([2.0, 3.0], np.float32))


def run(pace: Pace, tokens: int, steps: int) -> int:
    """How many of so many steps asked, each gaining `tokens` with 8 nodes at 1 ms of asking."""
    asked = 0
    for _ in range(steps):
        if pace.asks():
            asked += 1
            pace.gained(tokens, 1, 8, COST, asking_ms=1.0)
    return asked


def test_every_step_asks_while_drafting_pays() -> None:
    assert run(Pace(), tokens=3, steps=200) == 200


def test_where_nothing_is_accepted_asking_fades_to_one_step_in_seventeen() -> None:
    pace = Pace()
    run(pace, tokens=1, steps=200)
    assert pace.gain < 1
    assert run(pace, tokens=1, steps=10 * (SKIPS_MAX + 1)) == 10


def test_asking_comes_back_when_it_pays_again() -> None:
    pace = Pace()
    run(pace, tokens=1, steps=400)
    run(pace, tokens=4, steps=60 * (SKIPS_MAX + 1))
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
