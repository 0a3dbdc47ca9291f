"""A sequence's dense retrieval: what is asked and learned for it, and what came of the last question."""

import numpy as np

from retrieval_draft.drafting.near import Near, near
from retrieval_draft.step import Rows
from retrieval_draft.store.dense_thread import DenseTier, Mailbox
from retrieval_draft.store.embedding import TAIL_TOKENS, StateArray
from retrieval_draft.store.records import Record, tokens_of
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import int32s

STATES_MAX = 4096
"""Kept until their tokens are journalled; later ones are not learned."""


class Similar:
    """Positions are absolute, `first` is that of the ring's position 0. Nothing here waits."""

    def __init__(self, tier: DenseTier, first: int, learned_from: int) -> None:
        self._tier = tier
        self._first = first
        self._learned_from = learned_from
        self._mailbox = Mailbox()
        self._states: dict[int, StateArray] = {}
        self._newest: tuple[int, StateArray] | None = None

    def observe(self, rows: Rows, stop: int) -> None:
        """Keep the hidden states after committed tokens, all before `stop`; those after nodes go."""
        if not self._tier.is_hidden or rows.hidden is None:
            return
        for at, state in zip(rows.at.tolist(), rows.hidden, strict=True):
            if not 0 <= at < stop:
                continue
            if at >= self._learned_from and len(self._states) < STATES_MAX:
                self._states[at] = state
            if self._newest is None or at >= self._newest[0]:
                self._newest = (at, state)

    def cut(self, base: int) -> None:
        """Positions from `base` on were taken back."""
        self._states = {at: state for at, state in self._states.items() if at < base}
        if self._newest is not None and self._newest[0] >= base:
            self._newest = None
        if self._mailbox.answer is not None and self._mailbox.answer[0] > base:
            self._mailbox.answer = None

    def learn(self, replica: str, record: Record) -> None:
        """The record was journalled: hidden states are learned here, for they are not in it.

        Of tokens the journal's reader learns, on every replica.
        """
        if not self._tier.is_hidden or not record.tokens:
            return
        tokens = int32s(tokens_of(record.tokens))
        stop = record.position + len(tokens)
        known = {at: self._states[at] for at in range(record.position, stop) if at in self._states}
        self._states = {at: state for at, state in self._states.items() if at >= stop}
        if not known:
            return
        width = len(next(iter(known.values())))
        states = np.zeros((len(tokens), width), np.float16)
        for at, state in known.items():
            if len(state) == width:
                states[at - record.position] = state
        nothing = int32s([])
        self._tier.learn(replica, record.sequence, record.position, nothing, tokens, states)

    def ask(self, ring: TokenRing) -> None:
        """Let the neighbours of the present context be found for the next draft."""
        stop = ring.stop
        if self._tier.is_hidden:
            if self._newest is not None:
                at, state = self._newest
                self._tier.ask(self._mailbox, at + 1, int32s([]), state)
                self._newest = None
            return
        tail = ring.read(max(ring.low, stop - TAIL_TOKENS), stop)
        self._tier.ask(self._mailbox, self._first + stop, tail)

    def near(self, ring: TokenRing) -> Near | None:
        """What the last answer says of the present context, if it still says anything."""
        answer = self._mailbox.answer
        if answer is None:
            return None
        stop, found = answer
        at = stop - self._first
        return near(found, ring.read(at, ring.stop)) if ring.low <= at <= ring.stop else None
