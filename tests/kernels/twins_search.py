"""ADED's search in plain Python: nodes are objects, and a table is a mapping of token pairs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.kernels.twins_fill import Expected, candidates

Ints = Sequence[int]


@dataclass
class Node:
    pair: tuple[int, int]
    depth: int
    number: int
    worth_of_path: float
    chance: dict[int, float]
    children: dict[int, "Node"] = field(default_factory=dict)
    visits: dict[int, int] = field(default_factory=dict)
    worth: dict[int, float] = field(default_factory=dict)
    closed: bool = False


def grow_search(
    table: Mapping[tuple[int, ...], Expected],
    pair: tuple[int, int],
    vocab_size: int,
    weight: float,
    scale: float,
    nodes_max: int,
    depth_max: int,
    children_max: int,
    end_tokens: Ints,
) -> list[tuple[int, int, float]]:
    """(token, parent, probability) of every node."""
    grown: list[tuple[int, int, float]] = []

    def made(pair: tuple[int, int], depth: int, number: int, worth: float) -> Node:
        stays = depth >= depth_max or (depth > 0 and pair[1] in end_tokens) or pair[0] < 0
        expected = [] if stays else table.get(pair, [])
        node = Node(pair, depth, number, worth, dict(candidates(expected, vocab_size, 0.0)))
        node.closed = not node.chance
        return node

    def best(node: Node) -> int | None:
        total = sum(node.visits.values())
        explore = weight + math.log((total + scale + 1) / scale)
        scores: dict[int, float] = {}
        for token, p in node.chance.items():
            if token in node.children and node.children[token].closed:
                continue
            if token not in node.children and len(node.children) >= children_max:
                continue
            n = node.visits.get(token, 0)
            mean = node.worth[token] / n if n else 0.0
            scores[token] = explore * p * math.sqrt(total) / (1 + n) + mean
        return max(scores, key=lambda token: scores[token]) if scores else None

    root = made(pair, 0, -1, 1.0)
    while len(grown) < nodes_max and not root.closed:
        node, path = root, list[tuple[Node, int]]()
        while (token := best(node)) is not None:
            path.append((node, token))
            if token not in node.children:
                break
            node = node.children[token]
        if token is None:
            node.closed = True
            continue
        p = node.chance[token] * node.worth_of_path
        grown.append((token, node.number, p))
        node.children[token] = made((node.pair[1], token), node.depth + 1, len(grown) - 1, p)
        value = 1.0
        for above, chosen in reversed(path):
            value *= above.chance[chosen]
            above.visits[chosen] = above.visits.get(chosen, 0) + 1
            above.worth[chosen] = above.worth.get(chosen, 0.0) + value
    return grown


TWINS: dict[str, Callable[..., object]] = {"grams.grow_search": grow_search}
