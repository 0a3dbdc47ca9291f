"""What a draft model adds to a retrieved tree: tokens that it lists where retrieval does not.

Learned from every committed token that followed where the model listed any: how often it alone had it,
by how much of the next token's probability retrieval covered there.
"""

import numpy as np

from retrieval_draft.tree import DraftTree

BINS = 9
"""Of the covered share: nothing, then eighths."""
RESCUED_AT_FIRST = 0.7
"""Of what retrieval leaves open."""
SIGHTINGS_AT_FIRST = 4.0
SIGHTINGS_MAX = 256.0
"""A bin that has them forgets half."""
OFF = -2


class Cover:
    """A retrieved tree, walked by paths of tokens: what share of the next token it covers there."""

    def __init__(self, tree: DraftTree) -> None:
        self._node: dict[tuple[int, int], int] = {}
        self._covered = [0.0] * (len(tree) + 1)
        probability = [*tree.probability.tolist(), 1.0]
        edges = zip(tree.parent.tolist(), tree.token.tolist(), strict=True)
        for node, (parent, token) in enumerate(edges):
            self._node[parent, token] = node
            self._covered[parent] += probability[node] / max(probability[parent], 1e-30)

    def child(self, node: int, token: int) -> int:
        """OFF where the tree does not go, and behind it."""
        return self._node.get((node, token), OFF)

    def at(self, node: int) -> float:
        return 0.0 if node == OFF else min(1.0, self._covered[node])

    def along(self, path: list[int]) -> float:
        """Behind these tokens."""
        node = -1
        for token in path:
            node = self.child(node, token)
        return self.at(node)


class Rescues:
    """Chances by covered share."""

    def __init__(self) -> None:
        covered = np.arange(BINS) / (BINS - 1)
        self._seen = [SIGHTINGS_AT_FIRST] * BINS
        self._rescued = (SIGHTINGS_AT_FIRST * RESCUED_AT_FIRST * (1 - covered)).tolist()

    def chance(self, covered: float) -> float:
        """That the model lists the next token where retrieval covers so much and has another."""
        place = _bin(covered)
        rescued: float = self._rescued[place] / self._seen[place]
        return rescued

    def teach(self, model: Cover, retrieved: Cover, committed: list[int]) -> None:
        """These tokens followed where both trees were drafted."""
        ours = theirs = -1
        for token in committed:
            if not model.at(ours):
                return
            place = _bin(retrieved.at(theirs))
            ours, theirs = model.child(ours, token), retrieved.child(theirs, token)
            self._seen[place] += 1
            self._rescued[place] += ours != OFF and theirs == OFF
            if self._seen[place] > SIGHTINGS_MAX:
                self._seen[place] /= 2
                self._rescued[place] /= 2


def _bin(covered: float) -> int:
    return min(BINS - 1, -int(-covered * (BINS - 1) // 1))
