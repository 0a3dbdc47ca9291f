"""Turns what a journal holds into calls of a listener: each batch once, in order.

What is applied depends on the entries alone, so replicas at equal positions have applied the same.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import partial

from retrieval_draft.errors import Corrupt
from retrieval_draft.store.backend import JournalFigures, Listener
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.counts import Heartbeat
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.pending import Journal, Pending
from retrieval_draft.store.records import NamespaceSpec, decode_batch

# Beyond it the replica that was silent longest is forgotten; by entries alone, so alike everywhere.
REPLICAS_REMEMBERED_MAX = 4_096

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    """A namespace that the listener knows, and what came out of its journal."""

    journal: Journal
    spec: NamespaceSpec
    figures: JournalFigures = field(default_factory=JournalFigures)
    # Last batch number of each replica, the most recently heard one at the end.
    numbers: dict[str, int] = field(default_factory=dict[str, int])


class Applier:
    """Used by a backend's follower thread alone, except `journal`, `known` and `figures`."""

    def __init__(self, replica: str, listener: Listener, pending: Pending, blocks: Blocks) -> None:
        self._replica, self._listener, self._pending = replica, listener, pending
        self._blocks = blocks
        self._followed: dict[NamespaceKey, _Followed] = {}

    def journal(self, key: NamespaceKey) -> Journal | None:
        """Where records of this namespace go, if it exists."""
        followed = self._followed.get(key)
        return followed.journal if followed else None

    def known(self) -> list[NamespaceKey]:
        """The namespaces that the listener knows."""
        return list(self._followed)

    def opened(self, journal: Journal, spec: NamespaceSpec) -> None:
        """The namespace exists. Tells the listener, unless it knows this incarnation."""
        known = self._followed.get(journal.key)
        if known is not None and known.journal == journal:
            return
        self.closed(journal.key)
        # Known first: whoever the listener tells may append at once.
        self._followed[journal.key] = _Followed(journal, spec)
        self._call("namespace", lambda: self._listener.namespace_changed(journal.key, spec))

    def rewound(self, journal: Journal) -> None:
        """The journal is not what was applied of it: the listener begins anew, and reads all of it.

        What is on its way there stays. Counted as a gap.
        """
        known = self._followed[journal.key]
        figures = JournalFigures(corrupt=known.figures.corrupt, gaps=known.figures.gaps + 1)
        self._followed[journal.key] = _Followed(journal, known.spec, figures)
        for spec in (None, known.spec):
            self._call("namespace", partial(self._listener.namespace_changed, journal.key, spec))

    def closed(self, key: NamespaceKey) -> None:
        """The namespace is gone. Tells the listener, if it knew of it."""
        if self._followed.pop(key, None) is not None:
            self._pending.forget(key)
            self._call("blocks", lambda: self._blocks.forget(key))
            self._call("namespace", lambda: self._listener.namespace_changed(key, None))

    def corpus(self, key: NamespaceKey, corpus: str) -> None:
        """The corpus has changed."""
        self._call("corpus", lambda: self._listener.corpus_changed(key, corpus))

    def entry(self, key: NamespaceKey, entry_id: str, payload: bytes) -> None:
        """The next entry of the namespace's journal. Never raises."""
        followed = self._followed.get(key)
        if followed is None:
            return
        try:
            batch = decode_batch(payload)
        except Corrupt as error:
            _log.error("skipped journal entry %s of %s: %s", entry_id, key, error)
            followed.figures = replaced(followed.figures, corrupt=followed.figures.corrupt + 1)
            return
        # A writer that was not answered sends again: the second copy must change nothing.
        if self._heard(followed, batch.replica, batch.number):
            what = f"journal entry {entry_id} of {key}"
            self._call(what, lambda: self._listener.apply(key, entry_id, batch))
            applied = followed.figures.applied + len(batch.records)
            followed.figures = replaced(followed.figures, applied=applied)
        if batch.replica == self._replica:
            self._pending.returned(followed.journal, batch.number)

    def figures(self, key: NamespaceKey, connected: bool) -> JournalFigures:
        """The figures of a namespace, those of its pending records included."""
        followed = self._followed.get(key)
        counts = self._pending.counts(key)
        return replaced(
            followed.figures if followed else JournalFigures(),
            appended=counts.appended,
            written=counts.written,
            dropped=counts.dropped,
            lag_records=max(0, counts.appended - counts.dropped - counts.returned),
            connected=connected,
        )

    def heartbeat(self, key: NamespaceKey) -> Heartbeat:
        """What to say of this replica's records in the namespace, now."""
        mine = self.figures(key, connected=True)
        return Heartbeat(
            time.time(),
            written=mine.written,
            dropped=mine.dropped,
            lag_records=mine.lag_records,
        )

    def _heard(self, followed: _Followed, replica: str, number: int) -> bool:
        """Whether this batch is new; notes it."""
        last = followed.numbers.pop(replica, None)
        followed.numbers[replica] = max(number, last or 0)
        if len(followed.numbers) > REPLICAS_REMEMBERED_MAX:
            del followed.numbers[next(iter(followed.numbers))]
        if last is not None and number > last + 1:
            _log.warning("%s: %d batches are missing", followed.journal.key, number - last - 1)
            followed.figures = replaced(followed.figures, gaps=followed.figures.gaps + 1)
        return last is None or number > last

    def _call(self, what: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # one bad entry, or a bug of the listener, must not end following
            _log.exception("the listener failed on %s and goes on after it", what)
