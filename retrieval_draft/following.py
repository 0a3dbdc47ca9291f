"""A batch's sequences go on with the tokens that came, and where that is one call they are drafted for."""

from collections.abc import Sequence

from retrieval_draft.drafting.batch import NOT_GROWN, Growing, Row, joined, row_of
from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.kernels.stepping import CUT, FOLLOW, GROW, KEPT
from retrieval_draft.drafting.mix import NOT_GROWING
from retrieval_draft.drafts import Asked, learned_of
from retrieval_draft.feedback import OnCommitted, Taken, count_feedback, judge_apart, judged_of
from retrieval_draft.step import DraftOptions, Learning

DEFAULTS = DraftOptions()


def follow(
    batch: list[Taken],
    on_committed: OnCommitted | None = None,
    asked: Sequence[Asked] = (),
    options: DraftOptions = DEFAULTS,
    growing: Growing | None = None,
) -> Forest:
    """One namespace's sequences: their newest drafts are judged, their new tokens teach and are appended.

    With `growing` all of `asked` have what is worth verifying in the forest, tree i of batch[i]. O(tokens +
    nodes).
    """
    state = batch[0].sequence.state
    grown = [NOT_GROWN] * len(batch)
    if growing is not None:
        for one in asked:
            its = batch[one.row]
            grown[one.row] = one.grown_row(options, its.base + len(its.part.tokens))
    rows: list[Row] = []
    stop = 0
    for its, grown_row in zip(batch, grown, strict=True):
        judge_apart(state, its)
        sequence, tokens, first = its.sequence, its.part.tokens, stop
        stop = first + len(tokens)
        teaching_from = max(0, sequence.prompt_length - its.base)
        if sequence.learning == Learning.NONE:
            # The mixer remembers common tokens, and drafts them for others.
            teaching_from = len(tokens)
        came = first, stop, teaching_from
        judged = judged_of(its)
        rows.append(row_of(sequence.ring, sequence.root, sequence.kind, judged, came, grown_row))
    forest = state.methods.mix.step(
        FOLLOW if growing is None else FOLLOW | GROW | CUT,
        learned_of(state),
        rows,
        joined([its.part.tokens for its in batch]),
        state.counters.table,
        growing or NOT_GROWING,
    )
    for its in batch:
        its.sequence.ring.advance(len(its.part.tokens))
    count_feedback(state, batch, forest.counts[KEPT], on_committed)
    return forest
