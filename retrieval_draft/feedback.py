"""What came of a batch's newest drafts: counted, taught to their methods, and told to who listens."""

from collections.abc import Callable, Sequence

import msgspec

from retrieval_draft.drafting.batch import Judging
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.sequence import Held
from retrieval_draft.sequence import Sequence as OpenSequence
from retrieval_draft.step import Learning, SequenceStep
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.tree import DraftTree, Int32Array

OnCommitted = Callable[[NamespaceKey, int, Int32Array, DraftTree | None, list[int]], None]
"""Hears of a sequence's new output tokens, and of the tree and the path that some of them came by. Not of
sequences that teach nothing. It is called within the step, and must not raise."""


class Taken(msgspec.Struct, eq=False):
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


def taken(index: int, part: SequenceStep, sequence: OpenSequence, base: int) -> Taken:
    """Before the sequence has changed: the newest draft is left to `judge`."""
    held, count = sequence.held, len(part.tokens)
    new = base + count - max(base, sequence.prompt_length)
    if new < 0 or not sequence.ring.stop:
        new = 0
    if held is not None and (held.stop != base or not count):
        held = None
    return Taken(index, part, sequence, base, new, held)


def judge(state: NamespaceState, batch: Sequence[Taken], on_committed: OnCommitted | None) -> None:
    """Count and teach what the drafts of one namespace's sequences brought, before their contexts go on.

    Feedback about any other tree than the newest is ignored; its tokens are kept all the same. O(tokens +
    nodes).
    """
    rows = [
        Judging(
            forest,
            held.draft.row,
            one.sequence.root,
            one.part.tokens,
            held.in_forest
            and one.part.verified_step == held.step_id
            and one.part.verified_tree is None,
            one.part.accepted,
        )
        for one in batch
        if (held := one.held) is not None and (forest := held.draft.forest) is not None
    ]
    kept_of = iter(state.methods.mix.judge(rows, state.counters.table) if rows else ())
    steps = tokens = 0
    for one in batch:
        held, kept = one.held, 0
        # What nothing was drafted for is a plain step a token.
        taken_steps = one.new
        if held is not None:
            kept = next(kept_of) if held.draft.forest is not None else -1
            kept, taken_steps = _judged(state, one, held, kept)
        tokens += one.new
        steps += taken_steps
        if on_committed is not None:
            _tell(on_committed, one, kept)
    state.counters.committed(tokens, steps)


def _judged(state: NamespaceState, one: Taken, held: Held, kept: int) -> tuple[int, int]:
    """How many nodes were kept, and in how many steps the tokens came."""
    part, counters = one.part, state.counters
    if part.verified_step == held.step_id:
        # In a batch where others verified trees of their own, an empty one stands for ours.
        one.verified = part.verified_tree or held.tree
        if part.verified_tree is not None or not held.in_forest:
            root, method = one.sequence.root, held.method
            kept = counters.verified(one.verified, part.tokens, part.accepted, method, root)
        if kept < 0:
            one.verified = None
    if one.verified is None:
        kept = 0
        counters.ignored_feedback += part.verified_step > 0
    # Steps that did not ask come with the next message: one token each, behind the verified path.
    known = one.verified is not None or not len(held.tree.token)
    plain = max(0, one.new - kept - 1) if known else 0
    if held.draft.fused is not None:
        state.methods.mix.teach_fused(held.draft, part.tokens)
    return kept, min(one.new, 1 + plain)


def _tell(on_committed: OnCommitted, one: Taken, kept: int) -> None:
    sequence, verified, tokens = one.sequence, one.verified, one.part.tokens
    if one.new and sequence.learning != Learning.NONE:
        path = [] if verified is None else verified.follow(tokens.tolist())[:kept]
        new = tokens[len(tokens) - one.new :]
        on_committed(sequence.state.key, sequence.number, new, verified, path)
