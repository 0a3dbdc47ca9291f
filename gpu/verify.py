"""Which drafted tokens stay: the rules of verification, without torch.

`match` is exact for every tree of deterministic drafts (METHODS.md §12.2): a node's token is drawn
from the target's own distribution, once, without looking at the drafts; the tree only decides how
many draws one forward pass serves. Drawn drafts are safe with it too, whatever they were drawn from.

`recursive` (rejection sampling without replacement: Jeon et al., RSD, arXiv 2402.14160; Yang et al.,
arXiv 2402.14020) keeps more of drafts that were drawn from a known distribution, and is exact if they
really were: it believes their `Proposals`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from retrieval_draft.tree import DraftTree


@dataclass(frozen=True, slots=True)
class Verified:
    """Nodes accepted, from the root, and the tokens committed: theirs, then the bonus token."""

    path: tuple[int, ...]
    tokens: tuple[int, ...]


class Draws(Protocol):
    """The target's processed distribution after every node (-1 = the root), and its randomness.

    All of it is fixed by the position: asked again, the answers are the same. The coins of `accepts`
    are independent of the noise of the draws, and both of the drafter's.
    """

    def __call__(self, node: int) -> int:
        """The target's token after this node."""
        ...

    def chances(self, node: int, tokens: list[int]) -> list[float]:
        """The probabilities of these tokens after this node."""
        ...

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        """True with probability `chance`; trials of a node have a coin each."""
        ...

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        """As a call, where these tokens have other masses; all others keep theirs."""
        ...


Rule = Callable[[DraftTree, Draws], Verified]


def match(tree: DraftTree, draw: Callable[[int], int]) -> Verified:
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


def recursive(tree: DraftTree, draws: Draws) -> Verified:
    """At nodes with proposals, offer the children in the order drawn; elsewhere as `match`.

    A child x is kept with probability min(1, p(x) / q(x)). If it is not, p becomes the normalised
    positive part of p - q, and q goes on without x: what the next child was drawn from. A token that
    no child could give is drawn from the p that is left. The law of the output is the target's if q
    is what the children were drawn from; their order may not depend on anything but the draw.
    """
    if tree.proposals is None or not len(tree):
        return match(tree, draws)
    drawn_from = _proposed(tree)
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(tree.parent.tolist()):
        children.setdefault(parent, []).append(i)
    tokens_of = tree.token.tolist()
    path: list[int] = []
    tokens: list[int] = []
    node: int | None = -1
    while node is not None:
        offered = children.get(node, [])
        proposal = drawn_from.get(node)
        if proposal is not None and all(tokens_of[child] in proposal for child in offered):
            node, token = _offer(node, offered, tokens_of, proposal, draws)
        else:
            token = draws(node)
            node = next((child for child in offered if tokens_of[child] == token), None)
        tokens.append(token)
        if node is not None:
            path.append(node)
    return Verified(tuple(path), tuple(tokens))


def _offer(
    node: int, offered: list[int], tokens_of: list[int], q: dict[int, float], draws: Draws
) -> tuple[int | None, int]:
    """The child that is kept and its token, or None and the token drawn instead."""
    support = list(q)
    p = dict(zip(support, draws.chances(node, support), strict=True))
    # Masses outside the support only ever scale: `scale` of what they were.
    outside, scale = max(0.0, 1.0 - sum(p.values())), 1.0
    left = sum(q.values())
    for trial, child in enumerate(offered):
        token = tokens_of[child]
        if draws.accepts(node, trial, min(1.0, p[token] * left / q[token])):
            return child, token
        p = {other: max(0.0, p[other] - share / left) for other, share in q.items()} | {
            gone: 0.0 for gone in support if gone not in q
        }
        mass = sum(p.values()) + outside * scale
        if mass <= 0.0:  # p was q: only rounding refused what is always kept
            return child, token
        p = {other: chance / mass for other, chance in p.items()}
        scale /= mass
        left -= q[token]
        q = {other: share for other, share in q.items() if other != token}
        if left <= 0.0:
            break
    return None, draws.redraw(node, support, [p[token] / scale for token in support])


def _proposed(tree: DraftTree) -> dict[int, dict[int, float]]:
    """What each node's children were drawn from; nodes whose numbers are no masses are left out."""
    assert tree.proposals is not None
    found: dict[int, dict[int, float]] = {}
    rows = zip(
        tree.proposals.nodes.tolist(),
        tree.proposals.tokens.tolist(),
        tree.proposals.probabilities.tolist(),
        strict=True,
    )
    for node, tokens, shares in rows:
        offered = [(t, q) for t, q in zip(tokens, shares, strict=True) if t >= 0 and q > 0]
        known = dict(offered)
        if known and len(known) == len(offered):
            found[node] = known
    return found


RULES: dict[str, Rule] = {"match": match, "recursive": recursive}
"""By name, as `worker --verify` takes them."""
