"""What of a chain is worth verifying, by its probabilities alone: for engines whose costs nobody measured.

Where a cost table is known it decides, and better: what a node is worth depends on the load.
"""

from dataclasses import dataclass

from retrieval_draft.tree import EMPTY, DraftTree


@dataclass(frozen=True, slots=True)
class Floor:
    """Bounds of the probability that a node's whole path is accepted; 0 = none."""

    node: float = 0.0
    """A chain ends before the first node that is less probable."""
    first: float = 0.0
    """A chain whose first node is less probable is not verified at all."""

    def kept(self, chain: DraftTree) -> DraftTree:
        """The part that is worth it: the chain itself, or a shorter one. O(nodes).

        A drawn chain stays whole: its verification relies on that no node was left out for what it is.
        """
        if chain.proposals is not None or not len(chain):
            return chain
        probability = chain.probability.tolist()
        if probability[0] < self.first:
            return EMPTY
        for i, one in enumerate(probability):
            if one < self.node:
                return DraftTree(
                    chain.token[:i], chain.parent[:i], chain.probability[:i], chain.source[:i]
                )
        return chain


NO_FLOOR = Floor()
