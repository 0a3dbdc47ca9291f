"""STAND's table (Song et al., EMNLP 2025, arXiv 2506.04708): what the target expects after 1- to 4-grams.

Every n-gram keeps the ten likeliest next tokens with the running mean of their probabilities over its
visits. Visits count up to 64, so that the mean follows drift. The table doubles as it fills, up to its
bound; from then on n-grams that were not visited again give way. All of it depends on the observations
alone, in integers: equal records make equal bytes.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrieval_draft.store.kernels import stand as kernels
from retrieval_draft.tree import Int32Array

SLOTS_MIN = 1 << 10
SLOT_BYTES = 8 + 1 + 1 + kernels.WIDTH * (4 + 2)
RANK_PROBABILITY = (0.6, 0.15, 0.07, 0.04, 0.03, 0.02, 0.015, 0.01, 0.008, 0.006)
"""Assumed of a row that came without log-probabilities."""


class Grams(NamedTuple):
    """The table's arrays, one slot an n-gram: keys uint64[n], visits and credit uint8[n], tokens int32
    and shares uint16 (65535 = 1) [n, 10], most probable first, -1 where there are no more."""

    keys: kernels.UInt64Array
    visits: kernels.UInt8Array
    credit: kernels.UInt8Array
    tokens: Int32Array
    shares: kernels.UInt16Array

    @classmethod
    def empty(cls, slots: int) -> "Grams":
        """No n-gram yet. `slots` is a power of two."""
        return cls(
            np.zeros(slots, np.uint64),
            np.zeros(slots, np.uint8),
            np.zeros(slots, np.uint8),
            np.full((slots, kernels.WIDTH), -1, np.int32),
            np.zeros((slots, kernels.WIDTH), np.uint16),
        )


NO_GRAMS = Grams.empty(1)


class Stand:
    """One thread observes; others may draft from `grams` beside it without a lock.

    A growing table is replaced as a whole: take `grams` once for a draft.
    """

    def __init__(self, bytes_max: int) -> None:
        slots = max(SLOTS_MIN, bytes_max // SLOT_BYTES)
        self.slots_max = 1 << (slots.bit_length() - 1)
        self.grams = Grams.empty(SLOTS_MIN)
        self.rows_observed = 0
        self.unlooked = 0

    @property
    def expected(self) -> Grams:
        """The table, if the target's predictions have ever been observed; else an empty one."""
        return self.grams if self.rows_observed else NO_GRAMS

    @property
    def nbytes(self) -> int:
        """Now; at most `nbytes_max`."""
        return SLOT_BYTES * len(self.grams.keys)

    @property
    def nbytes_max(self) -> int:
        return SLOT_BYTES * self.slots_max

    def observe_text(
        self,
        text: Int32Array,
        first: int,
        at: Int32Array,
        rows: Int32Array,
        packed: npt.NDArray[np.uint8],
    ) -> None:
        """text[first:] was committed; row i (int32[r, 10], uint8[r, 10]) is what followed text[at[i]].

        Committed tokens without a row count as observed with probability 1. O(tokens).
        """
        self.rows_observed += len(rows)
        row_of = np.full(len(text), -1, np.int32)
        shares = NO_SHARES
        if len(rows):
            row_of[at] = np.arange(len(at), dtype=np.int32)
            shares = shares_of(rows, packed)
        self.unlooked += len(text) - first
        kernels.observe_text(*self.grams, text, first, row_of, rows, shares)
        self._grow()

    def observe_rows(
        self, contexts: Int32Array, rows: Int32Array, packed: npt.NDArray[np.uint8]
    ) -> None:
        """Row i is what followed contexts[i] (int32[r, 4], -1 in front where it is shorter). O(rows)."""
        self.rows_observed += len(rows)
        if len(rows):
            self.unlooked += len(rows)
            kernels.observe_rows(*self.grams, contexts, rows, shares_of(rows, packed))
            self._grow()

    def used(self) -> int:
        """How many n-grams are kept. O(slots)."""
        return int(np.count_nonzero(self.grams.keys))

    def digest(self) -> bytes:
        """Equal for equal tables. O(size)."""
        h = hashlib.blake2b(digest_size=16)
        for array in self.grams:
            h.update(array.data.cast("B"))
        return h.digest()

    def _grow(self) -> None:
        """Double the slots while more than half of them are taken; looked at when many more could be."""
        if self.unlooked * kernels.ORDER_MAX < len(self.grams.keys) // 16:
            return
        self.unlooked = 0
        while len(self.grams.keys) < self.slots_max and 2 * self.used() > len(self.grams.keys):
            larger = Grams.empty(2 * len(self.grams.keys))
            kernels.move(*self.grams, *larger)
            self.grams = larger


def _share_of_packed() -> npt.NDArray[np.uint16]:
    return np.array(
        [round(math.exp(-steps / 16) * kernels.ONE) for steps in range(255)] + [0], np.uint16
    )


SHARE_OF_PACKED = _share_of_packed()
NO_SHARES = np.empty((0, kernels.WIDTH), np.uint16)
SHARE_OF_RANK = np.array([round(p * kernels.ONE) for p in RANK_PROBABILITY], np.uint16)


def shares_of(rows: Int32Array, packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """uint16[r, 10] probabilities of uint8[r, 10] log-probabilities (1/16 nat); 255 goes by its rank."""
    ranks = np.broadcast_to(SHARE_OF_RANK, rows.shape)
    shares = np.where(packed == 255, ranks, SHARE_OF_PACKED[packed])
    return np.ascontiguousarray(shares, np.uint16)
