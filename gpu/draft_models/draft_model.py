"""What a draft model is to a worker: a drafter that also says what it expects of tokens it did not draft.

A smaller causal model (`causal.py`) and the target's own first layers (`first_layers.py`) are served by
one implementation; cascades and trained heads have their place here too.
"""

from typing import Protocol

from retrieval_draft.drafter import Drafter
from retrieval_draft.tree import Float32Array, Int32Array


class DraftModel(Drafter, Protocol):
    """Trees whose probabilities are of whole paths, as the model holds them; parents before children.

    It may raise: whoever asks guards it, as any drafter. After it did it must be usable again.
    """

    def expects(self, sequence_id: str, tokens: Int32Array) -> Float32Array:
        """The probabilities of these tokens at the root of the sequence's newest tree."""
        ...
