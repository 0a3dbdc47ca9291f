"""`mix` without an engine around it: what drafting and learning alone cost, called from Python.

The same method, tiers and records as behind an Engine, but no namespaces, clients, statuses, counters and
journal. Peers are libraries of this kind; so it is what they are timed against.
"""

import time

from retrieval_draft.config import Config
from retrieval_draft.drafting.mix import Mix
from retrieval_draft.drafting.root import Root
from retrieval_draft.drafting.sight import Draft, Limits, Sight
from retrieval_draft.replay.sequences import RecordedFile
from retrieval_draft.sequence import CAPACITY_MIN, context_buckets
from retrieval_draft.step import DraftOptions, Rows, TreeShape
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.records import CONTEXT_TOKENS_MAX, Batch, Record
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.tree import DraftTree, Int32Array


class DirectDrafter:
    """Drafter over one context at a time; outputs are learned in records of Config.record_tokens."""

    def __init__(self, file: RecordedFile, options: DraftOptions) -> None:
        config = Config()
        self.seconds = self.answer_seconds = 0.0
        self._mix = Mix()
        self._learned = LearnedTier(file.vocab_size, config.learned_bytes_max)
        self._record_tokens = config.record_tokens
        self._limits = Limits(options.nodes_max, chain=options.shape == TreeShape.CHAIN)
        self._sequence = 0
        self._learned_to = 0
        self._draft: Draft | None = None
        self._learning = 0.0

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        capacity = CAPACITY_MIN
        while capacity < len(prompt):
            capacity *= 2
        self._ring = TokenRing(capacity, context_buckets(capacity))
        self._root = Root()
        self._sequence += 1
        self._learned_to = len(prompt)
        self._draft, self._learning = None, 0.0
        self._mix.follow(self._sight(), prompt, len(prompt), temperature or 0.0)

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        began = time.perf_counter()
        if self._draft is not None:
            self._mix.teach(self._draft, tokens)
        ring = self._ring
        if ring.stop + len(tokens) > ring.capacity:
            capacity = 2 * ring.capacity
            self._ring = ring.grown(capacity, context_buckets(capacity))
        self._mix.follow(self._sight(), tokens, 0, self._limits.temperature)
        if self._ring.stop - self._learned_to >= self._record_tokens:
            self._learn()
        self._learning = time.perf_counter() - began

    def draft(self) -> DraftTree:
        began = time.perf_counter()
        self._draft = self._mix.draft(self._sight(), self._limits)
        self.answer_seconds = time.perf_counter() - began
        self.seconds = self.answer_seconds + self._learning
        return self._draft.tree

    def close(self) -> None:
        if self._ring.stop > self._learned_to:
            self._learn()

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

    def _sight(self) -> Sight:
        learned = self._learned
        return Sight(
            self._ring,
            learned.ring,
            learned.recycling,
            stand=learned.stand,
            root=self._root,
        )
