"""What drafting brought, counted per namespace since this replica started.

Everything is a sum of integers under a name, so that the counts of replicas, or of a replica's lives,
add up: `counts` gives them flat (`steps`, `tier:context:accepted`), `hits_of` reads rows from such.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.kernels import tally as kernels
from retrieval_draft.drafting.names import METHODS
from retrieval_draft.drafting.root import Root
from retrieval_draft.timing import Timings
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, Int32Array

COLUMNS = ("steps", "hits", "drafted", "accepted", "millionths")
SUMS = (
    *("steps", "tokens", "drafted_steps", "drafted", "accepted"),
    *("resyncs", "rejected", "evicted_sequences", "ignored_feedback"),
)
THOUSANDTHS = 1_000
EXPECTED = "expected_thousandths"
"""Probabilities are added up as integers: floats would add up differently in another order."""

Table = npt.NDArray[np.int64]

TALLY_ROWS = kernels.BY_METHOD + len(METHODS)


@dataclass(frozen=True, slots=True)
class Hits:
    """Of verified trees: steps in which `name` drafted, of these with an acceptance; nodes likewise.

    `expected` is the sum of the nodes' path probabilities: it should equal `accepted`.
    """

    name: str
    steps: int
    hits: int
    drafted: int
    accepted: int
    expected: float = 0.0


@dataclass(slots=True)
class Counters:
    """Written by the step's thread under its client's lock; a torn read costs one count."""

    steps: int = 0
    tokens: int = 0
    resyncs: int = 0
    rejected: int = 0
    evicted_sequences: int = 0
    ignored_feedback: int = 0
    table: Table = field(default_factory=lambda: np.zeros((TALLY_ROWS, kernels.COLUMNS), np.int64))
    """The rows of `tally`: by source bit, depth, match length, size, probability and method."""
    timings: Timings = field(default_factory=Timings)

    @property
    def drafted_steps(self) -> int:
        return self._sum(kernels.STEPS)

    @property
    def drafted(self) -> int:
        return self._sum(kernels.DRAFTED)

    @property
    def accepted(self) -> int:
        return self._sum(kernels.ACCEPTED)

    @property
    def expected(self) -> float:
        """The summed path probabilities of all drafted nodes."""
        return self._sum(kernels.EXPECTED) / kernels.MILLIONTHS

    def committed(self, tokens: int, steps: int) -> None:
        """So many steps gained so many tokens, the bonus tokens included."""
        self.steps += steps
        self.tokens += tokens

    def verified(
        self, tree: DraftTree, committed: Int32Array, accepted: int, method: str, root: Root
    ) -> int:
        """This tree stood at `root`; `accepted` nodes along `committed` were kept (-1: all that agree).

        Returns how many; -1, and nothing is counted, if fewer agree than were accepted. O(nodes).
        """
        return kernels.tally(
            tree.token,
            tree.parent,
            tree.source,
            tree.probability,
            committed,
            accepted,
            root.places[0],
            root.place_count,
            METHODS.index(method),
            self.table,
        )

    def activity(self) -> int:
        """Rises whenever anything is counted: tells cheaply whether `counts` has news."""
        return sum(getattr(self, name) for name in SUMS)

    def counts(self) -> dict[str, int]:
        """Everything that is not 0, by name: at most a few hundred integers, that only rise."""
        flat = {name: int(getattr(self, name)) for name in SUMS}
        flat[EXPECTED] = round(self.expected * THOUSANDTHS)
        for kind, name, row in self._rows():
            if any(row):
                for column, value in zip(COLUMNS, row, strict=True):
                    flat[f"{kind}:{name}:{column}"] = value
        flat.update(self.timings.counts())
        return {name: value for name, value in flat.items() if value}

    def methods(self) -> list[Hits]:
        return hits_of(self.counts(), "method")

    def depths(self) -> list[Hits]:
        return hits_of(self.counts(), "depth")

    def _sum(self, column: int) -> int:
        # Every tree counts once by its method.
        return int(self.table[kernels.BY_METHOD :, column].sum())

    def _rows(self) -> Iterator[tuple[str, str, list[int]]]:
        table: list[list[int]] = self.table.tolist()
        for name, bit in TIERS.items():
            yield "tier", name, table[kernels.BY_BIT + bit]
        for name, bit in SOURCES.items():
            yield "source", name, table[kernels.BY_BIT + bit]
        for i, name in enumerate(METHODS):
            yield "method", name, table[kernels.BY_METHOD + i]
        for depth in range(1, kernels.DEPTHS):
            yield "depth", str(depth), table[kernels.BY_DEPTH + depth]
        for i, length in enumerate(kernels.MATCH_LENGTHS.tolist()):
            yield "match", str(length), table[kernels.BY_MATCH + i]
        for i, size in enumerate(kernels.SIZES.tolist()):
            yield "size", str(size), table[kernels.BY_SIZE + i]
        for tenth in range(kernels.TENTHS):
            yield "tenth", str(tenth), table[kernels.BY_TENTH + tenth]


def hits_of(counts: Mapping[str, int], kind: str) -> list[Hits]:
    """The rows of one kind (as ROWS of stats.py) that are not empty, in their order."""
    names = {name.split(":")[1] for name in counts if name.startswith(f"{kind}:")}
    known = {name: place for place, name in enumerate((*TIERS, *SOURCES))}

    def place(name: str) -> tuple[int, str]:
        return (int(name) if name.isdecimal() else known.get(name, 0), name)

    return [_hits(counts, kind, name) for name in sorted(names, key=place)]


def _hits(counts: Mapping[str, int], kind: str, name: str) -> Hits:
    steps, hits, drafted, accepted, millionths = (
        counts.get(f"{kind}:{name}:{column}", 0) for column in COLUMNS
    )
    return Hits(name, steps, hits, drafted, accepted, millionths / kernels.MILLIONTHS)
