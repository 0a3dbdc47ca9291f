"""What a draft model is to a worker: a drafter that also says what it expects of tokens it did not draft.

A smaller causal model (`causal.py`) and the target's own first layers (`first_layers.py`) are served by
one implementation; cascades and trained heads have their place here too.
"""

from collections.abc import Callable
from typing import Protocol

from retrieval_draft.drafter import Drafter
from retrieval_draft.gpu.draft_models.levels import Frontier
from retrieval_draft.tree import DraftTree, Float32Array, Int32Array

GoesOn = Callable[[int, dict[str, list[Frontier]]], bool]
"""Whether trees of so many levels shall have one more, by what that would expand of each sequence."""


class DraftModel(Drafter, Protocol):
    """Trees whose probabilities are of whole paths, as the model holds them; parents before children.

    It may raise: whoever asks guards it, as any drafter. After it did it must be usable again.
    """

    def draft(
        self, nodes_max: dict[str, int], goes_on: GoesOn | None = None
    ) -> dict[str, DraftTree]:
        """As a drafter; `goes_on` is asked after every level but the deepest."""
        ...

    def unread(self, sequence_id: str) -> int:
        """Committed tokens that the model has not read."""
        ...

    def expects(self, sequence_id: str, tokens: Int32Array) -> Float32Array:
        """The probabilities of these tokens at the root of the sequence's newest tree."""
        ...
