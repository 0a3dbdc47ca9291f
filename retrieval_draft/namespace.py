"""One namespace as the engine holds it: its learned tier, corpora, methods and counters."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from retrieval_draft.drafting.methods import Methods
from retrieval_draft.drafting.templates import Template
from retrieval_draft.errors import InvalidInput
from retrieval_draft.metrics import Counters
from retrieval_draft.store.corpus import CorpusTier
from retrieval_draft.store.dense_thread import DenseTier
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage, restore
from retrieval_draft.store.records import Batch, Block, NamespaceSpec, Record, tokens_of

log = logging.getLogger(__name__)


class NamespaceState:
    """Arrays are never shared between namespaces: a torn read stays within one tenant."""

    def __init__(
        self,
        key: NamespaceKey,
        spec: NamespaceSpec,
        learned_bytes_max: int,
        stand_tree: Template,
        dense: DenseTier | None = None,
    ) -> None:
        self.key = key
        self.spec = spec
        self.learned = LearnedTier(spec.vocab_size, spec.learned_bytes_max or learned_bytes_max)
        self.dense = dense
        self.methods = Methods(stand_tree, is_dense=dense is not None)
        self.counters = Counters()
        self.position = ""
        """The newest journal entry that was applied; "" before the first."""
        self._applying = threading.Lock()
        self._corpora: dict[str, CorpusTier] = {}
        self._loaded: dict[str, int] = {}
        self._changed = threading.Condition()

    def apply(self, entry_id: str, batch: Batch) -> None:
        """Learn one journal batch; called by the one applier thread."""
        with self._applying:
            self.learned.apply(batch)
            self.position = entry_id
        if self.dense is not None and not self.dense.is_hidden:
            for record in batch.records:
                self._learn_dense(self.dense, batch.replica, record)

    def load_learned(self, entry_id: str, image: LearnedImage) -> None:
        """What was learned up to that entry. Corrupt or FailedPrecondition leave all as it was."""
        with self._applying:
            restore(self.learned, image)
            self.position = entry_id

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

    def corpus_sizes(self) -> dict[str, CorpusTier]:
        return dict(self._corpora)

    def load_corpus(self, name: str, blocks: Iterable[Block]) -> None:
        """Index the corpus anew from its blocks and put it in place of the old; none removes it."""
        documents = []
        for block in blocks:
            tokens, at = tokens_of(block.tokens), 0
            for document in block.documents:
                part, at = tokens[at : at + document.tokens], at + document.tokens
                # Whatever wrote the store: an id outside the vocabulary would lead kernels astray.
                if len(part) and not 0 <= int(part.min()) <= int(part.max()) < self.spec.vocab_size:
                    log.error("corpus %s: left out a document with unknown token ids", name)
                    continue
                documents.append(part)
        tier = CorpusTier(documents) if documents else None
        with self._changed:
            if tier is None:
                self._corpora.pop(name, None)
            else:
                self._corpora[name] = tier
            self._loaded[name] = self._loaded.get(name, 0) + 1
            self._changed.notify_all()

    def loads(self, name: str) -> int:
        """How often the corpus was loaded so far; see `wait_for_load`."""
        with self._changed:
            return self._loaded.get(name, 0)

    def wait_for_load(self, name: str, loads: int, seconds_max: float) -> bool:
        """Whether the corpus has been loaded more often than `loads` before the time is over."""
        return self._wait(lambda: self._loaded.get(name, 0) > loads, seconds_max)

    def _wait(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, seconds_max)
