"""Which drafted tokens stay: the rules of verification, without torch.

`match` is exact for every tree of deterministic drafts (METHODS.md §12.2): a node's token is drawn
from the target's own distribution, once, without looking at the drafts; the tree only decides how
many draws one forward pass serves.
"""

from collections.abc import Callable
from dataclasses import dataclass

from retrieval_draft.tree import DraftTree


@dataclass(frozen=True, slots=True)
class Verified:
    """Nodes accepted, from the root, and the tokens committed: theirs, then the bonus token."""

    path: tuple[int, ...]
    tokens: tuple[int, ...]


Draw = Callable[[int], int]  # node, or -1 for the root -> the target's token after it
Rule = Callable[[DraftTree, Draw], Verified]


def match(tree: DraftTree, draw: Draw) -> Verified:
    """Descend while a child carries the token drawn; the first other token is the bonus.

    Draws once per visited node. Needs siblings with distinct tokens. The result has the law of
    drawing one token at a time, whatever the tree; with draws fixed by position, the same tokens.
    """
    if len(tree) == 0:
        return Verified((), (draw(-1),))
    children = {
        edge: i
        for i, edge in enumerate(zip(tree.parent.tolist(), tree.token.tolist(), strict=True))
    }
    path: list[int] = []
    tokens: list[int] = []
    node: int | None = -1
    while node is not None:
        token = draw(node)
        tokens.append(token)
        node = children.get((node, token))
        if node is not None:
            path.append(node)
    return Verified(tuple(path), tuple(tokens))
