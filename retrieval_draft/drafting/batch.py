"""A batch as `mix` takes it: every sequence of a step at once, in one call of each kernel.

What a sequence costs beside its kernels is most of a step for many of them; so they are described by small
structs here, and kernels read rows of numbers and addresses (kernels/contexts, kernels/judging).
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from retrieval_draft.drafting.forest import Forest
from retrieval_draft.drafting.root import Root
from retrieval_draft.store.recycling import Recycling
from retrieval_draft.store.ring import TokenRing
from retrieval_draft.store.stand import Grams
from retrieval_draft.tree import Int32Array, Int64Array

NO_TOKENS: Int32Array = np.empty(0, np.int32)


class Learned(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a namespace's models have produced, as `mix` reads it."""

    ring: TokenRing
    recycling: Recycling
    expected: Grams


class Following(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A sequence goes on with `tokens`, for which its context has room.

    They teach from index `teaching_from` on.
    """

    context: TokenRing
    root: Root
    kind: int
    """Its temperature class."""
    tokens: Int32Array
    teaching_from: int


class Growing(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A sequence is to have a tree of at most so many nodes."""

    context: TokenRing
    root: Root
    kind: int
    nodes_max: int
    depth_max: int
    end_tokens: Int32Array
    neighbours: bool = False
    """What stands at the root's corpus places are neighbours, not corpora."""


class Judging(msgspec.Struct, frozen=True, eq=False, gc=False):
    """`tokens` came where tree `row` of a forest stood. If it was verified, `accepted` of its nodes were
    kept; -1 = all that agree."""

    forest: Forest
    row: int
    root: Root
    tokens: Int32Array
    verified: bool = False
    accepted: int = -1


def following_rows(batch: Sequence[Following]) -> tuple[Int64Array, Int32Array]:
    """The rows, and all tokens one after another."""
    rows: list[tuple[int, ...]] = []
    at = 0
    for one in batch:
        ring, end = one.context, at + len(one.tokens)
        rows.append(
            (*ring.addresses, *one.root.addresses, ring.low, ring.stop, one.kind, at, end, one.teaching_from)
        )  # fmt: skip
        at = end
    return np.array(rows, np.int64), joined([one.tokens for one in batch])


def growing_rows(batch: Sequence[Growing], least: int) -> tuple[Int64Array, Int32Array]:
    """The rows, each for `least` nodes or more, and all end tokens one after another."""
    rows: list[tuple[int, ...]] = []
    ends: list[int] = []
    for one in batch:
        ring, at = one.context, len(ends)
        if len(one.end_tokens):
            ends += one.end_tokens.tolist()
        rows.append(
            (
                *ring.addresses, *one.root.addresses, ring.low, ring.stop, one.kind,
                max(least, one.nodes_max), one.depth_max, at, len(ends),
            )
        )  # fmt: skip
    return np.array(rows, np.int64), np.array(ends, np.int32) if ends else NO_TOKENS


def judging_rows(batch: Sequence[Judging]) -> tuple[Int64Array, Int32Array]:
    """The rows, and all tokens one after another."""
    rows: list[tuple[int, ...]] = []
    at = 0
    for one in batch:
        end = at + len(one.tokens)
        _, places, segments, *_ = one.root.addresses
        rows.append(
            (*one.forest.address(one.row), at, end, one.accepted, one.verified, places, segments)
        )
        at = end
    return np.array(rows, np.int64), joined([one.tokens for one in batch])


def joined(parts: list[Int32Array]) -> Int32Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
