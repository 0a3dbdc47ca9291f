"""Filling a template, in plain Python."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Ints = Sequence[int]
Expected = Sequence[tuple[int, int]]
"""(token, share of 65535), likeliest first."""


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


def longest_gram(table: Mapping[tuple[int, ...], Expected], context: Ints) -> Expected:
    for order in range(min(4, len(context)), 0, -1):
        if tuple(context[-order:]) in table:
            return table[tuple(context[-order:])]
    return []


def candidates(expected: Expected, vocab_size: int, sharpness: float) -> list[tuple[int, float]]:
    known: dict[int, float] = {}
    for token, share in expected:
        if 0 <= token < vocab_size and share > 0 and token not in known:
            p = (
                min(1.0, share / max(1, expected[0][1])) ** sharpness
                if sharpness
                else share / 65535
            )
            if p >= 1e-9 or not sharpness:
                known[token] = p
    total = sum(known.values())
    scale = total if sharpness or total > 1 else 1.0
    return [(token, p / scale) for token, p in known.items()]


@dataclass
class Filled:
    """nodes are (token, parent, template node), probabilities theirs; proposals by node."""

    nodes: list[tuple[int, int, int]] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    proposals: dict[int, list[tuple[int, float]]] = field(default_factory=dict)


def fill_grams(
    parents: Ints,
    ranks: Ints,
    table: Mapping[tuple[int, ...], Expected],
    query: Ints,
    vocab_size: int,
    sharpness: float,
    noise: Sequence[Sequence[float]],
    nodes_max: int,
    depth_max: int,
    ranks_max: int,
    end_tokens: Ints,
) -> Filled:
    filled = Filled()
    paths: dict[int, tuple[int, ...]] = {}
    place: dict[int, int] = {-1: -1}
    order: dict[int, list[int]] = {}
    known: dict[int, list[tuple[int, float]]] = {}
    waiting = list(noise)

    def expand(i: int) -> None:
        path = paths.get(i, ())
        if i not in parents or len(path) >= depth_max or (path and path[-1] in end_tokens):
            return
        known[i] = candidates(longest_gram(table, [*query, *path]), vocab_size, sharpness)
        order[i] = [token for token, _ in known[i]]
        if sharpness and known[i]:
            row = waiting.pop(0)
            marks = {token: e / p for (token, p), e in zip(known[i], row, strict=False)}
            order[i].sort(key=lambda token: marks[token])

    expand(-1)
    for i, (above, rank) in enumerate(zip(parents, ranks, strict=True)):
        if above not in place or above not in known or rank >= ranks_max:
            continue
        siblings = [node for node in filled.nodes if node[1] == place[above]]
        nth = len(siblings) if sharpness else rank
        if nth >= len(order[above]) or len(filled.nodes) == nodes_max:
            continue
        place[i] = len(filled.nodes)
        paths[i] = (*paths.get(above, ()), order[above][nth])
        p = known[above][nth][1]
        filled.probabilities.append(p if above < 0 else p * filled.probabilities[place[above]])
        filled.nodes.append((order[above][nth], place[above], i))
        if sharpness:
            filled.proposals[place[above]] = known[above]
        expand(i)
    return filled


TWINS: dict[str, Callable[..., object]] = {
    "fill.fill_matrix": fill_matrix,
    "grams.longest_gram": longest_gram,
    "grams.candidates": candidates,
    "grams.fill_grams": fill_grams,
}
