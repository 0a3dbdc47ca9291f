"""What drafting brought, counted per namespace since this replica started.

Everything is a sum of integers under a name, so that the counts of replicas, or of a replica's lives,
add up: `counts` gives them flat (`steps`, `tier:context:accepted`), `hits_of` reads rows from such.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.kernels import tally as kernels
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, int32s

DEPTH_ROWS = 65
DRAFT_US_KEPT = 4096
COLUMNS = ("steps", "hits", "drafted", "accepted")
SUMS = (
    *("steps", "tokens", "drafted_steps", "drafted", "accepted"),
    *("resyncs", "rejected", "evicted_sequences", "ignored_feedback"),
)
THOUSANDTHS = 1_000
EXPECTED = "expected_thousandths"
"""Probabilities are added up as integers: floats would add up differently in another order."""

Table = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hits:
    """Of verified trees: steps in which `name` drafted, of these with an acceptance; nodes likewise."""

    name: str
    steps: int
    hits: int
    drafted: int
    accepted: int


def _table(rows: int) -> Table:
    return np.zeros((rows, kernels.COLUMNS), np.int64)


@dataclass(slots=True)
class Counters:
    """Written by the step's thread under its client's lock; a torn read costs one count."""

    steps: int = 0
    tokens: int = 0
    drafted_steps: int = 0
    drafted: int = 0
    accepted: int = 0
    expected: float = 0.0
    resyncs: int = 0
    rejected: int = 0
    evicted_sequences: int = 0
    ignored_feedback: int = 0
    by_bit: Table = field(default_factory=lambda: _table(kernels.BITS))
    by_depth: Table = field(default_factory=lambda: _table(DEPTH_ROWS))
    by_match: Table = field(default_factory=lambda: _table(len(kernels.MATCH_LENGTHS)))
    by_method: dict[str, list[int]] = field(default_factory=dict)
    draft_us: deque[int] = field(default_factory=lambda: deque(maxlen=DRAFT_US_KEPT))

    def committed(self, tokens: int, steps: int) -> None:
        """So many steps gained so many tokens, the bonus tokens included."""
        self.steps += steps
        self.tokens += tokens

    def verified(
        self, tree: DraftTree, path: list[int], method: str, match_length: int = 0
    ) -> None:
        """The nodes `path` of this tree were kept, which was made at so long a match. O(nodes)."""
        n = len(tree)
        if not n:
            return
        expected = kernels.tally(
            tree.parent,
            tree.source,
            tree.probability,
            int32s(path),
            match_length,
            self.by_bit,
            self.by_depth,
            self.by_match,
        )
        self.drafted_steps += 1
        self.drafted += n
        self.accepted += len(path)
        self.expected += expected
        row = self.by_method.setdefault(method, [0] * kernels.COLUMNS)
        for column, more in enumerate((1, 1 if path else 0, n, len(path))):
            row[column] += more

    def activity(self) -> int:
        """Rises whenever anything is counted: tells cheaply whether `counts` has news."""
        return sum(getattr(self, name) for name in SUMS)

    def counts(self) -> dict[str, int]:
        """Everything that is not 0, by name: at most a few hundred integers, that only rise."""
        flat = {name: int(getattr(self, name)) for name in SUMS}
        flat[EXPECTED] = round(self.expected * THOUSANDTHS)
        for kind, name, row in self._rows():
            for column, value in zip(COLUMNS, row, strict=True):
                flat[f"{kind}:{name}:{column}"] = int(value)
        return {name: value for name, value in flat.items() if value}

    def methods(self) -> list[Hits]:
        return hits_of(self.counts(), "method")

    def depths(self) -> list[Hits]:
        return hits_of(self.counts(), "depth")

    def draft_us_quantile(self, share: float) -> int:
        """Of the newest DRAFT_US_KEPT steps; 0 before the first."""
        kept = list(self.draft_us)
        return int(np.quantile(kept, share)) if kept else 0

    def _rows(self) -> Iterator[tuple[str, str, Iterable[int]]]:
        for name, bit in TIERS.items():
            yield "tier", name, self.by_bit[bit]
        for name, bit in SOURCES.items():
            yield "source", name, self.by_bit[bit]
        for name, row in list(self.by_method.items()):
            yield "method", name, row
        for depth in range(1, len(self.by_depth)):
            yield "depth", str(depth), self.by_depth[depth]
        for length, row in zip(kernels.MATCH_LENGTHS.tolist(), self.by_match, strict=True):
            yield "match", str(length), row


def hits_of(counts: Mapping[str, int], kind: str) -> list[Hits]:
    """The rows of one kind (tier, source, method, depth, match) that are not empty, in their order."""
    names = {name.split(":")[1] for name in counts if name.startswith(f"{kind}:")}
    known = {name: place for place, name in enumerate((*TIERS, *SOURCES))}

    def place(name: str) -> tuple[int, str]:
        return (int(name) if name.isdecimal() else known.get(name, 0), name)

    return [
        Hits(name, *(counts.get(f"{kind}:{name}:{column}", 0) for column in COLUMNS))
        for name in sorted(names, key=place)
    ]
