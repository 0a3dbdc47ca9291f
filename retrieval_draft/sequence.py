"""One decoding request as the engine holds it: its tokens, what of them is learned, and its last draft."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.sight import Draft
from retrieval_draft.step import Learning, Rows, SequenceStart
from retrieval_draft.store.records import (
    CONTEXT_TOKENS_MAX,
    LOGPROB_NONE,
    ROW_WIDTH,
    Record,
    packed_logprobs,
)
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import DraftTree, Int32Array, int32s

if TYPE_CHECKING:
    from retrieval_draft.namespace import NamespaceState

CAPACITY_MIN = 512
ROWS_PER_RECORD_MAX = 1024


@dataclass(frozen=True, slots=True)
class Held:
    """The draft of a step, until the tokens that decide over it come."""

    step_id: int
    stop: int
    method: str
    draft: Draft
    tree: DraftTree
    """What was returned: the draft's tree after the cut."""


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
        self.corpora = start.corpora
        self.temperature = start.temperature
        self.learning = learning
        prompt = start.first_position
        if learning != Learning.PROMPT_AND_OUTPUT:
            prompt = max(prompt, start.prompt_length)
        self.prompt_length = start.prompt_length
        self.learned_to = max(start.learn_from, prompt)
        self.held: Held | None = None
        self.touched = 0.0
        self._context_tokens_max = context_tokens_max
        self._ring = TokenRing(min(CAPACITY_MIN, context_tokens_max))
        self._rows: list[tuple[Int32Array, Int32Array, npt.NDArray[np.uint8]]] = []
        self._row_count = 0
        self._unread: list[tuple[Rows, DraftTree | None]] = []

    @property
    def ring(self) -> TokenRing:
        return self._ring

    @property
    def stop(self) -> int:
        """The position that the next token takes."""
        return self.first + self._ring.stop

    @property
    def low(self) -> int:
        """The oldest position that is kept."""
        return self.first + self._ring.low

    @property
    def nbytes(self) -> int:
        return self._ring.nbytes

    def replace_from(self, base: int, tokens: Int32Array) -> None:
        """The sequence goes on with `tokens` from position `base` on, low <= base <= stop."""
        if base < self.stop:
            self._ring.truncate(base - self.first)
        needed = min(self._ring.stop + len(tokens), self._context_tokens_max)
        capacity = self._ring.capacity
        while capacity < needed:
            capacity *= 2
        if capacity > self._ring.capacity:
            self._ring = self._ring.grown(capacity)
        self._ring.extend(tokens)

    def observe(self, rows: Rows, verified: DraftTree | None) -> None:
        """Keep the target's predictions for the journal: of a token's rows the last one counts.

        Rows after a node need the tree that was verified; without it they are dropped. They are read
        by the next `records`, which must come before the sequence changes again.
        """
        if self.learning != Learning.NONE and len(rows):
            self._unread.append((rows, verified))

    def _read(self, rows: Rows, verified: DraftTree | None) -> None:
        keys = np.full(len(rows), -1, np.int32)
        committed = (rows.at >= self.low) & (rows.at < self.stop)
        keys[committed] = self._ring.at(rows.at[committed] - self.first)
        if verified is not None:
            nodes = -1 - rows.at.astype(np.int64)
            known = (nodes >= 0) & (nodes < len(verified))
            keys[known] = verified.token[nodes[known]]
        kept = keys >= 0
        width = min(ROW_WIDTH, rows.tokens.shape[1])
        tokens = np.full((len(rows), ROW_WIDTH), -1, np.int32)
        tokens[:, :width] = rows.tokens[:, :width]
        packed = np.full((len(rows), ROW_WIDTH), LOGPROB_NONE, np.uint8)
        if rows.logprobs.size:
            packed[:, :width] = packed_logprobs(rows.logprobs[:, :width])
        self._rows.append((keys[kept], tokens[kept], packed[kept]))
        self._row_count += int(kept.sum())

    def records(self, tokens_min: int, rows_min: int) -> Iterator[Record]:
        """What is to be journalled once so much has gathered; each position and each row once."""
        if self.learning == Learning.NONE:
            return
        for rows, verified in self._unread:
            self._read(rows, verified)
        self._unread.clear()
        start = max(self.learned_to, self.low)
        if self.stop - start >= tokens_min:
            yield self._token_record(start)
        if self._row_count >= rows_min:
            yield from self._row_records()

    def _token_record(self, start: int) -> Record:
        before = max(self.low, start - CONTEXT_TOKENS_MAX)
        self.learned_to = self.stop
        return Record(
            sequence=self.number,
            position=start,
            context=self._ring.read(before - self.first, start - self.first).tobytes(),
            tokens=self._ring.read(start - self.first, self._ring.stop).tobytes(),
        )

    def _row_records(self) -> Iterator[Record]:
        keys, tokens, packed = map(np.concatenate, zip(*self._rows, strict=True))
        self._rows, self._row_count = [], 0
        # The last row of every key, in the order in which they came.
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        last.sort()
        for first in range(0, len(last), ROWS_PER_RECORD_MAX):
            some = last[first : first + ROWS_PER_RECORD_MAX]
            yield Record(
                sequence=self.number,
                position=self.stop,
                row_keys=keys[some].tobytes(),
                row_tokens=tokens[some].tobytes(),
                row_logprobs=packed[some].tobytes(),
            )
