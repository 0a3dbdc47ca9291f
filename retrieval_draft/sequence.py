"""One decoding request as the engine holds it: its tokens, what of them is learned, and its last draft."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.sight import Draft
from retrieval_draft.step import Learning, Rows, SequenceStart
from retrieval_draft.store.records import CONTEXT_TOKENS_MAX, ROW_WIDTH, Record, packed_logprobs
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import DraftTree, Int32Array, int32s

if TYPE_CHECKING:
    from retrieval_draft.namespace import NamespaceState

CAPACITY_MIN = 512
ROWS_PER_RECORD_MAX = 1024
LOGPROB_MIN = -16.0
"""Of what is journalled: all below is equally improbable."""


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
        self._rows: dict[int, tuple[Int32Array, npt.NDArray[np.uint8]]] = {}

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

        Rows after a node need the tree that was verified; without it they are dropped.
        """
        if self.learning == Learning.NONE or not len(rows):
            return
        width = min(ROW_WIDTH, rows.tokens.shape[1])
        for i, at in enumerate(rows.at.tolist()):
            if at >= 0:
                if not self.low <= at < self.stop:
                    continue
                position = at - self.first
                key = int(self._ring.tokens[position & (self._ring.capacity - 1)])
            elif verified is not None and -1 - at < len(verified):
                key = int(verified.token[-1 - at])
            else:
                continue
            logprobs = rows.logprobs[i, :width] if rows.logprobs.size else None
            tokens = np.full(ROW_WIDTH, -1, np.int32)
            tokens[:width] = rows.tokens[i, :width]
            packed = np.full(ROW_WIDTH, 255, np.uint8)
            if logprobs is not None:
                # Cut first: the packing multiplies, and a wild value would overflow.
                packed[:width] = packed_logprobs(np.clip(logprobs, LOGPROB_MIN, 0))
            self._rows.pop(key, None)
            self._rows[key] = (tokens, packed)

    def records(self, tokens_min: int, rows_min: int) -> Iterator[Record]:
        """What is to be journalled once so much has gathered; each position and each row once."""
        if self.learning == Learning.NONE:
            return
        start = max(self.learned_to, self.low)
        if self.stop - start >= tokens_min:
            yield self._token_record(start)
        if len(self._rows) >= rows_min:
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
        rows, self._rows = list(self._rows.items()), {}
        for first in range(0, len(rows), ROWS_PER_RECORD_MAX):
            some = rows[first : first + ROWS_PER_RECORD_MAX]
            yield Record(
                sequence=self.number,
                position=self.stop,
                row_keys=int32s([key for key, _ in some]).tobytes(),
                row_tokens=b"".join(row.tobytes() for _, (row, _) in some),
                row_logprobs=b"".join(packed.tobytes() for _, (_, packed) in some),
            )
