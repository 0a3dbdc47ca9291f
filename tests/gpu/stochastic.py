"""Trees whose children are drawn, with every way they can be drawn."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
from msgspec.structs import replace

from retrieval_draft.tree import DraftTree, Proposals, int32s
from tests.gpu.drafters import tree_of


def drawings(q: list[float], count: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every order in which `count` tokens come without replacement, with its probability."""
    for order in permutations([token for token, share in enumerate(q) if share > 0], count):
        probability, left = 1.0, sum(q)
        for token in order:
            probability *= q[token] / left
            left -= q[token]
        yield order, probability


def drawn_tree(order: tuple[int, ...], q: list[float], below: DraftTree | None = None) -> DraftTree:
    """The tokens in this order under the root, drawn from q; `below` hangs under the first of them."""
    tokens, parents = list(order), [-1] * len(order)
    if below is not None:
        tokens += below.token.tolist()
        parents += [0 if p < 0 else p + len(order) for p in below.parent.tolist()]
    known = [token for token, share in enumerate(q) if share > 0]
    shares = np.array([[q[token] for token in known]], np.float32)
    proposals = Proposals(int32s([-1]), int32s([known]), shares)
    return replace(tree_of(tokens, parents), proposals=proposals)
