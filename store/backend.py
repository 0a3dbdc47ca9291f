"""The contract between the engine and what keeps its data: journal, namespaces and corpora.

Nothing above `store/` knows which backend it has. All of them pass one suite of tests.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.connection import Durability as Durability
from retrieval_draft.store.counts import FleetCounts
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import Batch, Block, NamespaceSpec, Record

# How long a management call waits until this replica's own listener has been told of it.
NOTICE_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """What became of a namespace's records in this process, since it started."""

    appended: int = 0  # records given to `append` here
    written: int = 0  # of these, in the journal
    applied: int = 0  # records of every replica that reached the listener
    dropped: int = 0  # of `appended`, given up: the queue was full, or the namespace is gone
    corrupt: int = 0  # journal entries that were damaged, and skipped
    gaps: int = 0  # holes in a replica's numbering: trimmed or damaged before they were read
    lag_records: int = 0  # of `appended`, neither dropped nor back through the listener yet
    connected: bool = False


class Listener(Protocol):
    """What follows the shared state. Called from one thread of the backend only.

    An exception of a listener is logged and the call counts as made. Calls may read the backend
    (`corpus_blocks`, `corpora`, ...) and may append; management calls made from here do not wait.
    """

    def namespace_changed(self, key: NamespaceKey, spec: NamespaceSpec | None) -> None:
        """The namespace exists from here on (by any replica), or is gone (None).

        A namespace that is deleted and created again is announced as gone first. Its published
        corpora follow as `corpus_changed`, then its journal from the beginning.
        """
        ...

    def corpus_changed(self, key: NamespaceKey, corpus: str) -> None:
        """The corpus was published or deleted. Read `corpus_blocks`; several changes may come as one."""
        ...

    def apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        """The next batch of the namespace's journal: the same order in every replica, each once."""
        ...


class Backend(Protocol):
    """Where the shared state lives. `append` may be called by any thread at any time.

    The calls about namespaces and corpora talk to the store there and then: they are for
    management, never for a draft's path, and work before `start` as well. They raise InvalidInput,
    NotFound, AlreadyExists, Unreachable or PermissionDenied, and what they changed is stored as
    `durability` says when they return. Once started, they also return only after the listener here
    has been told (or after NOTICE_SECONDS_MAX, should the follower be cut off).
    """

    @property
    def name(self) -> str:
        """`embedded`, `redis` or `none`."""
        ...

    @property
    def durability(self) -> Durability:
        """What survives a crash of what is acknowledged."""
        ...

    @property
    def blocks(self) -> Blocks:
        """Where snapshots and segments of every namespace lie; deleted with it."""
        ...

    def start(self, replica: str, listener: Listener) -> None:
        """Announce every namespace, apply every journal from its beginning, then follow.

        Returns when all that existed at the call has been applied. `replica` may be used again by
        a later process. Raises Unreachable or PermissionDenied, and has then stopped again.
        """
        ...

    def stop(self, flush_seconds_max: float) -> bool:
        """Flush, then end the threads. False if something appended was not seen to be stored."""
        ...

    def create_namespace(self, key: NamespaceKey, spec: NamespaceSpec) -> NamespaceSpec:
        """Create it, or return it if it exists and is equal; AlreadyExists if it differs."""
        ...

    def get_namespace(self, key: NamespaceKey) -> NamespaceSpec:
        """The namespace, or NotFound."""
        ...

    def list_namespaces(self, tenant: str) -> list[NamespaceSpec]:
        """The tenant's namespaces, by name."""
        ...

    def delete_namespace(self, key: NamespaceKey) -> None:
        """Remove it with its journal and corpora, for every replica; NotFound if there is none."""
        ...

    def append(self, key: NamespaceKey, record: Record) -> None:
        """Queue a record for the journal. Never waits for the store and never raises.

        The queue is bounded: it drops its oldest record for a new one, and counts it.
        """
        ...

    def flush(self, seconds_max: float) -> bool:
        """Whether all appended before the call was written and came back through `apply` in time.

        Not to be called by a listener.
        """
        ...

    def put_block(self, key: NamespaceKey, corpus: str, block: Block) -> bool:
        """Store a block; False if it was there already. Drafts see it after `publish_corpus`."""
        ...

    def corpus_blocks(self, key: NamespaceKey, corpus: str) -> Iterator[Block]:
        """The corpus in the order it was stored, one block in memory at a time.

        A damaged block is logged and left out.
        """
        ...

    def corpora(self, key: NamespaceKey) -> list[str]:
        """The names of the corpora that have a block, published or not, sorted."""
        ...

    def known_documents(self, key: NamespaceKey, corpus: str) -> set[bytes]:
        """The digests of the documents that are stored."""
        ...

    def delete_corpus(self, key: NamespaceKey, corpus: str) -> None:
        """Remove it, and tell every replica; NotFound if there is none."""
        ...

    def publish_corpus(self, key: NamespaceKey, corpus: str) -> None:
        """Tell every replica that the corpus has changed; NotFound if there is none."""
        ...

    def figures(self, key: NamespaceKey) -> JournalFigures:
        """What became of the namespace's records; zeros for one that is unknown here."""
        ...

    def add_counts(self, key: NamespaceKey, counts: Mapping[str, int]) -> None:
        """Add to what the fleet has counted, each count once, and say that this replica lives.

        For a background thread: it talks to the store there and then. Raises InvalidInput, or
        Unreachable and its like; what could not be stored goes along with the next call. Given up
        without an error before `start`, and for a namespace that is gone.
        """
        ...

    def counts(self, key: NamespaceKey) -> FleetCounts:
        """What every replica has counted since the namespace was created; NotFound if there is none."""
        ...
