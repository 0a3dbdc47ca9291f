"""Small recorded files, made by hand or by a seed."""

from collections.abc import Sequence

import numpy as np

from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.step import Rows
from retrieval_draft.tree import DraftTree, Int32Array, int32s

VOCAB = 50


def recorded(
    prompt: Sequence[int],
    output: Sequence[int],
    *,
    has_rows: bool = False,
    temperature: float | None = 0.8,
) -> Recorded:
    """One sequence; its rows expect what follows, then two other tokens."""
    whole = int32s([*prompt, *output])
    rows = None
    if has_rows:
        following = whole[1:]
        tokens = np.stack([following, (following + 1) % VOCAB, (following + 2) % VOCAB], axis=1)
        logprobs = np.log(np.tile(np.array([0.6, 0.3, 0.1], np.float32), (len(following), 1)))
        rows = Rows(int32s(np.arange(len(following))), int32s(tokens), logprobs)
    return Recorded(int32s(prompt), int32s(output), rows, temperature)


def file_of(*sequences: Recorded) -> RecordedFile:
    return RecordedFile("by hand", VOCAB, list(sequences))


def repetitive(seed: int, sequences: int, *, has_rows: bool = False) -> RecordedFile:
    """Sequences that repeat phrases of their own and of one another, with noise between."""
    random = np.random.default_rng(seed)
    phrases = [random.integers(0, VOCAB, 7) for _ in range(6)]

    def text(parts: int) -> Int32Array:
        chosen = [
            phrases[i] if i < 6 else random.integers(0, VOCAB, 2)
            for i in random.integers(0, 8, parts)
        ]
        return int32s(np.concatenate(chosen))

    return file_of(
        *(
            recorded(text(4).tolist(), text(12).tolist(), has_rows=has_rows)
            for _ in range(sequences)
        )
    )


class Scripted:
    """A drafter that drafts what it is told, and notes what it is shown."""

    def __init__(self, *trees: DraftTree) -> None:
        self.trees = list(trees)
        self.calls: list[tuple[str, list[int], int, list[int]]] = []
        self.seconds, self.answer_seconds = 2e-6, 1e-6

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        self.calls.append(("open", prompt.tolist(), -1, [] if rows is None else rows.at.tolist()))

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        at = [] if rows is None else rows.at.tolist()
        self.calls.append(("commit", tokens.tolist(), accepted, at))

    def draft(self) -> DraftTree:
        return self.trees.pop(0)

    def close(self) -> None:
        self.calls.append(("close", [], -1, []))
