"""Filling a template, in plain Python."""

from collections.abc import Callable, Sequence

Ints = Sequence[int]


def fill_matrix(
    parents: Ints,
    ranks: Ints,
    successors: Sequence[Ints],
    root: int,
    nodes_max: int,
    depth_max: int,
    ranks_max: int,
    end_tokens: Ints,
) -> list[tuple[int, int, int]]:
    """(token, parent, template node) of every node."""
    paths: dict[int, tuple[int, ...]] = {-1: ()}
    nodes: dict[tuple[int, ...], int] = {(): -1}
    filled: list[tuple[int, int, int]] = []
    for i, (above, rank) in enumerate(zip(parents, ranks, strict=True)):
        if len(filled) == nodes_max or above not in paths or rank >= ranks_max:
            continue
        path = paths[above]
        key = path[-1] if path else root
        if len(path) >= depth_max or (path and key in end_tokens) or rank >= len(successors[key]):
            continue
        child = successors[key][rank]
        if not 0 <= child < len(successors) or (*path, child) in nodes:
            continue
        paths[i] = (*path, child)
        nodes[paths[i]] = len(filled)
        filled.append((child, nodes[path], i))
    return filled


TWINS: dict[str, Callable[..., object]] = {"fill.fill_matrix": fill_matrix}
