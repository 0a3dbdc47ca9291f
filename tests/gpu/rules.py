"""Rules of verification that are wrong in ways seen in the wild: tests must notice them."""

from collections.abc import Callable

from retrieval_draft.gpu.verify import Draws, Verified, recursive
from retrieval_draft.tree import DraftTree


def one_coin_twice(tree: DraftTree, draw: Callable[[int], int]) -> Verified:
    """The token drawn at a node is used again at the child it led to, if that has such a child."""
    children = children_of(tree)
    path: list[int] = []
    tokens: list[int] = []
    node = -1
    token = draw(node)
    while (child := children.get((node, token))) is not None:
        path.append(child)
        tokens.append(token)
        node = child
        if (node, token) not in children:
            token = draw(node)
    return Verified(tuple(path), (*tokens, token))


def longest_of_paths(tree: DraftTree, draw: Callable[[int, int], int]) -> Verified:
    """As REST: each root-to-leaf path has its own `draw(path, node)`; the longest accepted wins."""
    parents = tree.parent.tolist()
    leaves = sorted(set(range(len(tree))) - set(parents)) or [-1]
    best = Verified((), (draw(0, -1),))
    for number, leaf in enumerate(leaves):
        if (found := accepted(tree, path_to(tree, leaf), number, draw)) is not None and len(
            found.path
        ) > len(best.path):
            best = found
    return best


def accepted(
    tree: DraftTree, path: list[int], number: int, draw: Callable[[int, int], int]
) -> Verified | None:
    """What one path's own draws accept of it; None if nothing."""
    kept: list[int] = []
    tokens: list[int] = []
    node = -1
    for node_next in path:
        if draw(number, node) != int(tree.token[node_next]):
            break
        kept.append(node_next)
        tokens.append(int(tree.token[node_next]))
        node = node_next
    if not kept:
        return None
    return Verified(tuple(kept), (*tokens, draw(number, node)))


def children_of(tree: DraftTree) -> dict[tuple[int, int], int]:
    edges = zip(tree.parent.tolist(), tree.token.tolist(), strict=True)
    return {edge: i for i, edge in enumerate(edges)}


def path_to(tree: DraftTree, node: int) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.insert(0, node)
        node = int(tree.parent[node])
    return path


class KeptCoin:
    """One coin for all children of a node: having refused the first, it is above that chance."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._above: dict[int, float] = {}

    def __call__(self, node: int) -> int:
        return self._draws(node)

    def chances(self, node: int, tokens: list[int]) -> list[float]:
        return self._draws.chances(node, tokens)

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        return self._draws.redraw(node, tokens, chances)

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        above = self._above.get(node, 0.0)
        self._above[node] = max(above, chance)
        left = (chance - above) / (1 - above) if above < 1 else 0.0
        return self._draws.accepts(node, trial, max(0.0, left))


class OneCoin(KeptCoin):
    """One coin for all trials at all nodes of a step."""

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        return self._draws.accepts(-1, 0, chance)


class OtherBonus(KeptCoin):
    """The bonus comes of the target before it was processed: `plain` redraws there."""

    def __init__(self, draws: Draws, plain: Draws) -> None:
        super().__init__(draws)
        self._plain = plain

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        return self._draws.accepts(node, trial, chance)

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        return self._plain(node)


def kept_coin(tree: DraftTree, draws: Draws) -> Verified:
    return recursive(tree, KeptCoin(draws))


def one_coin(tree: DraftTree, draws: Draws) -> Verified:
    return recursive(tree, OneCoin(draws))


def not_renormalised(tree: DraftTree, draws: Draws) -> Verified:
    """What is left of p is compared as it is: too small, once a child was refused. One level only."""
    assert tree.proposals is not None
    tokens, shares = tree.proposals.tokens[0].tolist(), tree.proposals.probabilities[0].tolist()
    p = dict(zip(tokens, draws.chances(-1, tokens), strict=True))
    q, left = dict(zip(tokens, shares, strict=True)), sum(shares)
    for trial, child in enumerate((tree.parent == -1).nonzero()[0].tolist()):
        token = int(tree.token[child])
        if draws.accepts(-1, trial, min(1.0, p[token] * left / q[token])):
            return Verified((child,), (token, draws(child)))
        p = {t: max(0.0, chance - q.get(t, 0.0) / left) for t, chance in p.items()}
        left -= q.pop(token)
    return Verified((), (draws.redraw(-1, tokens, list(p.values())),))
