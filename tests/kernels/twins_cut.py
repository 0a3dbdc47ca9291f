"""`cut` once more in plain Python."""

from collections.abc import Callable, Sequence
from itertools import pairwise


def price_of(nodes: Sequence[int], milliseconds: Sequence[float], count: int) -> float:
    """What so many nodes cost by the table; behind it its last slope goes on, if it rises."""
    if count >= nodes[-1]:
        slope = 0.0
        if len(nodes) > 1:
            slope = max(0.0, (milliseconds[-1] - milliseconds[-2]) / (nodes[-1] - nodes[-2]))
        return max(1e-9, milliseconds[-1] + slope * (count - nodes[-1]))
    above = next(i for i, entry in enumerate(nodes) if entry > count)
    low, high = nodes[above - 1], nodes[above]
    share = (count - low) / (high - low)
    found = milliseconds[above - 1] + share * (milliseconds[above] - milliseconds[above - 1])
    return max(1e-9, found)


def gains(
    probability: Sequence[float],
    sequences: int,
    nodes_max: int,
    nodes: Sequence[int],
    milliseconds: Sequence[float],
) -> list[float]:
    """Tokens per millisecond with the most probable 0, 1, 2 ... nodes; without a price their number."""
    best = sorted(probability, reverse=True)
    most = min(nodes_max, len(best)) if nodes_max else len(best)
    if not nodes:
        return [float(count) for count in range(most + 1)]
    return [
        (sequences + sum(best[:count])) / price_of(nodes, milliseconds, count)
        for count in range(most + 1)
    ]


def gentlest(nodes: Sequence[int], milliseconds: Sequence[float]) -> float:
    rows = list(zip(nodes, milliseconds, strict=True))
    return min((more - price) / (above - below) for (below, price), (above, more) in pairwise(rows))


TWINS: dict[str, Callable[..., object]] = {
    "cut.cut": gains,
    "cut.cut_block": gains,
    "cut.worth_keeping": gains,
    "cut.price_within": price_of,
    "cut.gentlest": gentlest,
}
