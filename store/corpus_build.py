"""Making segments of what a corpus holds: pending blocks become one, and several segments become one.

A crash at any moment leaves the corpus as it was or as it is to be: segments are stored first, and the
list of them is switched together with the removal of the pending blocks.
"""

import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from retrieval_draft.errors import Corrupt, DraftError, InvalidInput, NotFound
from retrieval_draft.store import compaction
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.corpora import SegmentEntry, listed
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.segment import Segment
from retrieval_draft.store.segment_build import SegmentBuilder

CLAIM_SECONDS = 60.0
"""So long a dead builder keeps others waiting; a living one renews its claim."""

_log = logging.getLogger(__name__)


class CorpusBuild:
    """Builds for one replica; any thread may call, one corpus at a time is claimed by one replica."""

    def __init__(self, backend: Backend, owner: str, text_max: int, folder: Path | None) -> None:
        self._backend, self._owner = backend, owner
        self._text_max, self._folder = text_max, folder
        self._damaged: set[str] = set()

    def build(self, key: NamespaceKey, corpus: str) -> bool:
        """Make segments of all pending blocks, then merge what is due. False if another one builds.

        Raises NotFound if the corpus is deleted meanwhile, and what the store raises.
        """
        with self._claimed(key, corpus) as mine:
            if mine:
                vocab_size = self._backend.get_namespace(key).vocab_size
                while self._build_some(key, corpus, vocab_size):
                    pass
                while self._merge_due(key, corpus, vocab_size):
                    pass
        return mine

    def compact(self, key: NamespaceKey, corpus: str) -> bool:
        """The same, and then have as few segments as the bound on their size allows."""
        with self._claimed(key, corpus) as mine:
            if mine:
                vocab_size = self._backend.get_namespace(key).vocab_size
                while self._build_some(key, corpus, vocab_size):
                    pass
                segments = self._sound(self._backend.corpora.content(key, corpus).segments)
                for group in compaction.packed(_texts(segments), self._text_max):
                    if len(group) > 1:
                        self._merge(key, corpus, vocab_size, [segments[i] for i in group])
        return mine

    def _sound(self, segments: Sequence[SegmentEntry]) -> list[SegmentEntry]:
        return [entry for entry in segments if entry.digest not in self._damaged]

    def _build_some(self, key: NamespaceKey, corpus: str, vocab_size: int) -> bool:
        """Whether a segment was made of pending blocks, as many as one may hold."""
        corpora = self._backend.corpora
        content = corpora.content(key, corpus)
        taken: list[bytes] = []
        text = 0
        for digest, entry in content.pending.items():
            size = entry.tokens + entry.documents
            if taken and text + size > self._text_max:
                break
            taken.append(digest)
            text += size
        if not taken:
            return False
        builder = SegmentBuilder(vocab_size, text)
        lost: list[bytes] = []
        for digest, block in corpora.pending(key, corpus, taken):
            if block is None:
                lost.append(digest)
                continue
            tokens, at = np.frombuffer(block.tokens, np.int32), 0
            for document in block.documents:
                part, at = tokens[at : at + document.tokens], at + document.tokens
                try:
                    builder.add(document.name, document.digest, part)
                except InvalidInput as error:
                    _log.error("corpus %s: left out a document: %s", corpus, error)
        made = self._stored(key, builder) if len(builder) else None
        after = (*content.segments, *([made] if made else []))
        return self._switch(key, corpus, content.segments, after, taken, lost)

    def _merge_due(self, key: NamespaceKey, corpus: str, vocab_size: int) -> bool:
        segments = self._sound(self._backend.corpora.content(key, corpus).segments)
        due = compaction.due(_texts(segments), self._text_max)
        if not due:
            return False
        return self._merge(key, corpus, vocab_size, [segments[i] for i in due])

    def _merge(
        self, key: NamespaceKey, corpus: str, vocab_size: int, entries: Sequence[SegmentEntry]
    ) -> bool:
        """Whether one segment stands in the place of these. A damaged one is left as it is from then on."""
        builder = SegmentBuilder(vocab_size, sum(_texts(entries)))
        for entry in entries:
            try:
                self._add(key, builder, entry)
            except (Corrupt, NotFound) as error:
                _log.error("corpus %s: a segment is not merged: %s", corpus, error)
                self._damaged.add(entry.digest)
                return True
        made = self._stored(key, builder)
        before = self._backend.corpora.content(key, corpus).segments
        after = (*(entry for entry in before if entry not in entries), made)
        if not self._switch(key, corpus, before, after, (), ()):
            return False
        self._remove_unused(key, [entry.digest for entry in entries])
        return True

    def _add(self, key: NamespaceKey, builder: SegmentBuilder, entry: SegmentEntry) -> None:
        segment = Segment.open(self._backend.blocks.local(key, entry.digest), entry.digest)
        try:
            if (page := segment.damaged_page()) is not None:
                raise Corrupt(f"segment {entry.digest}: page {page} is damaged")
            for document in segment.read():
                builder.add(document.name, document.digest, document.tokens)
        finally:
            segment.close()

    def _stored(self, key: NamespaceKey, builder: SegmentBuilder) -> SegmentEntry:
        with tempfile.TemporaryDirectory(prefix="retrieval-draft-", dir=self._folder) as folder:
            path = Path(folder) / "segment"
            builder.write(path)
            segment = Segment.open(path)
            documents, tokens, size = segment.documents, segment.token_count, segment.nbytes
            segment.close()
            return SegmentEntry(self._backend.blocks.put_file(key, path), documents, tokens, size)

    def _switch(
        self,
        key: NamespaceKey,
        corpus: str,
        before: tuple[SegmentEntry, ...],
        after: tuple[SegmentEntry, ...],
        built: Sequence[bytes],
        lost: Sequence[bytes],
    ) -> bool:
        made = [entry.digest for entry in after if entry not in before]
        try:
            done = self._backend.corpora.switch(key, corpus, before, after, built, lost)
        except DraftError:
            self._remove_unused(key, made)
            raise
        if not done:
            self._remove_unused(key, made)
        return done

    def _remove_unused(self, key: NamespaceKey, digests: Sequence[str]) -> None:
        """Remove segments that no corpus of the namespace lists."""
        self._backend.blocks.remove(key, set(digests) - listed(self._backend.corpora, key))

    @contextmanager
    def _claimed(self, key: NamespaceKey, corpus: str) -> Iterator[bool]:
        corpora = self._backend.corpora
        if not corpora.claim(key, corpus, self._owner, CLAIM_SECONDS):
            yield False
            return
        over = threading.Event()

        def renew() -> None:
            while not over.wait(CLAIM_SECONDS / 3):
                try:
                    corpora.claim(key, corpus, self._owner, CLAIM_SECONDS)
                except DraftError as error:  # the switch decides; the claim only saves work
                    _log.warning("the claim on corpus %s was not renewed: %s", corpus, error)

        renewing = threading.Thread(target=renew, name="corpus-claim", daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            over.set()
            renewing.join()
            corpora.release(key, corpus, self._owner)


def _texts(entries: Sequence[SegmentEntry]) -> list[int]:
    """Tokens with a boundary behind every document: what a builder needs room for."""
    return [entry.tokens + entry.documents for entry in entries]
