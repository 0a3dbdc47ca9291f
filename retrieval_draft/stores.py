"""The namespaces in memory, kept equal to what the backend holds: management, warming and learning."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from retrieval_draft.config import DENSE, DENSE_HIDDEN, DENSE_OFF, Config
from retrieval_draft.drafting.templates import Template
from retrieval_draft.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    ResourceExhausted,
)
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.sample import Sample, SampleRoom
from retrieval_draft.store.backend import NOTICE_SECONDS_MAX, Backend, Durability
from retrieval_draft.store.dense import KINDS, faiss
from retrieval_draft.store.dense_thread import DenseThread, DenseTier
from retrieval_draft.store.keys import NamespaceKey, checked_corpus
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage
from retrieval_draft.store.records import (
    Batch,
    Block,
    BlockDocument,
    NamespaceSpec,
    document_digest,
)
from retrieval_draft.tree import Int32Array, int32s
from retrieval_draft.upkeep import Upkeep

log = logging.getLogger(__name__)

LOAD_SECONDS_MAX = 600.0
DOCUMENT_NAME_CHARACTERS_MAX = 1024
KNOWN_DOCUMENTS_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus, as tokens."""

    name: str
    tokens: Int32Array


@dataclass(frozen=True, slots=True)
class Stored:
    """What one block of documents came to."""

    documents: int
    tokens: int
    documents_known: int
    durability: Durability


class Stores:
    """Also the backend's listener: what any replica learned or warmed arrives here, in stream order."""

    def __init__(self, backend: Backend, config: Config) -> None:
        self.backend = backend
        self.config = config
        tree = config.stand_tree
        self._stand_tree = Template.read(tree) if tree else Template.shipped()
        self._states: dict[NamespaceKey, NamespaceState] = {}
        self._samples = SampleRoom(config.samples_tokens_max)
        self.on_gone: Callable[[NamespaceKey], None] | None = None
        """Hears of every namespace that is not here any more."""
        self._creating = threading.Lock()
        self._warming = threading.Lock()
        self.upkeep = Upkeep(backend, config, self._states.get)
        self.dense_thread: DenseThread | None = None
        """Of all namespaces; None where dense retrieval is off."""
        if config.dense != DENSE_OFF:
            if config.dense not in DENSE:
                raise InvalidInput("dense", config.dense, f"one of {', '.join(DENSE)}")
            if config.dense_index not in KINDS:
                raise InvalidInput("dense_index", config.dense_index, f"one of {', '.join(KINDS)}")
            faiss()
            self.dense_thread = DenseThread()

    # What drafting asks.

    def state(self, tenant: str, namespace: str) -> NamespaceState:
        """The namespace in memory, or NotFound."""
        if (state := self._states.get(_key(tenant, namespace))) is None:
            raise NotFound(
                f"namespace {namespace!r} does not exist; create it with CreateNamespace, "
                "or with retrieval-draft warm"
            )
        return state

    def states(self, tenant: str) -> list[NamespaceState]:
        """The tenant's namespaces, by name."""
        return [state for key, state in sorted(self._states.items()) if key.tenant == tenant]

    def all(self) -> list[NamespaceState]:
        """Every tenant's namespaces."""
        return list(self._states.values())

    # What the backend tells (its follower's thread).

    def namespace_changed(self, key: NamespaceKey, spec: NamespaceSpec | None) -> None:
        if spec is None:
            if (gone := self._states.pop(key, None)) is not None:
                gone.gone = True
                gone.sample.close()
                if self.on_gone is not None:
                    self.on_gone(key)
        elif len(self._states) < self.config.namespaces_max:
            if (before := self._states.get(key)) is not None:
                before.gone = True
            self._states[key] = NamespaceState(
                key,
                spec,
                self.config.learned_bytes_max,
                self._stand_tree,
                Sample(self._samples, self.config.sample_tokens),
                self._dense(),
            )
        else:
            log.error("namespace not loaded: more than %d", self.config.namespaces_max)

    def corpus_changed(self, key: NamespaceKey, corpus: str) -> None:
        self.upkeep.changed(key, corpus)

    def apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        if (state := self._states.get(key)) is not None:
            state.apply(entry_id, batch)

    def learned(self, key: NamespaceKey) -> LearnedTier | None:
        state = self._states.get(key)
        return state.learned if state else None

    def load_learned(self, key: NamespaceKey, entry_id: str, image: LearnedImage) -> None:
        if (state := self._states.get(key)) is not None:
            state.load_learned(entry_id, image)

    # What operators ask.

    def create(self, tenant: str, spec: NamespaceSpec) -> NamespaceSpec:
        """Durable when it returns. AlreadyExists if the namespace differs, ResourceExhausted if full."""
        return self.create_by(tenant, spec, lambda key: self.backend.create_namespace(key, spec))

    def create_by(
        self, tenant: str, spec: NamespaceSpec, make: Callable[[NamespaceKey], NamespaceSpec]
    ) -> NamespaceSpec:
        """What `make` makes of a namespace that may be created here; raises as `create` does."""
        key = self.checked_key(tenant, spec)
        with self._creating:
            if key not in self._states:
                self._check_share(tenant, spec)
            return make(key)

    def checked_key(self, tenant: str, spec: NamespaceSpec) -> NamespaceKey:
        """The key of a namespace that is within this server's limits, or InvalidInput."""
        key = NamespaceKey(tenant, spec.namespace)
        if not 1 <= spec.vocab_size <= self.config.vocab_size_max:
            limit = f"1 to {self.config.vocab_size_max}"
            raise InvalidInput("vocab_size", spec.vocab_size, limit)
        if spec.learned_bytes_max > (most := self.config.learned_bytes_hard_max):
            raise InvalidInput("learned_bytes_max", spec.learned_bytes_max, f"0 to {most}")
        return key

    def learned_bytes_max(self, spec: NamespaceSpec) -> int:
        """Of the namespace: what it says, or this server's default."""
        return spec.learned_bytes_max or self.config.learned_bytes_max

    def _check_share(self, tenant: str, spec: NamespaceSpec) -> None:
        """Raises ResourceExhausted for one more than there may be, in all or of this tenant."""
        config, mine = self.config, [state.spec for state in self.states(tenant)]
        if len(self._states) >= config.namespaces_max:
            raise ResourceExhausted(f"namespaces: the limit is {config.namespaces_max}")
        if len(mine) >= (most := config.tenant_namespaces_max):
            raise ResourceExhausted(f"namespaces: the limit of a tenant is {most}")
        nbytes = sum(self.learned_bytes_max(one) for one in (*mine, spec))
        if nbytes > (most := config.tenant_learned_bytes_max):
            raise ResourceExhausted(
                f"learned_bytes_max of the tenant's namespaces would be {nbytes}, the limit is {most}"
            )

    def delete(self, tenant: str, namespace: str) -> None:
        """Remove journal, corpora and memory. NotFound if there is none."""
        self.backend.delete_namespace(NamespaceKey(tenant, namespace))

    def store_documents(
        self, tenant: str, namespace: str, corpus: str, documents: Sequence[Document]
    ) -> Stored:
        """Store what is not known yet; durable when it returns. Drafts see it after `publish`.

        Raises InvalidInput for a token outside the vocabulary, ResourceExhausted at the corpus's bound.
        """
        state = self.state(tenant, namespace)
        checked_corpus(corpus)
        for document in documents:
            self._check(document, state.spec.vocab_size)
        with self._warming:
            given = {document_digest(d.tokens.tobytes()): d for d in documents if len(d.tokens)}
            known = self.backend.corpora.known_documents(state.key, corpus, given.keys())
            fresh = {digest: d for digest, d in given.items() if digest not in known}
            if fresh:
                self._check_room(state, corpus, sum(len(d.tokens) for d in fresh.values()))
                self.backend.corpora.put_block(state.key, corpus, _block(fresh))
                self.upkeep.stored(state.key, corpus)
        tokens = sum(len(document.tokens) for document in documents)
        return Stored(len(documents), tokens, len(documents) - len(fresh), self.backend.durability)

    def known_documents(
        self, tenant: str, namespace: str, corpus: str, digests: Sequence[bytes]
    ) -> list[bool]:
        """Which documents of these digests are stored; none of a corpus that does not exist."""
        state = self.state(tenant, namespace)
        if len(digests) > KNOWN_DOCUMENTS_MAX:
            limit = f"{KNOWN_DOCUMENTS_MAX} a call"
            raise InvalidInput("digests", len(digests), limit)
        known = self.backend.corpora.known_documents(state.key, corpus, digests)
        return [digest in known for digest in digests]

    def publish(self, tenant: str, namespace: str, corpus: str) -> None:
        """Let every replica index the corpus; returns when drafts here use it."""
        state = self.state(tenant, namespace)
        if corpus not in self.backend.corpora.names(state.key):
            raise NotFound(f"corpus {corpus!r} has no documents")
        self.backend.corpora.publish(state.key, corpus)
        if not self.upkeep.wait_until_drafted(state, corpus, LOAD_SECONDS_MAX):
            raise FailedPrecondition(f"corpus {corpus!r} is stored, but was not indexed in time")

    def compact(self, tenant: str, namespace: str, corpus: str) -> None:
        """Merge the corpus into as few segments as may be; returns when drafts here use them. NotFound."""
        self.upkeep.compact(self.state(tenant, namespace), corpus, LOAD_SECONDS_MAX)

    def delete_corpus(self, tenant: str, namespace: str, corpus: str) -> None:
        """Remove the corpus, for every replica; returns when drafts here do not use it. NotFound."""
        state = self.state(tenant, namespace)
        self.backend.corpora.delete(state.key, corpus)
        state.wait_until_gone(corpus, NOTICE_SECONDS_MAX)

    def _dense(self) -> DenseTier | None:
        config = self.config
        if self.dense_thread is None:
            return None
        return DenseTier(
            self.dense_thread,
            config.dense_contexts_max,
            config.dense_index,
            is_hidden=config.dense == DENSE_HIDDEN,
        )

    def _check(self, document: Document, vocab_size: int) -> None:
        tokens = document.tokens
        if len(document.name) > DOCUMENT_NAME_CHARACTERS_MAX:
            limit = f"{DOCUMENT_NAME_CHARACTERS_MAX} characters"
            raise InvalidInput("document_names", document.name, limit)
        if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab_size):
            bad = int(tokens.min()) if int(tokens.min()) < 0 else int(tokens.max())
            raise InvalidInput("tokens", bad, f"0 to {vocab_size - 1}", f"in {document.name!r}")

    def _check_room(self, state: NamespaceState, corpus: str, tokens: int) -> None:
        most = self.config.corpus_tokens_max
        try:
            stored = self.backend.corpora.content(state.key, corpus).tokens
        except NotFound:
            stored = 0
        if stored + tokens > most:
            raise ResourceExhausted(
                f"corpus {corpus!r} would have {stored + tokens} tokens, the limit is {most}"
            )


def _block(documents: dict[bytes, Document]) -> Block:
    parts = [int32s(document.tokens) for document in documents.values()]
    return Block(
        tuple(
            BlockDocument(document.name, digest, len(document.tokens))
            for digest, document in documents.items()
        ),
        b"".join(part.tobytes() for part in parts),
    )


@lru_cache(maxsize=1024)
def _key(tenant: str, namespace: str) -> NamespaceKey:
    """Names are checked once, not in every step."""
    return NamespaceKey(tenant, namespace)
