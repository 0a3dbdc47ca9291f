"""What came of a sequence's newest draft: counted, taught to its methods, and told to who listens."""

from collections.abc import Callable

from retrieval_draft.sequence import Sequence
from retrieval_draft.step import Learning, SequenceStep
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.tree import DraftTree, Int32Array

OnCommitted = Callable[[NamespaceKey, int, Int32Array, DraftTree | None, list[int]], None]
"""Hears of a sequence's new output tokens, and of the tree and the path that some of them came by. Not of
sequences that teach nothing. It is called within the step, and must not raise."""


def feedback(
    sequence: Sequence, part: SequenceStep, base: int, on_committed: OnCommitted | None
) -> DraftTree | None:
    """Count and teach what the held draft brought; the tree that was verified, if it is known.

    Feedback about any other tree is ignored; its tokens are kept all the same. O(tokens + nodes).
    """
    held, counters, tokens = sequence.held, sequence.state.counters, part.tokens
    new = base + len(tokens) - max(base, sequence.prompt_length)
    if new <= 0 or sequence.stop == sequence.first:
        new = 0
    if held is None or held.stop != base or not len(tokens):
        # Nothing was drafted for these tokens: every one of them was a plain step.
        counters.committed(new, steps=new)
        if on_committed is not None:
            _tell(on_committed, sequence, tokens, new, None, 0)
        return None
    verified, kept = None, 0
    if part.verified_step == held.step_id:
        # In a batch where others verified trees of their own, an empty one stands for ours.
        verified = part.verified_tree or held.tree
        kept = counters.verified(verified, tokens, part.accepted, held.method, sequence.root)
        if kept < 0:
            verified, kept = None, 0
    if verified is None and part.verified_step:
        counters.ignored_feedback += 1
    # Steps that did not ask come with the next message: one token each, behind the verified path.
    known = verified is not None or not len(held.tree)
    plain = max(0, new - kept - 1) if known else 0
    counters.committed(new, steps=min(new, 1 + plain))
    if on_committed is not None:
        _tell(on_committed, sequence, tokens, new, verified, kept)
    sequence.state.methods.teach(held.draft, tokens)
    return verified


def _tell(
    on_committed: OnCommitted,
    sequence: Sequence,
    tokens: Int32Array,
    new: int,
    verified: DraftTree | None,
    kept: int,
) -> None:
    if new and sequence.learning != Learning.NONE:
        path = [] if verified is None else verified.follow(tokens.tolist())[:kept]
        key = sequence.state.key
        on_committed(key, sequence.number, tokens[len(tokens) - new :], verified, path)
