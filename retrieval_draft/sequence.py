"""One decoding request as the engine holds it: its tokens, what of them is learned, and its last draft."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from retrieval_draft.drafting.batch import addressed
from retrieval_draft.drafting.mix import temperature_class
from retrieval_draft.drafting.root import Root
from retrieval_draft.drafting.sight import Draft
from retrieval_draft.predictions import OwnRows, Predictions
from retrieval_draft.similar import Similar
from retrieval_draft.step import Learning, Rows, SequenceStart
from retrieval_draft.store.ngrams import BUCKETS_MIN, BUCKETS_PER_TOKEN
from retrieval_draft.store.records import CONTEXT_TOKENS_MAX, Record
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, int32s

if TYPE_CHECKING:
    from retrieval_draft.namespace import NamespaceState

CAPACITY_MIN = 512
CONTEXT_BUCKETS_MAX = 1 << 12
"""Longer contexts forget rare n-grams: a quarter of this cost less than 0.5 % of MAT."""
TOKENS_PER_RECORD_MAX = 4096


def context_buckets(capacity: int) -> int:
    """Of the n-gram table of a context with room for so many tokens."""
    return min(CONTEXT_BUCKETS_MAX, max(BUCKETS_MIN, int(capacity * BUCKETS_PER_TOKEN)))


class Held(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The draft of a step, until the tokens that decide over it come."""

    step_id: int
    stop: int
    method: str
    draft: Draft
    tree: DraftTree
    """What was returned: the draft's tree after the cut."""
    in_forest: bool = False
    """Its nodes are those that the draft's forest has marked as kept."""


class Sequence:
    """Positions are absolute; the ring keeps the newest `context_tokens_max` of them."""

    def __init__(
        self, state: "NamespaceState", number: int, start: SequenceStart, context_tokens_max: int
    ) -> None:
        spec = state.spec
        learning = start.learning
        if learning == Learning.UNSPECIFIED:
            learning = Learning.PROMPT_AND_OUTPUT if spec.learn_prompts else Learning.OUTPUT
        self.state = state
        self.number = number
        self.first = start.first_position
        self.length_max = start.length_max
        self.end_tokens = int32s(start.end_tokens or spec.end_tokens)
        self.ends = addressed(self.end_tokens)
        self.corpora = start.corpora
        self.temperature = start.temperature
        self.kind = temperature_class(start.temperature or 0.0)
        self.learning = learning
        prompt = start.first_position
        if learning != Learning.PROMPT_AND_OUTPUT:
            prompt = max(prompt, start.prompt_length)
        self.prompt_length = start.prompt_length
        self.learned_to = max(start.learn_from, prompt)
        self.held: Held | None = None
        self.model_tree = EMPTY
        self.draws = 0
        self.touched = 0.0
        self._context_tokens_max = context_tokens_max
        capacity = min(CAPACITY_MIN, context_tokens_max)
        self.ring = TokenRing(capacity, context_buckets(capacity))
        self.root = Root()
        self.similar = Similar(state.dense, self.first, self.learned_to) if state.dense else None
        self._predictions = Predictions(self.learned_to)
        self._unread: list[tuple[Rows, DraftTree | None, int]] = []

    @property
    def stop(self) -> int:
        """The position that the next token takes."""
        return self.first + self.ring.stop

    @property
    def low(self) -> int:
        """The oldest position that is kept."""
        return self.first + self.ring.low

    @property
    def nbytes(self) -> int:
        return self.ring.nbytes

    def read(self, start: int, stop: int) -> Int32Array:
        """A copy of the tokens at these positions, low <= start <= stop."""
        return self._read(start, stop)

    def cut(self, base: int, count: int) -> None:
        """Forget positions from `base` on, low <= base <= stop, and make room for `count` tokens."""
        ring = self.ring
        if base < self.first + ring.stop:
            ring.truncate(base - self.first)
            self._predictions.cut(base)
            self.root.clear()
            if self.similar is not None:
                self.similar.cut(base)
        if ring.stop + count > ring.capacity:
            needed = min(ring.stop + count, self._context_tokens_max)
            capacity = ring.capacity
            while capacity < needed:
                capacity *= 2
            if capacity > ring.capacity:
                self.ring = ring = ring.grown(capacity, context_buckets(capacity))
        ring.reserve(count)

    def observe(self, rows: Rows, verified: DraftTree | None, base: int) -> None:
        """Keep the target's predictions for the journal; `verified` stood at position `base`.

        Rows after a node need the tree that was verified; without it they are dropped. They are read
        by the next `records`, which must come before the sequence changes again.
        """
        if self.learning != Learning.NONE and len(rows):
            self._unread.append((rows, verified, base))

    def has_gathered(self, tokens_min: int) -> bool:
        """Whether `records` may have anything: predictions, or so many tokens."""
        predictions = self._predictions
        if self._unread or predictions.own_count or predictions.path_count:
            return True
        return self.first + self.ring.stop - self.learned_to >= tokens_min

    def records(self, tokens_min: int, rows_min: int) -> Iterator[Record]:
        """What is to be journalled once so much has gathered; each position and each row once."""
        if self.learning == Learning.NONE:
            return
        predictions = self._predictions
        for rows, verified, base in self._unread:
            predictions.add(rows, verified, base, self.learned_to, self.low, self.stop, self._read)
        self._unread.clear()
        # What was rejected first: after an equal token the kept path has the last word.
        if predictions.own_count >= rows_min:
            for own in predictions.take_own():
                yield self._row_record(own)
        start = max(self.learned_to, self.low)
        due = self.stop - start >= tokens_min or predictions.path_count >= rows_min
        if due and self.stop > start:
            for first in range(start, self.stop, TOKENS_PER_RECORD_MAX):
                yield self._token_record(first, min(self.stop, first + TOKENS_PER_RECORD_MAX))
            self.learned_to = self.stop

    def _token_record(self, start: int, stop: int) -> Record:
        before = max(self.low, start - CONTEXT_TOKENS_MAX)
        rows = self._predictions.take_path(max(start, before + 1), stop)
        return Record(
            sequence=self.number,
            position=start,
            context=self._read(before, start).tobytes(),
            tokens=self._read(start, stop).tobytes(),
            row_at=int32s(rows.positions - before).tobytes(),
            row_tokens=rows.tokens.tobytes(),
            row_logprobs=rows.packed.tobytes(),
        )

    def _row_record(self, rows: OwnRows) -> Record:
        return Record(
            sequence=self.number,
            position=self.stop,
            row_contexts=rows.contexts.tobytes(),
            row_tokens=rows.tokens.tobytes(),
            row_logprobs=rows.packed.tobytes(),
        )

    def _read(self, start: int, stop: int) -> Int32Array:
        return self.ring.read(start - self.first, stop - self.first)
