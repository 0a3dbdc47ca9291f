"""The contract between the engine and what keeps its data: journal, namespaces and corpora.

Nothing above `store/` knows which backend it has. All of them pass one suite of tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.connection import Durability as Durability
from retrieval_draft.store.corpora import Corpora
from retrieval_draft.store.counts import FleetCounts
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import Batch, NamespaceSpec, Record

if TYPE_CHECKING:
    from retrieval_draft.store.learned import LearnedTier
    from retrieval_draft.store.learned_image import LearnedImage
    from retrieval_draft.store.manifest import Manifest

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
    gaps: int = (
        0  # times that entries were trimmed before they were read here, or a batch is missing
    )
    lag_records: int = 0  # of `appended`, neither dropped nor back through the listener yet
    connected: bool = False
    generation: int = 0  # of the newest snapshot known here; 0 = none
    saved_unix_seconds: float = 0.0  # when that was taken
    problems: tuple[str, ...] = ()  # what is not as it should be, in words


class Listener(Protocol):
    """What follows the shared state. Called from one thread of the backend only.

    An exception of a listener is logged and the call counts as made. Calls may read the backend
    (`corpora`, `blocks`, ...) and may append; management calls made from here do not wait.
    """

    def namespace_changed(self, key: NamespaceKey, spec: NamespaceSpec | None) -> None:
        """The namespace exists from here on (by any replica), or is gone (None).

        A namespace that is deleted and created again is announced as gone first. Its published
        corpora follow as `corpus_changed`, then its journal from the beginning.
        """
        ...

    def corpus_changed(self, key: NamespaceKey, corpus: str) -> None:
        """The corpus was published, built or deleted. Read `corpora`; several changes may come as one."""
        ...

    def apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        """The next batch of the namespace's journal: the same order in every replica, each once."""
        ...

    def learned(self, key: NamespaceKey) -> "LearnedTier | None":
        """What `apply` writes, to be saved; asked by any thread, while nothing is applied.

        None if there is nothing to save: the journal is applied from its beginning then.
        """
        ...

    def load_learned(self, key: NamespaceKey, entry_id: str, image: "LearnedImage") -> None:
        """All that was learned up to that entry, to be put in place of what there is.

        Raises Corrupt or FailedPrecondition if it cannot be, and has changed nothing.
        """
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

    @property
    def corpora(self) -> Corpora:
        """What was warmed in every namespace; deleted with it."""
        ...

    def start(self, replica: str, listener: Listener) -> None:
        """Announce every namespace, fill it from its newest valid snapshot, and follow its journal.

        Without a snapshot the journal is applied from its beginning. Returns when all that existed at
        the call has been applied. `replica` may be used again by a later process. Raises Unreachable
        or PermissionDenied, and has then stopped again.
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

    def save_snapshot(self, key: NamespaceKey) -> "Manifest":
        """Save the learned tier as of now, for the next start; returns the newest snapshot.

        NotFound; FailedPrecondition before `start`, or while another replica saves it.
        """
        ...

    def snapshots(self, key: NamespaceKey) -> "list[Manifest]":
        """What is kept, newest first; what is damaged is logged and left out. NotFound."""
        ...

    def verify_snapshots(self, key: NamespaceKey) -> "list[tuple[Manifest, str]]":
        """Read all that is kept: each with what is wrong with it, or "". NotFound."""
        ...

    def learned_image(self, key: NamespaceKey) -> "LearnedImage":
        """A copy of the learned tier as of now. NotFound; FailedPrecondition before `start`."""
        ...

    def create_from(
        self, key: NamespaceKey, spec: NamespaceSpec, image: "LearnedImage"
    ) -> NamespaceSpec:
        """Create a namespace whose first snapshot this is: every replica starts from it.

        AlreadyExists if there is one of this name.
        """
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
