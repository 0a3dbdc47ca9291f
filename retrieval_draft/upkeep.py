"""Corpora in memory, kept equal to what the store holds: mapped, built, merged and checked beside drafting.

Drafts go on with what is mapped until there is something newer. Nothing here is on a draft's path.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from retrieval_draft.config import Config
from retrieval_draft.errands import Errands
from retrieval_draft.errors import Corrupt, DraftError, NotFound, Unreachable
from retrieval_draft.namespace import NamespaceState
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.corpora import SegmentEntry, StoredContent
from retrieval_draft.store.corpus import CorpusTier
from retrieval_draft.store.corpus_build import CorpusBuild
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.segment import Segment

AGAIN_SECONDS = 1.0
"""After so long a store that could not be had, or another replica's build, is looked at again."""
LOOK_SECONDS = 0.2
"""So often a caller that waits looks what the store holds: another replica may build."""
CHECK_PAGES = 16
NICE = 10
"""Of building and checking: drafting comes first."""
START_SECONDS_MAX = 1.0
STOP_SECONDS_MAX = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Where:
    """A corpus of a namespace."""

    key: NamespaceKey
    corpus: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A segment of a corpus, to be checked from this page on."""

    where: Where
    segment: Segment
    page: int = 0


class Upkeep:
    """Three threads: one maps, one builds, one reads every page of what was mapped once."""

    def __init__(
        self,
        backend: Backend,
        config: Config,
        state_of: Callable[[NamespaceKey], NamespaceState | None],
    ) -> None:
        self._backend, self._config, self._state_of = backend, config, state_of
        self._build: CorpusBuild | None = None
        self._mapping = Errands[Where]("corpus-mapping", self._map)
        self._building = Errands[Where]("corpus-building", self._make, NICE)
        self._checking = Errands[Checked]("corpus-checking", self._check, NICE)

    def start(self, replica: str) -> None:
        """Maps what was announced before; drafts may begin without what takes longer than a second."""
        self._build = CorpusBuild(
            self._backend, replica, self._config.segment_tokens_max, self._config.scratch
        )
        for errands in (self._mapping, self._building, self._checking):
            errands.start()
        self._mapping.wait_until_idle(START_SECONDS_MAX)

    def stop(self) -> None:
        for errands in (self._mapping, self._building, self._checking):
            errands.stop(STOP_SECONDS_MAX)

    def changed(self, key: NamespaceKey, corpus: str) -> None:
        """The store holds something else of the corpus; never waits."""
        self._mapping.put(Where(key, corpus))

    def stored(self, key: NamespaceKey, corpus: str) -> None:
        """Documents were stored: enough may be pending to be built before anybody publishes."""
        self._building.put(Where(key, corpus))

    def wait_until_drafted(self, state: NamespaceState, corpus: str, seconds_max: float) -> bool:
        """Whether drafts here use all that was stored of the corpus before the call, in time.

        NotFound if it is deleted meanwhile; Unreachable if this sidecar stops, and what is stored stays.
        """
        key = state.key
        wanted = self._backend.corpora.content(key, corpus).pending.keys()
        deadline = time.monotonic() + seconds_max
        while True:
            self._check_going_on(state)
            content = self._backend.corpora.content(key, corpus)
            if not wanted & content.pending.keys():
                shown = tuple(entry.digest for entry in content.segments)
                if state.wait_until_shown(corpus, shown, LOOK_SECONDS):
                    return True
            elif not state.wait_for_change(min(LOOK_SECONDS, deadline - time.monotonic())):
                self._building.put(Where(key, corpus))
            if time.monotonic() > deadline:
                return False

    def compact(self, state: NamespaceState, corpus: str, seconds_max: float) -> None:
        """Merge the corpus into as few segments as may be; returns when drafts here use them.

        NotFound; Unreachable if another replica is at it for longer than `seconds_max`.
        """
        assert self._build is not None
        deadline = time.monotonic() + seconds_max
        while not self._build.compact(state.key, corpus):
            self._check_going_on(state)
            if time.monotonic() > deadline:
                raise DraftError(f"corpus {corpus!r} is being built by another replica")
            time.sleep(LOOK_SECONDS)
        self.wait_until_drafted(state, corpus, seconds_max)

    def _check_going_on(self, state: NamespaceState) -> None:
        if self._building.stopped:
            raise Unreachable("this sidecar is stopping; the next one builds what is stored")
        if self._state_of(state.key) is not state:
            raise NotFound(f"namespace {state.key.namespace!r} was deleted")

    def _map(self, where: Where) -> float | None:
        state = self._state_of(where.key)
        if state is None:
            return None
        try:
            content = self._backend.corpora.content(where.key, where.corpus)
        except NotFound:
            state.show(where.corpus, None)
            return None
        except DraftError as error:
            log.warning("corpus %s: %s; drafts go on with what there is", where.corpus, error)
            return AGAIN_SECONDS
        if not content.is_published:
            return None
        again = self._show(state, where, content)
        if content.pending:
            self._building.put(where)
        return again

    def _show(self, state: NamespaceState, where: Where, content: StoredContent) -> float | None:
        mapped = {segment.digest: segment for segment in state.segments((where.corpus,))}
        segments: list[Segment] = []
        again = None
        for entry in content.segments:
            if (problem := state.problems.get((where.corpus, entry.digest))) is not None:
                log.debug("corpus %s is without a segment: %s", where.corpus, problem)
                continue
            try:
                segment = mapped.get(entry.digest) or self._mapped(where.key, state, entry)
            except (Corrupt, NotFound) as error:
                if isinstance(error, NotFound) and self._is_gone(where, entry):
                    return 0.0
                log.error("corpus %s: left out a segment: %s", where.corpus, error)
                state.problems[where.corpus, entry.digest] = str(error)
                continue
            except DraftError as error:
                log.warning("corpus %s: a segment is not here yet: %s", where.corpus, error)
                again = AGAIN_SECONDS
                continue
            segments.append(segment)
            if entry.digest not in mapped:
                self._checking.put(Checked(where, segment))
        shown = tuple(entry.digest for entry in content.segments) if again is None else ()
        state.show(where.corpus, CorpusTier(tuple(segments)), shown)
        return again

    def _mapped(self, key: NamespaceKey, state: NamespaceState, entry: SegmentEntry) -> Segment:
        segment = Segment.open(self._backend.blocks.local(key, entry.digest), entry.digest)
        if segment.vocab_size > state.spec.vocab_size:
            raise Corrupt(f"segment {entry.digest}: a vocabulary of {segment.vocab_size}")
        return segment

    def _is_gone(self, where: Where, entry: SegmentEntry) -> bool:
        """Whether the corpus has been switched to other segments, or deleted, in the meantime."""
        try:
            return entry not in self._backend.corpora.content(where.key, where.corpus).segments
        except NotFound:
            return True

    def _make(self, where: Where) -> float | None:
        assert self._build is not None
        try:
            content = self._backend.corpora.content(where.key, where.corpus)
            enough = self._config.build_tokens_min
            if not content.is_published and content.pending_tokens < enough:
                return None
            return None if self._build.build(where.key, where.corpus) else AGAIN_SECONDS
        except NotFound:
            return None
        except DraftError as error:
            log.warning("corpus %s is not built yet: %s", where.corpus, error)
            return AGAIN_SECONDS

    def _check(self, errand: Checked) -> float | None:
        """Read some pages, then as long nothing: a full disk scan is in nobody's way."""
        segment, corpus = errand.segment, errand.where.corpus
        state = self._state_of(errand.where.key)
        if state is None or segment not in state.segments((corpus,)):
            return None
        began = time.monotonic()
        page = segment.damaged_page(errand.page, CHECK_PAGES)
        if page is not None:
            problem = f"segment {segment.digest}: page {page} is damaged; delete the corpus and warm it again"
            log.error("corpus %s: left out a segment: %s", corpus, problem)
            state.problems[corpus, segment.digest] = problem
            state.leave_out(corpus, segment)
        elif (following := errand.page + CHECK_PAGES) < segment.pages:
            self._checking.put(Checked(errand.where, segment, following), time.monotonic() - began)
        return None
