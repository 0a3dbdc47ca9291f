"""Prompt lookup as a drafter of the decoder: the baseline that needs no sidecar."""

from typing import Unpack

from retrieval_draft.drafter import Opening
from retrieval_draft.replay.peers import LookupPeer
from retrieval_draft.step import Rows
from retrieval_draft.tree import DraftTree, Int32Array

LOOKUP_TOKENS = 10
"""transformers' num_output_tokens."""


class LookupDrafter:
    """A chain of what followed the longest of the last 3, 2, 1 tokens where they first stood.

    transformers' default looks for 2 and 1 only. Always drafts, as it does: no price is asked.
    """

    def __init__(self, nodes_max: int = LOOKUP_TOKENS) -> None:
        self._nodes_max = nodes_max
        self._peers: dict[str, LookupPeer] = {}

    @property
    def observation_width(self) -> int:
        return 0

    @property
    def hidden_width(self) -> int:
        return 0

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        peer = LookupPeer(self._nodes_max)
        peer.open(tokens, None, opening["temperature"])
        self._peers[sequence_id] = peer

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        self._peers[sequence_id].commit(tokens, accepted, None)

    def draft(self, nodes_max: dict[str, int]) -> dict[str, DraftTree]:
        return {name: self._peers[name].draft() for name, most in nodes_max.items() if most}

    def finish(self, sequence_id: str) -> None:
        del self._peers[sequence_id]
