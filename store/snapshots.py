"""When a replica takes, loads and trims: snapshots beside drafting and applying, from one thread."""

import logging
import threading
import time
from collections.abc import Callable

from retrieval_draft.errors import DraftError, FailedPrecondition, NotFound, Unreachable
from retrieval_draft.store.applier import Applier, Followed
from retrieval_draft.store.blocks import block_digest
from retrieval_draft.store.journal_position import BEGINNING, JournalPosition, order_of
from retrieval_draft.store.journal_rules import GENERATIONS_KEPT, JournalRules
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned_image import check_fits
from retrieval_draft.store.manifest import Manifest
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.snapshot_store import SnapshotStore

RETRY_SECONDS = 10.0
"""Until a snapshot is tried again that failed, or that another replica was writing."""
AT_STOP_SECONDS_MAX = 5.0
MARKS = 64
"""Places at which a journal that is too long may be cut."""

_log = logging.getLogger(__name__)


class Snapshots:
    """Of one replica. `restore` and `progressed` are its follower thread's, the rest is anybody's."""

    def __init__(self, store: SnapshotStore, applier: Applier, rules: JournalRules) -> None:
        self._store, self._applier, self._rules = store, applier, rules
        self._refused: set[str] = set()  # digests of manifests that did not load here
        self._taking = threading.Lock()
        self._wake = threading.Condition()
        self._due: set[NamespaceKey] = set()
        self._not_before: dict[NamespaceKey, float] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Take snapshots and trim when they are due."""
        self._thread.start()

    def stop(self, seconds_max: float) -> None:
        """End the thread, which finishes what it is writing within that time."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(seconds_max)

    def save_at_stop(self) -> None:
        """What came since the last snapshot need not be replayed by the next start. Never raises.

        Begins none after AT_STOP_SECONDS_MAX, nor behind one that is being written: the journal has it all.
        """
        least, deadline = self._rules.stop_tokens, time.monotonic() + AT_STOP_SECONDS_MAX
        for key in self._applier.known():
            followed = self._applier.followed(key)
            if followed is None or not least:
                continue
            if self._taking.locked() or time.monotonic() > deadline:
                return
            if followed.position.tokens - followed.saved.tokens >= least and not followed.gap:
                self._attempt(key, self.take)

    def restore(self, journal: Journal, since: str = BEGINNING) -> str | None:
        """Load the newest valid snapshot that is no older than `since`; returns its entry id.

        What is damaged, or does not fit the namespace, is said and passed over.
        """
        tier = self._applier.learned(journal.key)
        if tier is None:
            return None
        problems: list[str] = []
        loaded: Manifest | None = None
        encoded = self._store.shelf.manifests(journal)
        for data in encoded:
            name = block_digest(data)
            if name in self._refused:
                continue
            try:
                manifest = self._store.decoded(journal, data)
                if order_of(manifest.position.entry_id) < order_of(since):
                    break
                shapes = {name: array.shape for name, array in manifest.arrays.items()}
                check_fits(tier, manifest.scalars, shapes)
                image = self._store.read(journal, manifest)
                oldest = self._oldest(journal, encoded, manifest)
                self._applier.load(journal, manifest, image, oldest)
            except DraftError as error:
                if not isinstance(error, Unreachable):
                    self._refused.add(name)
                problems.append(f"a snapshot is left out: {error}")
                continue
            loaded = manifest
            break
        if problems:
            behind = f"generation {loaded.generation}" if loaded else "the journal alone"
            self._applier.problem(
                journal.key, "snapshot", f"{'; '.join(problems)}; went on from {behind}"
            )
        return loaded.position.entry_id if loaded else None

    def missed(self, journal: Journal, until: str, what: str) -> str | None:
        """Entries up to this one were trimmed before they were read: say so, and make it good.

        Returns the entry to go on behind if a snapshot holds them; else `mend` tries again.
        """
        self._applier.missed(journal.key, until, what)
        return self.restore(journal, since=until)

    def mend(self, journal: Journal) -> str | None:
        """Where to go on if a snapshot now holds what was missed here; None if nothing is missing."""
        followed = self._applier.followed(journal.key)
        return self.restore(journal, since=followed.gap) if followed and followed.gap else None

    def _oldest(self, journal: Journal, encoded: list[bytes], loaded: Manifest) -> JournalPosition:
        """Where the journal was trimmed, as far as the snapshots tell."""
        try:
            return self._store.decoded(journal, encoded[-1]).position
        except DraftError:
            return loaded.position

    def progressed(self, key: NamespaceKey) -> None:
        """Entries were applied: trim the journal if it is too long, see whether a snapshot is due.

        Costs microseconds, and a call of the store for a trimming, whose errors it raises.
        """
        followed = self._applier.followed(key)
        if followed is None:
            return
        position, marks = followed.position, followed.marks
        if position.bytes - marks[-1].bytes >= self._rules.journal_bytes_max // MARKS:
            marks.append(position)
        if position.bytes - marks[0].bytes > self._rules.journal_bytes_max:
            self._cut(followed)
        if self._is_due(followed) and time.monotonic() >= self._not_before.get(key, 0.0):
            with self._wake:
                self._due.add(key)
                self._wake.notify_all()

    def take(self, key: NamespaceKey) -> Manifest:
        """Save the learned tier; returns the newest snapshot, which holds all applied here so far.

        Raises NotFound, FailedPrecondition while another replica writes, and the stores' errors.
        """
        journal = self._applier.journal(key)
        if journal is None:
            raise NotFound(f"there is no namespace {key.namespace}")
        with self._taking, self._store.locked(journal) as token:
            return self._taken(journal, token)

    def _taken(self, journal: Journal, token: int) -> Manifest:
        captured = self._applier.capture(journal.key)
        if captured is None or captured.journal != journal:
            raise NotFound(f"there is nothing to save of namespace {journal.key.namespace}")
        kept = [
            one for one in self._store.kept(journal) if block_digest(one.data) not in self._refused
        ]
        newest = kept[0].manifest if kept else None
        if newest and order_of(newest.position.entry_id) > order_of(captured.position.entry_id):
            self._applier.saved(journal, newest)
            return newest
        manifest = self._store.put(captured, token)
        self._store.switch(journal, token, manifest, kept[: GENERATIONS_KEPT - 1])
        self._applier.saved(journal, manifest, is_ours=True)
        self._applier.problem(journal.key, "snapshot", "")
        return manifest

    def _is_due(self, followed: Followed) -> bool:
        rules, position, saved = self._rules, followed.position, followed.saved
        if not rules.snapshot_tokens:
            return False
        # A replica that misses something leaves it to the others first.
        patience = 2 if followed.gap else 1
        return (
            position.tokens - saved.tokens >= rules.snapshot_tokens * patience
            or position.bytes - saved.bytes >= rules.snapshot_bytes * patience
        )

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._due or self._stopped)
                if self._stopped:
                    return
                key = self._due.pop()
            self._not_before[key] = time.monotonic() + RETRY_SECONDS
            if self._attempt(key, self._look):
                self._not_before.pop(key, None)

    def _look(self, key: NamespaceKey) -> None:
        journal, followed = self._applier.journal(key), self._applier.followed(key)
        if journal is None or followed is None:
            return
        if self._is_due(followed):
            newest = self._store.kept(journal)[:1]
            if newest and newest[0].manifest.generation > followed.generation:
                self._applier.saved(journal, newest[0].manifest)
            if self._is_due(followed):
                self.take(key)

    def _cut(self, followed: Followed) -> None:
        """Trim to seven eighths of the bound, at a mark."""
        marks, most = followed.marks, self._rules.journal_bytes_max * 7 // 8
        while len(marks) > 1 and followed.position.bytes - marks[0].bytes > most:
            marks.popleft()
        self._store.shelf.trim(followed.journal, marks[0].entry_id)
        behind = followed.saved.bytes < marks[0].bytes
        _log.log(
            logging.WARNING if behind else logging.INFO,
            "%s: journal trimmed before %s%s",
            followed.journal.key,
            marks[0].entry_id,
            ", which no snapshot holds" if behind else "",
        )

    def _attempt(self, key: NamespaceKey, call: Callable[[NamespaceKey], object]) -> bool:
        try:
            call(key)
        except NotFound:
            return True
        except FailedPrecondition as error:
            _log.info("%s: no snapshot now: %s", key, error)
            return False
        except Exception as error:  # it must not end the thread; the journal still has everything
            _log.warning("%s: no snapshot now: %s", key, error)
            return False
        return True
