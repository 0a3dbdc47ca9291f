"""Rules of verification that are wrong in ways seen in the wild: tests must notice them."""

from collections.abc import Callable

from retrieval_draft.gpu.verify import Draw, Verified
from retrieval_draft.tree import DraftTree


def one_coin_twice(tree: DraftTree, draw: Draw) -> Verified:
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
