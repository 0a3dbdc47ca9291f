"""`mix` without an engine around it: what drafting and learning alone cost, called from Python.

The same method, tiers and records as behind an Engine, but no namespaces, clients, statuses, counters and
journal. Peers are libraries of this kind; so it is what they are timed against.
"""

import time

from retrieval_draft.config import Config
from retrieval_draft.drafting.batch import (
    NO_TOKENS,
    NO_TREE,
    Growing,
    addressed,
    judged_row,
    row_of,
)
from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.kernels.stepping import FOLLOW, GROW
from retrieval_draft.drafting.mix import NO_COUNTS, Mix, temperature_class
from retrieval_draft.drafting.places import WINDOW_TOKENS
from retrieval_draft.drafting.root import Root
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.sequence import CAPACITY_MIN, context_buckets
from retrieval_draft.step import DraftOptions, Rows, TreeShape
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.records import CONTEXT_TOKENS_MAX, Batch, Record
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import DraftTree, Int32Array

GREEDY = temperature_class(0.0)


class DirectDrafter:
    """Drafter over one context at a time; outputs are learned in records of Config.record_tokens."""

    def __init__(self, file: RecordedFile, options: DraftOptions) -> None:
        config = Config()
        self.seconds = self.answer_seconds = 0.0
        self._mix = Mix()
        self._learned = LearnedTier(file.vocab_size, config.learned_bytes_max)
        self._record_tokens = config.record_tokens
        self._asked = options.nodes_max, WINDOW_TOKENS, *addressed(NO_TOKENS)
        self._growing = Growing(options.shape == TreeShape.CHAIN)
        self._sequence = 0

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        capacity = CAPACITY_MIN
        while capacity < len(prompt):
            capacity *= 2
        self._ring = TokenRing(capacity, context_buckets(capacity))
        self._root = Root()
        self._sequence += 1
        self._learned_to = len(prompt)
        self._forest: Forest | None = None
        self._came, self._learning = prompt, 0.0
        self._step(FOLLOW, len(prompt))

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        began = time.perf_counter()
        if len(self._came):
            self._step(FOLLOW, 0)
        ring = self._ring
        if ring.stop + len(tokens) > ring.capacity:
            capacity = 2 * ring.capacity
            self._ring = ring.grown(capacity, context_buckets(capacity))
        self._came = tokens
        self._learning = time.perf_counter() - began

    def draft(self) -> DraftTree:
        """What came is judged and followed in the same call, as in a step of an Engine."""
        began = time.perf_counter()
        self._forest = self._step(FOLLOW | GROW, 0)
        tree = self._forest.tree(0, self._asked[0])
        self.answer_seconds = time.perf_counter() - began
        if self._ring.stop - self._learned_to >= self._record_tokens:
            self._learn()
        self.seconds = time.perf_counter() - began + self._learning
        return tree

    def close(self) -> None:
        self._step(FOLLOW, 0)
        if self._ring.stop > self._learned_to:
            self._learn()

    def _step(self, parts: int, teaching_from: int) -> Forest:
        ring, came = self._ring, self._came
        judged = NO_TREE if self._forest is None else judged_row(self._forest, 0, False, -1)
        row = row_of(
            ring, self._root, GREEDY, judged, (0, len(came), teaching_from), self._asked
        )  # fmt: skip
        learned = self._mix.learned_of(*self._learned.parts)
        forest = self._mix.step(parts, learned, (row,), came, NO_COUNTS, self._growing)
        ring.advance(len(came))
        # What grew is judged once: only what came first stood where it did.
        self._came, self._forest = NO_TOKENS, None
        return forest

    def _learn(self) -> None:
        ring, start = self._ring, self._learned_to
        before = max(ring.low, start - CONTEXT_TOKENS_MAX)
        record = Record(
            self._sequence,
            start,
            ring.read(before, start).tobytes(),
            ring.read(start, ring.stop).tobytes(),
        )
        self._learned.apply(Batch("direct", self._sequence, [record]))
        self._learned_to = ring.stop
