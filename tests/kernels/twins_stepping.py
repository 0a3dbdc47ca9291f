"""A step of `mix`: its parts one after another, with the learned tier's arrays as they are."""

from collections.abc import Callable

import numpy as np

from retrieval_draft.drafting.kernels import cut, following, growth, judging
from retrieval_draft.drafting.kernels.evidence import Tiers
from retrieval_draft.drafting.kernels.stepping import (
    ADDRESS,
    CUT,
    FOLLOW,
    GROW,
    GROWN,
    KEPT,
    LEFT,
)
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import Float32Array, Int32Array, Int64Array

Mixer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""What is common, the skill, and the path map, by temperature class."""


def step(
    parts: int,
    rows: Int64Array,
    first: int,
    end: int,
    tiers: Tiers,
    learned: TokenRing,
    mixer: Mixer,
    tokens: Int32Array,
    method: int,
    counts: Int64Array,
    children_max: int,
    chain: int,
    floor: float,
    block: Int32Array,
    numbers: Int64Array,
    sequences: int,
    nodes_max: int,
    nodes: Int32Array,
    milliseconds: Float32Array,
) -> None:
    """Each part is held against its own twin elsewhere."""
    t = tiers
    common, worth, stretch, weights, path_worth, path_scale = mixer
    if parts & FOLLOW:
        judging.judge(rows, tokens, path_worth, path_scale, method, counts, numbers[KEPT])
        following.follow(
            rows, t.learned, t.learned_table, learned.head, learned.prev, learned.low, learned.stop,
            t.successors, t.logprobs, t.stand_keys, t.stand_visits, t.stand_tokens, t.stand_shares,
            common, worth, stretch, weights, tokens,
        )  # fmt: skip
    if parts & GROW:
        growth.grow(
            rows, t.learned, t.learned_table, learned.stop,
            t.successors, t.logprobs, t.stand_keys, t.stand_visits, t.stand_tokens, t.stand_shares,
            common, worth, stretch, weights, path_worth, path_scale,
            children_max, chain, floor, block, numbers[GROWN], first, end,
        )  # fmt: skip
        numbers[ADDRESS, first:end] = [block[0, i].ctypes.data for i in range(first, end)]
    if parts & CUT:
        cut.cut_block(
            rows, block, numbers[GROWN], sequences, nodes_max, nodes, milliseconds, numbers[LEFT]
        )


TWINS: dict[str, Callable[..., object]] = {"stepping.step": step}
