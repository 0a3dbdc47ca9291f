"""Logistic mixing and its teaching in plain Python: sums over whole vectors of inputs."""

import math
from collections.abc import Callable
from itertools import groupby

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.kernels.bins import BLEND, COMMON, INPUTS
from tests.kernels.twins_evidence import Evidence, length_class

BIAS, RATE, MEMORY, TAUGHT_FROM, COMMON_TOTAL_MAX = 0.3, 0.0025, 400.0, -5.0, 4096
KNOWN = 6


class Skill:
    """Copies of what was learned: worth [bins, 2], stretch [bins] and weights [sets, inputs + 1]."""

    def __init__(
        self,
        worth: npt.NDArray[np.float32],
        stretch: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32],
    ) -> None:
        self.worth = worth.astype(np.float64)
        self.stretch = stretch.astype(np.float64)
        self.weights = weights.astype(np.float64)


def squash(x: float) -> float:
    """In steps of 24 / 4096."""
    step = min(4095, max(0, math.floor((x + 12) * 4096 / 24)))
    return 1 / (1 + math.exp(12 - (step + 0.5) * 24 / 4096))


def choose(e: Evidence) -> list[int]:
    longest = max(e.longest)
    by_length = 1 if longest == 0 else 2 + length_class(longest)
    return [0, by_length, 2 + 15 + e.orders[0] * KNOWN + e.orders[1]]


def bins_of(e: Evidence, token: int) -> dict[int, int]:
    """By input: the bin that a candidate stands in."""
    blended = {BLEND: e.blended[token][0], BLEND + 1: e.blended[token][1]}
    return {**e.absent, **e.listed[token], **blended}


def inputs(e: Evidence, skill: Skill, token: int) -> npt.NDArray[np.float64]:
    x = np.zeros(INPUTS + 1)
    for k, b in bins_of(e, token).items():
        x[k] = skill.stretch[b]
    x[INPUTS] = BIAS
    return x


def mix(e: Evidence, skill: Skill) -> dict[int, float]:
    """The logit of every candidate."""
    weight = skill.weights[choose(e)].sum(axis=0)
    return {token: float(weight @ inputs(e, skill, token)) for token in e.listed}


def count_bin(skill: Skill, b: int, hits: list[bool]) -> None:
    """The mean of what was seen before, as often as is remembered, and of what is new."""
    known, times = skill.worth[b]
    seen = min(MEMORY, times + len(hits))
    worth = known + sum(hit - known for hit in hits) / (seen + 0.5)
    # Kept in single precision, and its logit in steps of 1 / 4096 of it.
    skill.worth[b] = np.float32(worth), seen
    middle = min(0.999, max(0.001, (int(worth * 4096) + 0.5) / 4096))
    skill.stretch[b] = math.log(middle / (1 - middle))


def teach(came: int, e: Evidence, skill: Skill) -> None:
    logits = mix(e, skill)
    taught = [token for token, x in logits.items() if token == came or x > TAUGHT_FROM]
    change = np.zeros(INPUTS + 1)
    for token in taught:
        error = (token == came) - squash(logits[token])
        change += RATE * error * inputs(e, skill, token)
    for chosen in choose(e):
        skill.weights[chosen] += change
    # Within an input in the order in which the candidates were met, or were listed.
    for k in (BLEND, BLEND + 1):
        for b, run in groupby(taught, lambda token: bins_of(e, token)[k]):  # noqa: B023
            count_bin(skill, b, [token == came for token in run])
    for k, b in e.absent.items():
        if unlisted := [token == came for token in taught if k not in e.listed[token]]:
            count_bin(skill, b, unlisted)
    for token, _, b in e.items:
        if token in taught:
            count_bin(skill, b, [token == came])


def is_listed(e: Evidence, token: int) -> bool:
    return bool(set(e.listed.get(token, {})) - {COMMON})


def count_common(common: list[list[int]], total: int, kept: int, token: int) -> int:
    """Space-Saving; returns the new total."""
    known = [other for other, _ in common]
    if token in known:
        entry = common[known.index(token)]
    elif len(common) < kept:
        entry = [token, 0]
        common.append(entry)
    else:
        entry = common[-1]
        entry[0] = token
    entry[1] += 1
    common.sort(key=lambda pair: -pair[1])
    total += 1
    if total >= COMMON_TOTAL_MAX:
        total //= 2
        for pair in common:
            pair[1] //= 2
    return total


TWINS: dict[str, Callable[..., object]] = {
    "mixing.squash": squash,
    "mixing.choose": choose,
    "mixing.mix": mix,
    "mixing.count_bin": count_bin,
    "mixing.teach": teach,
    "mixing.is_listed": is_listed,
    "mixing.count_common": count_common,
}
