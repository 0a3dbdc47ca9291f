"""Where snapshots lie: arrays as blocks, manifests on a shelf in the namespace's own slot.

One replica at a time writes, by a lock whose tokens rise: a writer that lost it cannot switch any more.
Blocks are noted before they are put, so that those of a writer that died are found and removed.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from retrieval_draft.errors import DraftError, FailedPrecondition, NotFound
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.image_blocks import load_image, store_image
from retrieval_draft.store.journal_position import BEGINNING, JournalPosition
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.learned_image import LearnedImage
from retrieval_draft.store.manifest import Manifest, decode_manifest, encode_manifest
from retrieval_draft.store.pending import Journal

LOCK_SECONDS = 120.0
"""Renewed with every few blocks: so long after a writer died, the next one may begin."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Captured:
    """A copy of a learned tier, and the position in the journal that it stands for."""

    journal: Journal
    position: JournalPosition
    numbers: dict[str, int]
    image: LearnedImage


@dataclass(frozen=True, slots=True)
class Kept:
    """A manifest as it lies on the shelf, and what it says."""

    data: bytes
    manifest: Manifest


class Fenced(FailedPrecondition):
    """Another replica has taken the lock."""


class Shelf(Protocol):
    """Where a namespace's manifests lie, and who may write the next. All of it goes with the namespace.

    Calls raise NotFound if this incarnation of the namespace is gone, and the store's own errors.
    """

    def manifests(self, journal: Journal) -> list[bytes]:
        """The encoded manifests, newest first; none if the namespace is gone."""
        ...

    def exists(self, key: NamespaceKey) -> bool:
        """Whether there is a namespace of this name now, whichever."""
        ...

    def lock(self, journal: Journal, seconds: float) -> int | None:
        """A token above all before it, that is good for so long; None while another's is."""
        ...

    def unlock(self, journal: Journal, token: int) -> None:
        """Let others write, if the token still holds."""
        ...

    def note(self, journal: Journal, token: int, digests: list[str], seconds: float) -> None:
        """These blocks are about to be put; the token is good for so long from now. Fenced."""
        ...

    def noted(self, journal: Journal) -> set[str]:
        """The blocks that were noted and not unnoted."""
        ...

    def unnote(self, journal: Journal, digests: list[str]) -> None:
        """These blocks are removed."""
        ...

    def switch(
        self, journal: Journal, token: int, manifests: list[bytes], trim_before: str
    ) -> None:
        """In one step: these are the manifests, and entries before that id are gone. Fenced."""
        ...

    def trim(self, journal: Journal, before: str) -> None:
        """Remove the entries before that id."""
        ...


class SnapshotStore:
    """Reads and writes snapshots. Knows nothing of who follows which journal."""

    def __init__(self, shelf: Shelf, blocks: Blocks) -> None:
        self.shelf, self._blocks = shelf, blocks

    def decoded(self, journal: Journal, data: bytes) -> Manifest:
        """The manifest. Corrupt, or FailedPrecondition if it is not one of this namespace."""
        manifest = decode_manifest(data)
        if manifest.incarnation != journal.incarnation:
            raise FailedPrecondition("it is of an earlier namespace of this name")
        return manifest

    def kept(self, journal: Journal) -> list[Kept]:
        """What is kept, newest first; what is damaged is logged and left out."""
        found: list[Kept] = []
        for data in self.shelf.manifests(journal):
            try:
                found.append(Kept(data, self.decoded(journal, data)))
            except DraftError as error:
                _log.error("%s: a snapshot is left out: %s", journal.key, error)
        return found

    def read(self, journal: Journal, manifest: Manifest) -> LearnedImage:
        """Its arrays, as large as it says: check that first. Corrupt; NotFound if a block is missing."""
        return load_image(
            manifest.scalars, manifest.arrays, lambda d: self._blocks.get(journal.key, d)
        )

    def verify(self, journal: Journal) -> list[tuple[Manifest, str]]:
        """Read every block of what is kept: each snapshot with what is wrong with it, or ""."""
        verdicts: list[tuple[Manifest, str]] = []
        for one in self.kept(journal):
            problem = ""
            try:
                self.read(journal, one.manifest)
            except DraftError as error:
                problem = str(error)
            verdicts.append((one.manifest, problem))
        return verdicts

    @contextmanager
    def locked(self, journal: Journal) -> Iterator[int]:
        """Hold the lock, by the token that comes out. FailedPrecondition if another replica does."""
        token = self.shelf.lock(journal, LOCK_SECONDS)
        if token is None:
            raise FailedPrecondition(
                f"another replica is saving namespace {journal.key.namespace}; try again shortly"
            )
        try:
            yield token
        finally:
            try:
                self.shelf.unlock(journal, token)
            except Exception as error:  # it must not hide what went wrong before; the lock expires
                _log.warning("%s: the snapshot's lock stays for a while: %s", journal.key, error)

    def put(self, captured: Captured, token: int) -> Manifest:
        """Store the arrays. Nobody reads them before `switch`. Fenced."""
        journal = captured.journal
        with self._cleaned_up(journal.key):
            arrays, size = store_image(
                self._blocks,
                journal.key,
                captured.image,
                lambda digests: self.shelf.note(journal, token, digests, LOCK_SECONDS),
            )
        return Manifest(
            generation=token,
            incarnation=journal.incarnation,
            position=captured.position,
            numbers=captured.numbers,
            scalars=captured.image.scalars,
            arrays=arrays,
            stored_bytes=size,
            unix_seconds=time.time(),
        )

    def switch(self, journal: Journal, token: int, manifest: Manifest, older: list[Kept]) -> None:
        """From here on these are the snapshots, newest first; the journal begins at the oldest. Fenced.

        Then removes the blocks that none of them needs: of earlier ones, and of writers that died.
        """
        trim_before = older[-1].manifest.position.entry_id if older else BEGINNING
        encoded = [encode_manifest(manifest), *(one.data for one in older)]
        with self._cleaned_up(journal.key):
            self.shelf.switch(journal, token, encoded, trim_before)
        needed = manifest.digests.union(*(one.manifest.digests for one in older))
        self.shelf.note(journal, token, [], LOCK_SECONDS)  # nobody else puts blocks meanwhile
        gone = sorted(self.shelf.noted(journal) - needed)
        if gone:
            self._blocks.remove(journal.key, gone)
            self.shelf.unnote(journal, gone)

    @contextmanager
    def _cleaned_up(self, key: NamespaceKey) -> Iterator[None]:
        """If the namespace was deleted meanwhile, nothing that was just put may stay."""
        try:
            yield
        except NotFound:
            if not self.shelf.exists(key):
                self._blocks.remove_all(key)
            raise

    def put_first(self, captured: Captured) -> None:
        """The first snapshot of a namespace that no replica has seen yet."""
        with self.locked(captured.journal) as token:
            self.switch(captured.journal, token, self.put(captured, token), [])
