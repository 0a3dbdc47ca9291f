"""Turns what a journal holds into calls of a listener: each batch once, in order.

What is applied depends on the entries alone, so replicas at equal positions have applied the same.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from retrieval_draft.errors import Corrupt, FailedPrecondition, NotFound
from retrieval_draft.store.backend import JournalFigures, Listener
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.counts import Heartbeat
from retrieval_draft.store.journal_position import ENTRY_OVERHEAD_BYTES, JournalPosition
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.learned_image import LearnedImage, image_of
from retrieval_draft.store.manifest import Manifest
from retrieval_draft.store.pending import Journal, Pending
from retrieval_draft.store.records import TOKEN_BYTES, Batch, NamespaceSpec, decode_batch
from retrieval_draft.store.snapshot_store import Captured

# Beyond it the replica that was silent longest is forgotten; by entries alone, so alike everywhere.
REPLICAS_REMEMBERED_MAX = 4_096

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Followed:
    """A namespace that the listener knows, and what came out of its journal."""

    journal: Journal
    spec: NamespaceSpec | None = None
    position: JournalPosition = field(default_factory=JournalPosition)
    applied: int = 0
    corrupt: int = 0
    gaps: int = 0
    # Last batch number of each replica, the most recently heard one at the end.
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    # Entries up to this one were gone before they were read: what they taught is missing here.
    gap: str = ""
    # Earlier positions, oldest first; what comes before the first is trimmed, as far as is known here.
    marks: deque[JournalPosition] = field(default_factory=lambda: deque([JournalPosition()]))
    # The newest snapshot that this replica has heard of.
    saved: JournalPosition = field(default_factory=JournalPosition)
    generation: int = 0
    saved_unix_seconds: float = 0.0
    # What is not as it should be, for operators; the newest last.
    problems: dict[str, str] = field(default_factory=dict[str, str])


class Applier:
    """`entry`, `opened`, `closed` and `corpus` are the follower thread's; the rest is anybody's.

    Copying a tier pauses applying, and nothing else.
    """

    def __init__(self, replica: str, listener: Listener, pending: Pending, blocks: Blocks) -> None:
        self._replica, self._listener, self._pending = replica, listener, pending
        self._blocks = blocks
        self._applying = threading.RLock()
        self._followed: dict[NamespaceKey, Followed] = {}

    def journal(self, key: NamespaceKey) -> Journal | None:
        """Where records of this namespace go, if it exists."""
        followed = self._followed.get(key)
        return followed.journal if followed else None

    def followed(self, key: NamespaceKey) -> Followed | None:
        """What is known of the namespace, if the listener knows it."""
        return self._followed.get(key)

    def known(self) -> list[NamespaceKey]:
        """The namespaces that the listener knows."""
        return list(self._followed)

    def opened(self, journal: Journal, spec: NamespaceSpec) -> None:
        """The namespace exists. Tells the listener, unless it knows this incarnation."""
        known = self._followed.get(journal.key)
        if known is not None and known.journal == journal:
            return
        self.closed(journal.key)
        with self._applying:
            # Known first: whoever the listener tells may append at once.
            self._followed[journal.key] = Followed(journal, spec)
            self._call("namespace", lambda: self._listener.namespace_changed(journal.key, spec))

    def rewound(self, journal: Journal) -> None:
        """The journal is not what was applied of it: the listener begins anew, and reads all of it.

        What is on its way there stays. Counted as a gap.
        """
        with self._applying:
            known = self._followed[journal.key]
            anew = Followed(journal, known.spec, corrupt=known.corrupt, gaps=known.gaps + 1)
            self._followed[journal.key] = anew
            for spec in (None, known.spec):
                self._call(
                    "namespace", partial(self._listener.namespace_changed, journal.key, spec)
                )

    def closed(self, key: NamespaceKey) -> None:
        """The namespace is gone. Tells the listener, if it knew of it."""
        with self._applying:
            if self._followed.pop(key, None) is None:
                return
            self._pending.forget(key)
            self._call("blocks", lambda: self._blocks.forget(key))
            self._call("namespace", lambda: self._listener.namespace_changed(key, None))

    def corpus(self, key: NamespaceKey, corpus: str) -> None:
        """The corpus has changed."""
        self._call("corpus", lambda: self._listener.corpus_changed(key, corpus))

    def entry(self, key: NamespaceKey, entry_id: str, payload: bytes) -> None:
        """The next entry of the namespace's journal. Never raises."""
        with self._applying:
            followed = self._followed.get(key)
            if followed is not None:
                self._entry(followed, entry_id, payload)

    def learned(self, key: NamespaceKey) -> LearnedTier | None:
        """The tier that the journal is applied to, if there is one."""
        return self._listener.learned(key)

    def capture(self, key: NamespaceKey) -> Captured | None:
        """Copy the learned tier between two entries. Applying waits meanwhile: O(size)."""
        with self._applying:
            followed, tier = self._followed.get(key), self._listener.learned(key)
            if followed is None or tier is None:
                return None
            image = image_of(tier)
            return Captured(followed.journal, followed.position, dict(followed.numbers), image)

    def load(
        self, journal: Journal, manifest: Manifest, image: LearnedImage, oldest: JournalPosition
    ) -> None:
        """Go back or on to where the snapshot was taken; the journal begins at `oldest`.

        Corrupt or FailedPrecondition change nothing.
        """
        with self._applying:
            followed = self._followed.get(journal.key)
            if followed is None or followed.journal != journal:
                return
            self._listener.load_learned(journal.key, manifest.position.entry_id, image)
            followed.position, followed.numbers = manifest.position, dict(manifest.numbers)
            followed.marks = deque([oldest, manifest.position])
            followed.gap = ""
            followed.problems.pop("gap", None)
            self.saved(journal, manifest)

    def saved(self, journal: Journal, manifest: Manifest, is_ours: bool = False) -> None:
        """This is the newest snapshot. If it is ours, what we miss is missing everywhere from now on."""
        with self._applying:
            followed = self._followed.get(journal.key)
            if followed is not None and followed.journal == journal:
                followed.saved, followed.generation = manifest.position, manifest.generation
                followed.saved_unix_seconds = manifest.unix_seconds
                followed.gap = "" if is_ours else followed.gap

    def missed(self, key: NamespaceKey, until: str, what: str) -> None:
        """Entries up to this one were trimmed before they were read here."""
        with self._applying:
            if (followed := self._followed.get(key)) is not None:
                followed.gaps += 1
                followed.gap = until
                followed.problems["gap"] = what
        _log.warning("%s: %s", key, what)

    def problem(self, key: NamespaceKey, about: str, what: str) -> None:
        """Say something of the namespace in its figures and in the log; "" withdraws it."""
        if what:
            _log.error("%s: %s", key, what)
        with self._applying:
            if (followed := self._followed.get(key)) is not None:
                followed.problems.pop(about, None)
                if what:
                    followed.problems[about] = what

    def figures(self, key: NamespaceKey, connected: bool) -> JournalFigures:
        """The figures of a namespace, those of its pending records included."""
        counts = self._pending.counts(key)
        with self._applying:
            of = self._followed.get(key) or Followed(Journal(key, ""))
            return JournalFigures(
                appended=counts.appended,
                written=counts.written,
                applied=of.applied,
                dropped=counts.dropped,
                corrupt=of.corrupt,
                gaps=of.gaps,
                lag_records=max(0, counts.appended - counts.dropped - counts.returned),
                connected=connected,
                generation=of.generation,
                saved_unix_seconds=of.saved_unix_seconds,
                problems=tuple(of.problems.values()),
            )

    def _entry(self, followed: Followed, entry_id: str, payload: bytes) -> None:
        key, before = followed.journal.key, followed.position
        size, tokens = before.bytes + len(payload) + ENTRY_OVERHEAD_BYTES, before.tokens
        try:
            batch = decode_batch(payload)
        except Corrupt as error:
            _log.error("skipped journal entry %s of %s: %s", entry_id, key, error)
            followed.corrupt += 1
            followed.position = JournalPosition(entry_id, size, tokens)
            return
        # A writer that was not answered sends again: the second copy must change nothing.
        if self._heard(followed, batch.replica, batch.number):
            self._apply(key, entry_id, batch)
            followed.applied += len(batch.records)
            tokens += sum(len(record.tokens) for record in batch.records) // TOKEN_BYTES
        followed.position = JournalPosition(entry_id, size, tokens)
        if batch.replica == self._replica:
            self._pending.returned(followed.journal, batch.number)

    def _apply(self, key: NamespaceKey, entry_id: str, batch: Batch) -> None:
        try:
            self._listener.apply(key, entry_id, batch)
        except Exception:  # one bad entry, or a bug of the listener, must not end following
            _log.exception("the listener failed on journal entry %s of %s", entry_id, key)

    def heartbeat(self, key: NamespaceKey) -> Heartbeat:
        """What to say of this replica's records in the namespace, now."""
        mine = self.figures(key, connected=True)
        return Heartbeat(
            time.time(),
            written=mine.written,
            dropped=mine.dropped,
            lag_records=mine.lag_records,
        )

    def _heard(self, followed: Followed, replica: str, number: int) -> bool:
        """Whether this batch is new; notes it."""
        last = followed.numbers.pop(replica, None)
        followed.numbers[replica] = max(number, last or 0)
        is_full = len(followed.numbers) >= REPLICAS_REMEMBERED_MAX
        if len(followed.numbers) > REPLICAS_REMEMBERED_MAX:
            del followed.numbers[next(iter(followed.numbers))]
        # Nothing can be missed of a replica that may have been forgotten, or behind a gap that was told.
        is_missed = last is None and (is_full or bool(followed.gap))
        missing = 0 if is_missed else number - 1 - (last or 0)
        if missing > 0:
            followed.gaps += 1
            what = f"{missing} batches of replica {replica} never reached the journal's readers"
            followed.problems["hole"] = what
            _log.warning("%s: %s", followed.journal.key, what)
        return last is None or number > last

    def _call(self, what: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # one bad entry, or a bug of the listener, must not end following
            _log.exception("the listener failed on %s and goes on after it", what)


def captured_image(applier: Applier | None, key: NamespaceKey) -> LearnedImage:
    """A copy of the learned tier as of now, or NotFound; FailedPrecondition where nothing was started."""
    if applier is None:
        raise FailedPrecondition("this backend was not started")
    captured = applier.capture(key)
    if captured is None:
        raise NotFound(f"there is no namespace {key.namespace}")
    return captured.image
