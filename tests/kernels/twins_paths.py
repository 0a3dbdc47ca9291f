"""The path map in plain Python."""

import math
from collections.abc import Callable, Sequence

LEVELS, TRIALS_MAX, SCALE_RATE, SCALE_MAX = 24, 2048, 0.005, 4.0

Ints = Sequence[int]


def depth_class(depth: int) -> int:
    return sum(depth > most for most in (1, 2, 3, 5, 9))


def path_bin(depth: int, probability: float) -> int:
    level = LEVELS - 1
    if probability > 0:
        level = min(level, max(0, int(-math.log2(probability) * 2)))
    return depth_class(depth) * LEVELS + level


def line_to(node: int, token: Ints, parent: Ints) -> list[int]:
    """The tokens from the root down to a node."""
    return [*line_to(parent[node], token, parent), token[node]] if node >= 0 else []


def map_paths(
    parent: Ints,
    probability: Sequence[float],
    worth: Sequence[Sequence[float]],
    scale: Sequence[float],
) -> list[tuple[int, int, float]]:
    """(depth, bin, what such paths have been worth) of every node."""
    mapped: list[tuple[int, int, float]] = []
    for node, above in enumerate(parent):
        depth = len(line_to(node, parent, parent))
        b = path_bin(depth, probability[node])
        p = worth[0][b] / worth[1][b] * scale[depth_class(depth)]
        mapped.append((depth, b, min(p, mapped[above][2] if above >= 0 else 1.0)))
    return mapped


def teach_paths(
    token: Ints,
    parent: Ints,
    nodes: Sequence[tuple[int, int, float]],
    committed: Ints,
    worth: list[list[float]],
    scale: list[float],
) -> None:
    surplus = [0.0] * len(scale)
    for node, (depth, b, p) in enumerate(nodes):
        line, told = line_to(node, token, parent), list(committed[:depth])
        if len(told) < depth and line[: len(told)] == told:
            continue  # the tokens end on its path: nobody knows
        hit = line == told
        worth[0][b] += hit
        worth[1][b] += 1
        if worth[1][b] > TRIALS_MAX:
            worth[0][b], worth[1][b] = worth[0][b] / 2, worth[1][b] / 2
        surplus[depth_class(depth)] += hit - p
    for row, more in enumerate(surplus):
        changed = scale[row] * math.exp(SCALE_RATE * more)
        scale[row] = min(SCALE_MAX, max(1 / SCALE_MAX, changed))


TWINS: dict[str, Callable[..., object]] = {
    "paths.depth_class": depth_class,
    "paths.path_bin": path_bin,
    "paths.map_paths": map_paths,
    "paths.teach_paths": teach_paths,
    "paths.teach_within": teach_paths,
}
