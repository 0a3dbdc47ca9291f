"""Observe only: what drafting would bring on this traffic, while every token is decoded plainly.

A draft is asked for as if it were to be verified, and kept back from the decoder. The tokens that follow
tell, one plain step after the other, what verification would have kept of it; once they leave the tree,
they are committed at once, as one step's. So the drafter learns and counts as if its drafts were used.
"""

from dataclasses import dataclass, field
from typing import Unpack

import numpy as np

from retrieval_draft.drafter import Drafter, Opening
from retrieval_draft.step import Rows
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, int32s
from retrieval_draft.unsent import joined


@dataclass(slots=True)
class _Shadow:
    """A sequence's draft that is not verified, and what was committed since."""

    tree: DraftTree | None = None
    node: int = -1
    """The last node that the tokens agree with."""
    accepted: int = -1
    """How many, if there was a draft."""
    tokens: list[int] = field(default_factory=list[int])
    rows: list[Rows] = field(default_factory=list[Rows])


class ObservingDrafter:
    """Gives the decoder nothing to verify, and its own drafter the figures of a step that verified."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._shadows: dict[str, _Shadow] = {}

    @property
    def observation_width(self) -> int:
        return self._drafter.observation_width

    @property
    def hidden_width(self) -> int:
        return self._drafter.hidden_width

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        self._shadows[sequence_id] = _Shadow()
        self._drafter.open(sequence_id, tokens, **opening)

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        """Plain steps: a token each. The step that would have been ends where the tree does."""
        shadow = self._shadows.get(sequence_id)
        if shadow is None:
            return
        shadow.tokens += tokens.tolist()
        if rows is not None:
            shadow.rows.append(rows)
        for token in tokens.tolist():
            if shadow.tree is not None and not self._descends(shadow, shadow.tree, token):
                shadow.tree = None
        if shadow.tree is None:
            self._settle(sequence_id, shadow)

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        """Nothing to verify. Asks for the sequences whose last draft is used up."""
        asked = {
            name: most
            for name, most in nodes_max.items()
            if (shadow := self._shadows.get(name)) is not None and shadow.tree is None
        }
        if asked:
            trees = self._drafter.draft(asked)
            for name in asked:
                shadow = self._shadows[name]
                shadow.tree, shadow.node = trees.get(name, EMPTY), -1
                shadow.accepted = 0 if len(shadow.tree) else -1
        return {}

    def finish(self, sequence_id: str) -> None:
        shadow = self._shadows.pop(sequence_id, None)
        if shadow is not None:
            self._settle(sequence_id, shadow)
        self._drafter.finish(sequence_id)

    def _descends(self, shadow: _Shadow, tree: DraftTree, token: int) -> bool:
        """Whether verification would have gone on behind this token."""
        children = np.flatnonzero(tree.parent[shadow.node + 1 :] == shadow.node) + shadow.node + 1
        for child in children.tolist():
            if int(tree.token[child]) == token:
                shadow.node, shadow.accepted = child, shadow.accepted + 1
                return True
        return False

    def _settle(self, sequence_id: str, shadow: _Shadow) -> None:
        if shadow.tokens:
            rows = joined(shadow.rows)
            self._drafter.commit(sequence_id, int32s(shadow.tokens), shadow.accepted, rows)
        shadow.tokens, shadow.rows, shadow.accepted = [], [], -1
