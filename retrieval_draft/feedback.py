"""What came of a batch's newest drafts: counted, taught to their methods, and told to who listens."""

from collections.abc import Callable, Sequence

import msgspec

from retrieval_draft.drafting.batch import NO_TREE, Row, judged_row
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.sequence import Held
from retrieval_draft.sequence import Sequence as OpenSequence
from retrieval_draft.step import Learning, SequenceStep
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.tree import DraftTree, Int32Array

OnCommitted = Callable[[NamespaceKey, int, Int32Array, DraftTree | None, list[int]], None]
"""Hears of a sequence's new output tokens, and of the tree and the path that some of them came by. Not of
sequences that teach nothing. It is called within the step, and must not raise."""


class Taken(msgspec.Struct, eq=False, gc=False):
    """A sequence that took a step's tokens, which replace it from position `base` on."""

    index: int
    """Into the batch."""
    part: SequenceStep
    sequence: OpenSequence
    base: int
    new: int
    """How many of the tokens are output that nobody knew yet."""
    held: Held | None
    """The draft that these tokens decide over; None where nothing was drafted for them."""
    verified: DraftTree | None = None
    """The tree that was verified, if that is known."""
    kept: int = -1
    """How many of its nodes were; -1 as long as nobody has counted."""


def taken(index: int, part: SequenceStep, sequence: OpenSequence, base: int) -> Taken:
    """Before the sequence has changed: the newest draft is left to who counts."""
    held, count = sequence.held, len(part.tokens)
    new = base + count - max(base, sequence.prompt_length)
    if new < 0 or not sequence.ring.stop:
        new = 0
    if held is not None and (held.stop != base or not count):
        held = None
    return Taken(index, part, sequence, base, new, held)


def judged_of(one: Taken) -> Row:
    """What `mix` grew for these tokens, if anything, as its kernel takes it."""
    held, part = one.held, one.part
    if held is None or (forest := held.draft.forest) is None:
        return NO_TREE
    is_verified = (
        held.in_forest and part.verified_step == held.step_id and part.verified_tree is None
    )
    return judged_row(forest, held.draft.row, is_verified, part.accepted)


def judge_apart(state: NamespaceState, one: Taken) -> None:
    """Count what was verified if it is not what its forest has, before its context goes on. O(nodes)."""
    held, part = one.held, one.part
    if held is None or part.verified_step != held.step_id:
        return
    if part.verified_tree is not None or not held.in_forest:
        # In a batch where others verified trees of their own, an empty one stands for ours.
        one.verified = part.verified_tree or held.tree
        root = one.sequence.root
        one.kept = state.counters.verified(
            one.verified, part.tokens, part.accepted, held.method, root
        )


def count_feedback(
    state: NamespaceState,
    batch: Sequence[Taken],
    kept_in_forest: Sequence[int],
    on_committed: OnCommitted | None,
) -> None:
    """Count what the drafts of one namespace's sequences brought; `kept_in_forest` is what the kernel found.

    Feedback about any other tree than the newest is ignored; its tokens are kept all the same.
    """
    steps = tokens = 0
    for one, kept in zip(batch, kept_in_forest, strict=True):
        # What nothing was drafted for is a plain step a token.
        taken_steps = one.new
        if one.held is None:
            one.kept = 0
        else:
            taken_steps = _judged(state, one, one.held, kept)
        tokens += one.new
        steps += taken_steps
        if on_committed is not None:
            _tell(on_committed, one)
    state.counters.committed(tokens, steps)


def _judged(state: NamespaceState, one: Taken, held: Held, kept: int) -> int:
    """In how many steps the tokens came."""
    part = one.part
    if kept >= 0:
        one.verified, one.kept = held.tree, kept
    elif one.kept < 0:
        one.verified, one.kept = None, 0
        state.counters.ignored_feedback += part.verified_step > 0
    # Steps that did not ask come with the next message: one token each, behind the verified path.
    known = one.verified is not None or not len(held.tree.token)
    plain = max(0, one.new - one.kept - 1) if known else 0
    if held.draft.fused is not None:
        state.methods.mix.teach_fused(held.draft, part.tokens)
    return min(one.new, 1 + plain)


def _tell(on_committed: OnCommitted, one: Taken) -> None:
    sequence, verified, tokens = one.sequence, one.verified, one.part.tokens
    if one.new and sequence.learning != Learning.NONE:
        path = [] if verified is None else verified.follow(tokens.tolist())[: one.kept]
        new = tokens[len(tokens) - one.new :]
        on_committed(sequence.state.key, sequence.number, new, verified, path)
