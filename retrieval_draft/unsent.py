"""What a conversation keeps of each sequence until its drafter has it: tokens, and observations to send."""

from dataclasses import dataclass, field

import numpy as np

from retrieval_draft.step import Rows, SequenceStart
from retrieval_draft.tree import DraftTree, Int32Array

ROWS_PENDING_MAX = 4096


@dataclass(slots=True)
class OpenSequence:
    """One sequence: all its tokens, and up to where the drafter has them."""

    start: SequenceStart
    tokens: Int32Array
    length: int
    acknowledged: int = 0
    learned_to: int = 0
    tree_step: int = 0
    verified_step: int = 0
    accepted: int = -1
    verified_tree: DraftTree | None = None
    """What was verified in place of the drafter's tree."""
    asked_step: int = 0
    """The newest step that was sent with this sequence."""
    rows: list[Rows] = field(default_factory=list)
    dead: bool = False

    def append(self, tokens: Int32Array) -> None:
        needed = self.length + len(tokens)
        if needed > len(self.tokens):
            larger = np.empty(max(needed, 2 * len(self.tokens)), np.int32)
            larger[: self.length] = self.tokens[: self.length]
            self.tokens = larger
        self.tokens[self.length : needed] = tokens
        self.length = needed


@dataclass(frozen=True, slots=True)
class Sent:
    """What an outstanding message holds, to be acknowledged when its answer comes."""

    step_id: int
    sequence_ids: list[str]
    # The very ones that were sent: a name may have been opened anew before its answer comes.
    sequences: list[OpenSequence]
    lengths: list[int]
    finished: list[bool]


def add_rows(sequence: OpenSequence, rows: Rows | None) -> None:
    if rows is not None and sum(map(len, sequence.rows)) < ROWS_PENDING_MAX:
        sequence.rows.append(rows)


def joined(rows: list[Rows]) -> Rows | None:
    """Rows of several commits as one; those after nodes count only with their own tree's message."""
    if len(rows) < 2:
        return rows[0] if rows else None
    positions = [part.at >= 0 for part in rows[:-1]]
    width = min(part.tokens.shape[1] for part in rows)
    older = [
        Rows(
            part.at[at],
            part.tokens[at, :width],
            part.logprobs[at, :width],
            None if part.hidden is None else part.hidden[at],
        )
        for part, at in zip(rows, positions, strict=False)
    ]
    parts = [*older, rows[-1]]
    hidden = [part.hidden for part in parts if part.hidden is not None]
    has_hidden = len(hidden) == len(parts) and len({one.shape[1] for one in hidden}) == 1
    return Rows(
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.tokens[:, :width] for part in parts]),
        np.concatenate([part.logprobs[:, :width] for part in parts]),
        np.concatenate(hidden) if has_hidden else None,
    )
