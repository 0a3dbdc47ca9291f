"""The few shapes that static steps have: a step takes the smallest bucket that holds it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

NODE_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64)
BATCH_STEP = 8
CONTEXT_TOKENS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ROWS_MAX = 2048
"""Of a step. Larger ones are bound by arithmetic: filling them up costs more than launches do."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`batch` sequences with `nodes` rows each, the root's included; attention over `length` entries."""

    batch: int
    nodes: int
    length: int


class Buckets:
    """Of a runner: trees of up to `nodes_max` nodes in `slots` slots of `length` entries."""

    def __init__(self, slots: int, nodes_max: int, length: int) -> None:
        self.nodes = tuple(n + 1 for n in NODE_COUNTS if n <= nodes_max)
        if NODE_COUNTS[-1] > nodes_max > 0 and self.nodes[-1] != nodes_max + 1:
            self.nodes += (nodes_max + 1,)
        few = (b for b in (1, 2, 4) if b < slots)
        self.batches = (*few, *range(BATCH_STEP, slots, BATCH_STEP), slots)
        self.lengths = (*(n for n in CONTEXT_TOKENS if n < length), length)

    def of(self, batch: int, nodes: int, length: int) -> Bucket | None:
        """The smallest that holds so many sequences, rows of each, and entries; None if none does."""
        found = [
            _least(sizes, wanted)
            for sizes, wanted in (
                (self.batches, batch),
                (self.nodes, nodes),
                (self.lengths, length),
            )
        ]
        if None in found:
            return None
        bucket = Bucket(*(size for size in found if size is not None))
        return bucket if bucket.batch * bucket.nodes <= ROWS_MAX else None


def _least(sizes: Sequence[int], wanted: int) -> int | None:
    at = bisect_left(sizes, wanted)
    return sizes[at] if at < len(sizes) else None
