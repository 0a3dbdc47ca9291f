"""All documents of a list of sources, and how much of them was read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from retrieval_draft.warming.documents import Document, Found, Skipped
from retrieval_draft.warming.files import HUB, files_of
from retrieval_draft.warming.formats import Formats

SKIPPED_KEPT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Extent:
    """What sources name: files, and their bytes as stored; None where it cannot be told before."""

    files: int
    nbytes: int | None


def extent_of(sources: Sequence[str]) -> Extent:
    """Look at every name without reading a file. Raises InvalidInput for what is not there."""
    files = nbytes = 0
    is_known = not any(source.startswith(HUB) for source in sources)
    for file in files_of([source for source in sources if not source.startswith(HUB)]):
        files, nbytes = files + 1, nbytes + (file.nbytes or 0)
        is_known = is_known and file.nbytes is not None
    return Extent(files, nbytes if is_known else None)


class Reading:
    """One pass over sources. `skipped` has the first of what was left out, `skipped_count` counts all."""

    def __init__(
        self,
        sources: Sequence[str],
        formats: Formats,
        progressed: Callable[[int], None] = lambda nbytes: None,
    ) -> None:
        """`progressed` is told how many stored bytes were read so far."""
        self.nbytes = self.skipped_count = 0
        self.skipped: list[Skipped] = []
        self._sources, self._formats, self._progressed = sources, formats, progressed

    def documents(self) -> Iterator[Document]:
        """Every document, in a fixed order; empty ones and what cannot be read are left out."""
        for found in self._found():
            if not isinstance(found, Skipped):
                yield found
                continue
            self.skipped_count += 1
            if len(self.skipped) < SKIPPED_KEPT_MAX:
                self.skipped.append(found)

    def _found(self) -> Iterator[Found]:
        for source in self._sources:
            if source.startswith(HUB):
                from retrieval_draft.warming.hub import dataset

                yield from dataset(source, self._formats.fields)
                continue
            for file in files_of([source]):
                yield from self._formats.documents(file, self._count)

    def _count(self, nbytes: int) -> None:
        self.nbytes += nbytes
        self._progressed(self.nbytes)
