"""What a decoder asks of a drafter: the sidecar's conversation, a draft model, or one around another."""

from typing import Protocol, TypedDict

from retrieval_draft.step import Learning, Rows
from retrieval_draft.tree import DraftTree, Int32Array


class Opening(TypedDict):
    """What a drafter is told of a sequence when it begins, beside its prompt."""

    rows: Rows | None
    """What the target predicted along the prompt, if the drafter wants observations."""
    temperature: float | None
    length_max: int
    end_tokens: tuple[int, ...]
    learning: Learning
    corpora: tuple[str, ...]


class Drafter(Protocol):
    """Drafts for the sequences of one decoder. Never raises, never blocks past its own deadline."""

    @property
    def observation_width(self) -> int:
        """How many of the target's most probable tokens it wants per row; 0 = send none."""
        ...

    @property
    def hidden_width(self) -> int:
        """How wide hidden states may be that it wants in rows of steps; 0 = send none."""
        ...

    # Spelled out: drafters may name these as they are, or take them as an `Opening`.
    def open(
        self,
        sequence_id: str,
        tokens: Int32Array,
        *,
        rows: Rows | None,
        temperature: float | None,
        length_max: int,
        end_tokens: tuple[int, ...],
        learning: Learning,
        corpora: tuple[str, ...],
    ) -> None:
        """A sequence begins with this prompt, prefilled; no token of it will pass `length_max`."""
        ...

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        """`tokens` were committed; `accepted` of its last tree's nodes stayed, -1 = unknown."""
        ...

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        """Trees of at most so many nodes for these sequences; whoever is missing gets none."""
        ...

    def finish(self, sequence_id: str) -> None:
        """The sequence is over, at its end or cut off."""
        ...
