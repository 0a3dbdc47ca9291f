"""The learned tier of one namespace: a pure function of the journal records applied so far.

Nothing here depends on reads, clocks or the replica, so that replicas at equal journal positions hold
equal arrays. One applier thread writes; drafting reads beside it.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from retrieval_draft.store.ngrams import buckets_within, slot_bytes, slots_in, table_bytes
from retrieval_draft.store.records import ROW_CONTEXT_TOKENS, ROW_WIDTH
from retrieval_draft.store.recycling import WIDTH, Recycling
from retrieval_draft.store.ring import BYTES_PER_TOKEN, TokenRing, boundary
from retrieval_draft.store.stand import Grams, Stand
from retrieval_draft.tree import Int32Array

if TYPE_CHECKING:
    from retrieval_draft.store.records import Batch, Record

RING_TOKENS_MIN = 1 << 10
RING_TOKENS_FIRST, RING_GROWTH = 1 << 12, 4
"""A ring's room for tokens before any came, and what it grows by when they fill it."""
STAND_SHARE, COUNTS_SHARE = 0.25, 0.5
"""Of the namespace's bytes: for the probabilities after n-grams, and for the counts of what followed."""
DIGEST_TOKENS = 1 << 16
"""Copied at a time: drafting must not wait for long."""
LOOP_PERIOD_MAX = 16
LOOP_TOKENS_MIN = 32
"""Records are no shorter where a target's predictions fill them."""
LOOP_REPEATS_MIN = 2
NO_POSITIONS = np.empty(0, np.int32)
NO_ROWS, NO_LOGPROBS = np.empty((0, ROW_WIDTH), np.int32), np.empty((0, ROW_WIDTH), np.uint8)
"""Of a record without predictions."""


def ring_capacity(bytes_max: int) -> int:
    """The largest power of two of tokens whose ring stays within `bytes_max`."""
    tokens = max(RING_TOKENS_MIN, bytes_max // BYTES_PER_TOKEN)
    return 1 << (tokens.bit_length() - 1)


def is_loop(context: Int32Array, tokens: Int32Array) -> bool:
    """Whether the tokens only repeat, once more, a short text that the context was already in.

    There is nothing to learn of it, however often it comes; where a loop begins is learned.
    """
    if not len(context) or len(tokens) < LOOP_TOKENS_MIN:
        return False
    text = [*context.tolist(), *tokens.tolist()]
    longest = min(LOOP_PERIOD_MAX, len(tokens) // LOOP_REPEATS_MIN)
    # Lists: nearly always the first tokens differ already.
    return any(text[d] == text[0] and text[d:] == text[:-d] for d in range(1, longest + 1))


class LearnedTier:
    """Recent outputs as a ring with counts and chains, the recycling matrix, and STAND's probabilities.

    `bytes_max` bounds it. What has learned little holds little: the ring's chains and STAND's table grow,
    and of the counts only the windows that were written take memory.
    """

    def __init__(self, vocab_size: int, bytes_max: int) -> None:
        self.vocab_size = vocab_size
        self.recycling = Recycling(vocab_size)
        self.stand = Stand(int(bytes_max * STAND_SHARE))
        buckets = buckets_within(int(bytes_max * COUNTS_SHARE))
        # What STAND's power of two of slots leaves of its share has room for the index of the counts.
        shares = int(bytes_max * STAND_SHARE) + slot_bytes(buckets)
        others = max(shares, self.stand.nbytes_max + table_bytes(buckets))
        self.ring_tokens_max = ring_capacity(bytes_max - self.recycling.nbytes - others)
        self.ring = TokenRing(min(RING_TOKENS_FIRST, self.ring_tokens_max), buckets)
        self.tokens_learned = 0
        # Whose tokens stand at the ring's end, and which position would continue them.
        self.open_text: tuple[str, int, int] | None = None

    @property
    def parts(self) -> tuple[TokenRing, Recycling, Grams]:
        """What drafts of `mix` read, as it is now: each of them may be replaced as it grows."""
        return self.ring, self.recycling, self.stand.expected

    @property
    def nbytes(self) -> int:
        """Now: it grows with what is learned, up to its bound."""
        return self.ring.nbytes_used + self.recycling.nbytes + self.stand.nbytes

    def apply(self, batch: "Batch") -> None:
        """Learn one journal batch. O(tokens + rows)."""
        for record in batch.records:
            self._apply(batch.replica, record)

    def _apply(self, replica: str, record: "Record") -> None:
        tokens = np.frombuffer(record.tokens, "<i4")
        context = np.frombuffer(record.context, "<i4")
        whole = np.concatenate([context, tokens])
        # As unsigned numbers negative ids are the largest.
        if len(whole) and int(whole.view(np.uint32).max()) >= self.vocab_size:
            return
        if is_loop(context, tokens):
            return
        self._observe(record, whole, len(context))
        if not len(tokens):
            return
        self.recycling.follow(whole[max(0, len(context) - 1) :])
        if self.open_text == (replica, record.sequence, record.position):
            self._ring_for(len(tokens)).extend(tokens)
        else:
            text = np.concatenate([boundary(), context, tokens])
            self._ring_for(len(text)).extend(text, known=1 + len(context))
        self.open_text = (replica, record.sequence, record.position + len(tokens))
        self.tokens_learned += len(tokens)

    def _ring_for(self, count: int) -> TokenRing:
        """The ring, wider if `count` more tokens would overwrite some while there may be room for all."""
        self.widen(self.ring.stop + count)
        return self.ring

    def widen(self, tokens: int) -> None:
        """See to it that the ring keeps so many, if it may. Drafting may use the narrower one meanwhile."""
        capacity = self.ring.capacity
        while capacity < min(tokens, self.ring_tokens_max):
            capacity = min(RING_GROWTH * capacity, self.ring_tokens_max)
        if capacity > self.ring.capacity:
            self.ring = self.ring.widened(capacity)

    def _observe(self, record: "Record", text: Int32Array, first: int) -> None:
        """Rows after contexts of their own, then those along text[first:], which was committed."""
        if not record.row_tokens:
            self.stand.observe_text(text, first, NO_POSITIONS, NO_ROWS, NO_LOGPROBS)
            return
        contexts = np.frombuffer(record.row_contexts, "<i4").reshape(-1, ROW_CONTEXT_TOKENS)
        at = np.frombuffer(record.row_at, "<i4")
        rows = np.frombuffer(record.row_tokens, "<i4").reshape(-1, ROW_WIDTH)
        packed = np.frombuffer(record.row_logprobs, "u1").reshape(-1, ROW_WIDTH)
        rows = np.where((rows >= 0) & (rows < self.vocab_size), rows, np.int32(-1))
        if len(rows):
            keys = np.concatenate([contexts[:, -1], text[at]])
            self.recycling.observe(
                keys, np.ascontiguousarray(rows[:, :WIDTH]), np.ascontiguousarray(packed[:, :WIDTH])
            )
        own = len(contexts)
        self.stand.observe_rows(contexts, rows[:own], packed[:own])
        self.stand.observe_text(text, first, at, rows[own:], packed[own:])

    def digest(self) -> str:
        """Equal on every replica that applied the same records. O(size), nearly all without the GIL."""
        h = hashlib.blake2b(digest_size=16)
        ring = self.ring
        for first in range(ring.low, ring.stop, DIGEST_TOKENS):
            h.update(ring.read(first, min(ring.stop, first + DIGEST_TOKENS)).tobytes())
        for array in (slots_in(ring.table), self.recycling.successors, self.recycling.logprobs):
            h.update(array.data.cast("B"))
        h.update(self.stand.digest())
        return h.hexdigest()
