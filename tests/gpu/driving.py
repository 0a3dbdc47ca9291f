"""Driving a decoder to the end of a list of requests."""

from collections.abc import Sequence

from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Committed, Figures, Finish, Request


class Outputs:
    """Tokens, finish and last figures by sequence."""

    def __init__(self) -> None:
        self.tokens: dict[str, list[int]] = {}
        self.finish: dict[str, Finish] = {}
        self.figures: dict[str, Figures] = {}

    def take(self, committed: Committed) -> None:
        sequence_id = committed.sequence_id
        assert sequence_id not in self.finish
        self.tokens.setdefault(sequence_id, []).extend(committed.tokens.tolist())
        self.figures[sequence_id] = committed.figures
        if committed.finish is not None:
            self.finish[sequence_id] = committed.finish


def decode_all(decoder: Decoder, requests: Sequence[Request]) -> Outputs:
    """Sequences join as soon as a slot is free, at most one between two steps."""
    outputs = Outputs()
    waiting = list(requests)
    while waiting or decoder.active:
        if waiting and decoder.has_room():
            outputs.take(decoder.admit(waiting.pop(0)))
        for committed in decoder.step():
            outputs.take(committed)
    return outputs
