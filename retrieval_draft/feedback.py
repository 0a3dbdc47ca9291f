"""What came of a sequence's newest draft: counted, taught to its methods, and told to who listens."""

from collections.abc import Callable

from retrieval_draft.sequence import Held, Sequence
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
    held, counters = sequence.held, sequence.state.counters
    new = base + len(part.tokens) - max(base, sequence.prompt_length)
    if sequence.stop == sequence.first or new <= 0:
        new = 0
    if held is None or held.stop != base or not len(part.tokens):
        # Nothing was drafted for these tokens: every one of them was a plain step.
        counters.committed(new, steps=new)
        _tell(on_committed, sequence, part, new, None, [])
        return None
    verified, path = _verified(held, part)
    # Steps that did not ask come with the next message: one token each, behind the verified path.
    known = verified is not None or not len(held.tree)
    plain = max(0, new - len(path) - 1) if known else 0
    counters.committed(new, steps=min(new, 1 + plain))
    _tell(on_committed, sequence, part, new, verified, path)
    sequence.state.methods.teach(held.draft, part.tokens)
    if verified is not None:
        counters.verified(verified, path, held.method, sequence.root.agreement())
    elif part.verified_step:
        counters.ignored_feedback += 1
    return verified


def _tell(
    on_committed: OnCommitted | None,
    sequence: Sequence,
    part: SequenceStep,
    new: int,
    verified: DraftTree | None,
    path: list[int],
) -> None:
    if on_committed is not None and new and sequence.learning != Learning.NONE:
        key, tokens = sequence.state.key, part.tokens[len(part.tokens) - new :]
        on_committed(key, sequence.number, tokens, verified, path)


def _verified(held: Held, part: SequenceStep) -> tuple[DraftTree | None, list[int]]:
    """The tree that was verified and what of it was kept; no tree if that is not ours to tell."""
    if part.verified_step != held.step_id:
        return None, []
    # In a batch where others verified trees of their own, an empty one stands for ours.
    tree = part.verified_tree or held.tree
    path = tree.follow(part.tokens.tolist())
    if part.accepted > len(path):
        return None, []
    return tree, path[: part.accepted] if part.accepted >= 0 else path
