"""What a conversation keeps of each sequence until its drafter has it: tokens, and observations to send."""

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from retrieval_draft.step import Rows, SequenceStart, SequenceStep
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
    tree_cut: DraftTree | None = None
    """What was left of that step's tree, if it was not given to the engine as it came."""
    verified_step: int = 0
    accepted: int = -1
    verified_tree: DraftTree | None = None
    """What was verified in place of the drafter's tree."""
    asked_step: int = 0
    """The newest step that was sent with this sequence."""
    rows: list[Rows] = field(default_factory=list)
    dead: bool = False

    def part(
        self,
        step_id: int,
        name: str,
        nodes_max: int,
        model_tree: DraftTree | None,
        *,
        finished: bool,
    ) -> SequenceStep:
        """What the drafter lacks of it, for the message of this step.

        Feedback and observations are gone with it, even if it is lost: they are evidence, not state.
        """
        base = self.acknowledged
        sent = SequenceStep(
            sequence_id=name,
            base_position=base,
            tokens=self.tokens[base : self.length],
            start=None if base else replace(self.start, learn_from=self.learned_to),
            nodes_max=nodes_max,
            finished=finished,
            verified_step=self.verified_step,
            accepted=self.accepted,
            rows=joined(self.rows),
            model_tree=model_tree,
            verified_tree=self.verified_tree,
        )
        self.rows = []
        self.verified_step, self.accepted, self.verified_tree = 0, -1, None
        self.asked_step = step_id
        return sent

    def forget_steps(self) -> None:
        """What was asked and verified belongs to a message that was lost."""
        self.tree_step = self.verified_step = self.asked_step = 0
        self.accepted, self.verified_tree = -1, None

    def append(self, tokens: Int32Array) -> None:
        needed = self.length + len(tokens)
        if needed > len(self.tokens):
            larger = np.empty(max(needed, 2 * len(self.tokens)), np.int32)
            larger[: self.length] = self.tokens[: self.length]
            self.tokens = larger
        self.tokens[self.length : needed] = tokens
        self.length = needed


class Sent(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What an outstanding message holds, to be acknowledged when its answer comes."""

    step_id: int
    sequence_ids: list[str]
    # The very ones that were sent: a name may have been opened anew before its answer comes.
    sequences: list[OpenSequence]
    lengths: list[int]
    finished: list[bool]


class Question(msgspec.Struct, eq=False, gc=False):
    """A message whose trees are still to be taken, in time: `seconds` were spent on it so far."""

    sent: Sent
    nodes_max: dict[str, int]
    deadline: float
    seconds: float


def add_rows(sequence: OpenSequence, rows: Rows | None) -> None:
    if rows is not None and sum(map(len, sequence.rows)) < ROWS_PENDING_MAX:
        sequence.rows.append(rows)


def along_tokens(rows: Rows) -> Rows:
    """Those after committed tokens alone, without those after nodes of a tree."""
    at = rows.at >= 0
    if at.all():
        return rows
    hidden = None if rows.hidden is None else rows.hidden[at]
    return Rows(rows.at[at], rows.tokens[at], rows.logprobs[at], hidden)


def joined(rows: list[Rows]) -> Rows | None:
    """Rows of several commits as one; those after nodes must all be of one tree."""
    if len(rows) < 2:
        return rows[0] if rows else None
    width = min(part.tokens.shape[1] for part in rows)
    hidden = [part.hidden for part in rows if part.hidden is not None]
    has_hidden = len(hidden) == len(rows) and len({one.shape[1] for one in hidden}) == 1
    return Rows(
        np.concatenate([part.at for part in rows]),
        np.concatenate([part.tokens[:, :width] for part in rows]),
        np.concatenate([part.logprobs[:, :width] for part in rows]),
        np.concatenate(hidden) if has_hidden else None,
    )
