"""What a search for similar contexts answers."""

from dataclasses import dataclass

from retrieval_draft.tree import Float32Array, Int32Array

WINDOW_TOKENS = 96
"""Copied after a neighbour: as deep as a tree may be, and what the sequence went on by meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What followed contexts like the asked one, most similar first.

    windows int32[n, WINDOW_TOKENS], -1 from a text's end on; similarity float32[n], cosines.
    """

    windows: Int32Array
    similarity: Float32Array

    def __len__(self) -> int:
        return len(self.similarity)
