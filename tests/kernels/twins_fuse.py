"""Fusing two trees, in plain Python: nodes are known by their paths."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.kernels.twins_paths import line_to, map_paths

UNKNOWN, ABSENT, LISTED, LEVELS, SHARES, MEMORY = 0, 1, 2, 12, 14, 400

Path = tuple[int, ...]
Tree = tuple[Sequence[int], Sequence[int], Sequence[float], Sequence[int]]
Pairs = list[list[float]]


@dataclass
class Node:
    """What the trees say of one path."""

    shares: dict[int, float] = field(default_factory=dict)
    source: int = 0
    bin: int = 0
    probability: float = 0.0


def share_level(share: float) -> int:
    halvings = -math.log2(share) * 2 if share > 0 else 99
    return LISTED + min(LEVELS - 1, max(0, int(halvings)))


def add_tree(nodes: dict[Path, Node], tree: Tree, which: int) -> None:
    token, parent, probability, source = tree
    for i, above in enumerate(parent):
        before = probability[above] if above >= 0 else 1.0
        node = nodes.setdefault(tuple(line_to(i, token, parent)), Node())
        node.shares[which] = float(np.float32(probability[i]) / np.float32(before))
        node.source |= source[i]


def unite(
    first: Tree,
    second: Tree,
    worth: Pairs,
    path_worth: Pairs,
    path_scale: Sequence[float],
) -> dict[Path, Node]:
    nodes: dict[Path, Node] = {}
    for which, tree in enumerate((first, second)):
        add_tree(nodes, tree, which)
    for path, node in nodes.items():
        node.bin = 0
        for which in range(2):
            siblings = [other for at, other in nodes.items() if at[:-1] == path[:-1]]
            level = ABSENT if any(which in other.shares for other in siblings) else UNKNOWN
            if which in node.shares:
                level = share_level(min(1.0, max(1e-6, node.shares[which])))
            node.bin = node.bin * SHARES + level
    for path, node in nodes.items():
        total = sum(worth[other.bin][0] for at, other in nodes.items() if at[:-1] == path[:-1])
        above = nodes[path[:-1]].probability if len(path) > 1 else 1.0
        node.probability = worth[node.bin][0] / max(1.0, total) * above
    index = {path: i for i, path in enumerate(nodes)}
    parent = [index.get(path[:-1], -1) for path in nodes]
    estimates = [node.probability for node in nodes.values()]
    for node, (_, _, p) in zip(
        nodes.values(), map_paths(parent, estimates, path_worth, path_scale), strict=True
    ):
        node.probability = p
    return nodes


def pick(
    nodes: dict[Path, float],
    nodes_max: int,
    depth_max: int,
    children_max: int,
    floor: float,
    end_tokens: Sequence[int],
) -> list[Path]:
    picked: list[Path] = []
    while len(picked) < nodes_max:
        open_ = [
            path
            for path in nodes
            if path not in picked
            and (len(path) == 1 or path[:-1] in picked)
            and len(path) <= depth_max
            and not (len(path) > 1 and path[-2] in end_tokens)
            and sum(other[:-1] == path[:-1] for other in picked) < children_max
        ]
        best = max(open_, key=lambda path: nodes[path], default=None)
        if best is None or nodes[best] < floor:
            break
        picked.append(best)
    return picked


def teach_fused(bins: dict[Path, int], committed: Sequence[int], worth: Pairs) -> None:
    for depth, came in enumerate(committed):
        above = tuple(committed[:depth])
        if depth and above not in bins:
            return
        for path, b in bins.items():
            if path[:-1] == above:
                seen = min(MEMORY, worth[b][1] + 1)
                worth[b][0] += ((path[-1] == came) - worth[b][0]) / (seen + 0.5)
                worth[b][1] = seen


TWINS: dict[str, Callable[..., object]] = {
    "fuse.share_level": share_level,
    "fuse.add_tree": add_tree,
    "fuse.unite": unite,
    "fuse.pick": pick,
    "fuse.teach_fused": teach_fused,
}
