"""What drafting brought, counted per namespace since this replica started."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from retrieval_draft.drafting.kernels import tally as kernels
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, int32s

DEPTH_ROWS = 65
DRAFT_US_KEPT = 4096

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
    by_method: dict[str, list[int]] = field(default_factory=dict)
    draft_us: deque[int] = field(default_factory=lambda: deque(maxlen=DRAFT_US_KEPT))

    def committed(self, tokens: int, steps: int) -> None:
        """So many steps gained so many tokens, the bonus tokens included."""
        self.steps += steps
        self.tokens += tokens

    def verified(self, tree: DraftTree, path: list[int], method: str) -> None:
        """The nodes `path` of this tree were kept. O(nodes)."""
        n = len(tree)
        if not n:
            return
        expected = kernels.tally(
            tree.parent, tree.source, tree.probability, int32s(path), self.by_bit, self.by_depth
        )
        self.drafted_steps += 1
        self.drafted += n
        self.accepted += len(path)
        self.expected += expected
        row = self.by_method.setdefault(method, [0] * kernels.COLUMNS)
        for column, more in enumerate((1, 1 if path else 0, n, len(path))):
            row[column] += more

    def methods(self) -> list[Hits]:
        return [Hits(name, *row) for name, row in sorted(self.by_method.items())]

    def tiers(self) -> list[Hits]:
        return [Hits(name, *map(int, self.by_bit[bit])) for name, bit in TIERS.items()]

    def sources(self) -> list[Hits]:
        rows = ((name, self.by_bit[bit]) for name, bit in SOURCES.items())
        return [Hits(name, *map(int, row)) for name, row in rows if row.any()]

    def depths(self) -> list[Hits]:
        rows = enumerate(self.by_depth[1:], start=1)
        return [Hits(str(depth), *map(int, row)) for depth, row in rows if row.any()]

    def draft_us_quantile(self, share: float) -> int:
        """Of the newest DRAFT_US_KEPT steps; 0 before the first."""
        kept = list(self.draft_us)
        return int(np.quantile(kept, share)) if kept else 0
