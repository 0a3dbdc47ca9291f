"""Copies of what followed the places of a tier that agree with the present context."""

from dataclasses import dataclass

from retrieval_draft.tree import Int32Array

WINDOW_TOKENS = 64
"""Tokens copied after a place: no tree is deeper."""


@dataclass(frozen=True, slots=True)
class Places:
    """windows int32[n, WINDOW_TOKENS] and lengths int32[n]: what followed n agreeing places of a tier."""

    windows: Int32Array
    lengths: Int32Array

    def __len__(self) -> int:
        return len(self.lengths)
