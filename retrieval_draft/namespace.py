"""One namespace as the engine holds it: its learned tier, corpora, methods and counters."""

import threading
from collections.abc import Sequence

from retrieval_draft.drafting.methods import Methods
from retrieval_draft.drafting.templates import Template
from retrieval_draft.errors import InvalidInput
from retrieval_draft.metrics import Counters
from retrieval_draft.sample import Sample
from retrieval_draft.step import DraftOptions
from retrieval_draft.store.corpus import CorpusTier
from retrieval_draft.store.dense_thread import DenseTier
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage, restore
from retrieval_draft.store.records import Batch, NamespaceSpec, Record, tokens_of
from retrieval_draft.store.segment import Segment


class NamespaceState:
    """Arrays are never shared between namespaces: a torn read stays within one tenant."""

    def __init__(
        self,
        key: NamespaceKey,
        spec: NamespaceSpec,
        learned_bytes_max: int,
        stand_tree: Template,
        sample: Sample,
        dense: DenseTier | None = None,
    ) -> None:
        self.key = key
        self.spec = spec
        self.learned = LearnedTier(spec.vocab_size, spec.learned_bytes_max or learned_bytes_max)
        self.dense = dense
        self.methods = Methods(stand_tree, is_dense=dense is not None)
        self.counters = Counters()
        self.sample = sample
        self.asked: DraftOptions | None = None
        """What the newest step here asked for, defaults filled in, and for how many sequences."""
        self.batch = 0
        self.position = ""
        """The newest journal entry that was applied; "" before the first."""
        self._applying = threading.Lock()
        self.gone = False
        """Deleted, or deleted and created anew as another state: nothing may be learned here any more."""
        self._corpora: dict[str, CorpusTier] = {}
        self._segments: tuple[Segment, ...] = ()
        """Of all corpora."""
        self._shown: dict[str, tuple[str, ...]] = {}
        self.problems: dict[tuple[str, str], str] = {}
        """What is wrong with segments that are left out, by corpus and digest; written by one thread."""
        self._changed = threading.Condition()

    def apply(self, entry_id: str, batch: Batch) -> None:
        """Learn one journal batch; called by the one applier thread."""
        with self._applying:
            self.learned.apply(batch)
            self.position = entry_id
            self._let_go()
        if self.dense is not None and not self.dense.is_hidden:
            for record in batch.records:
                self._learn_dense(self.dense, batch.replica, record)

    def load_learned(self, entry_id: str, image: LearnedImage) -> None:
        """What was learned up to that entry. Corrupt or FailedPrecondition leave all as it was."""
        with self._applying:
            restore(self.learned, image)
            self.position = entry_id
            self._let_go()

    def _let_go(self) -> None:
        self.methods.mix.let_go(*self.learned.parts)

    def digest(self) -> tuple[str, str]:
        """The journal position, and what was learned up to it: replicas at equal ones have equal digests.

        O(size); applying waits meanwhile, drafting does not.
        """
        with self._applying:
            return self.position, self.learned.digest()

    def _learn_dense(self, dense: DenseTier, replica: str, record: Record) -> None:
        context, tokens = tokens_of(record.context), tokens_of(record.tokens)
        # Whatever wrote the journal: what lies outside the vocabulary is not drafted.
        if len(tokens) and 0 <= int(tokens.min()) <= int(tokens.max()) < self.spec.vocab_size:
            dense.learn(replica, record.sequence, record.position, context, tokens)

    def corpora(self, names: Sequence[str]) -> list[CorpusTier]:
        """The corpora of these names, all of them for none. Raises InvalidInput for an unknown one."""
        for name in names:
            if name not in self._corpora:
                known = ", ".join(sorted(self._corpora)) or "none"
                raise InvalidInput("corpora", name, f"a corpus of the namespace ({known})")
        return self.present_corpora(names)

    def present_corpora(self, names: Sequence[str]) -> list[CorpusTier]:
        """As `corpora`, without those that were deleted since the names were checked."""
        corpora = self._corpora.copy()
        if not names:
            return list(corpora.values())
        return [corpora[name] for name in dict.fromkeys(names) if name in corpora]

    @property
    def has_corpora(self) -> bool:
        """Whether there is anything to be searched in them."""
        return bool(self._segments)

    def segments(self, names: Sequence[str]) -> Sequence[Segment]:
        """Of the corpora of these names that are there, all of them for none."""
        if not names:
            return self._segments
        return [segment for tier in self.present_corpora(names) for segment in tier.segments]

    def corpus_tiers(self) -> dict[str, CorpusTier]:
        return dict(self._corpora)

    def show(self, name: str, tier: CorpusTier | None, shown: tuple[str, ...] = ()) -> None:
        """Drafts use `tier` from here on; None removes the corpus; it stands for the digests `shown`."""
        with self._changed:
            if tier is None:
                self._corpora.pop(name, None)
                self.problems = {at: text for at, text in self.problems.items() if at[0] != name}
            else:
                self._corpora[name] = tier
            self._gather_segments()
            self._shown[name] = shown
            self._changed.notify_all()

    def leave_out(self, name: str, segment: Segment) -> None:
        """Drafts do not use this segment any more."""
        with self._changed:
            if (tier := self._corpora.get(name)) is not None:
                kept = tuple(other for other in tier.segments if other is not segment)
                self._corpora[name] = CorpusTier(kept)
                self._gather_segments()

    def _gather_segments(self) -> None:
        tiers = self._corpora.values()
        self._segments = tuple(segment for tier in tiers for segment in tier.segments)

    def wait_until_shown(self, name: str, shown: tuple[str, ...], seconds_max: float) -> bool:
        """Whether drafts use what stands for these digests before the time is over."""
        with self._changed:
            return self._changed.wait_for(
                lambda: name in self._corpora and self._shown.get(name) == shown, seconds_max
            )

    def wait_until_gone(self, name: str, seconds_max: float) -> bool:
        """Whether drafts use the corpus no more before the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: name not in self._corpora, seconds_max)

    def wait_for_change(self, seconds_max: float) -> bool:
        """Whether a corpus changed before the time is over."""
        with self._changed:
            return self._changed.wait(seconds_max)
