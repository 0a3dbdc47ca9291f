"""A learned tier as plain arrays: copied out at a journal position, checked, and put back.

The chains of the ring are not part of it: they follow from its tokens, and what does not exist cannot be
damaged. Everything else that decides what later records do is, so that a tier that was put back goes on
exactly like the one it was taken from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import Corrupt, FailedPrecondition
from retrieval_draft.store.kernels import ngrams, stand, windows
from retrieval_draft.store.kernels import ring as ring_kernels
from retrieval_draft.store.learned import LearnedTier
from retrieval_draft.store.ngrams import put_slots, slots_count, slots_in
from retrieval_draft.store.ring import REBASE_AT
from retrieval_draft.store.stand import SLOTS_MIN, Grams

Array = npt.NDArray[np.generic]
DTYPES = ("<i4", "<u8", "|u1", "<u2")
STATE_MAX = ((ngrams.REFERENCE_MAX + 1) << ngrams.REFERENCE_SHIFT) - 1
"""Of a slot's state word: total, newest follower, references."""


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """What an array is: numpy's name of its type, little-endian, and its lengths."""

    dtype: str
    lengths: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of the whole array. Raises Corrupt for what is no shape of an array of numbers."""
        if self.dtype not in DTYPES or min(self.lengths, default=0) < 0:
            raise Corrupt(f"an array of type {self.dtype!r} and lengths {self.lengths}")
        return int(self.dtype[2:]) * math.prod(self.lengths)


class Scalars(msgspec.Struct, frozen=True, array_like=True):
    """The numbers beside the arrays."""

    vocab_size: int
    tokens_learned: int
    low: int
    stop: int
    rows_observed: int
    unlooked: int
    open_text: tuple[str, int, int] | None


@dataclass(frozen=True, slots=True)
class LearnedImage:
    """Copies of a tier's arrays: nobody writes them."""

    scalars: Scalars
    arrays: Mapping[str, Array]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of every array, by name."""
        return {name: shape_of(array) for name, array in self.arrays.items()}


def shape_of(array: Array) -> Shape:
    """What the array is."""
    return Shape(array.dtype.newbyteorder("<").str, array.shape)


def image_of(tier: LearnedTier) -> LearnedImage:
    """Copy the tier, which nobody may write meanwhile. O(size); tables that are still zero cost little."""
    ring, recycling, table = tier.ring, tier.recycling, tier.stand
    arrays: dict[str, Array] = {
        "tokens": ring.read(ring.low, ring.stop),
        "counts": slots_in(ring.table),
        "successors": recycling.successors.copy(),
        "logprobs": recycling.logprobs.copy(),
    }
    arrays |= {f"stand_{name}": a.copy() for name, a in table.grams._asdict().items()}
    scalars = Scalars(
        tier.vocab_size,
        tier.tokens_learned,
        ring.low,
        ring.stop,
        table.rows_observed,
        table.unlooked,
        tier.open_text,
    )
    return LearnedImage(scalars, arrays)


def check_fits(tier: LearnedTier, scalars: Scalars, shapes: Mapping[str, Shape]) -> None:
    """Raises FailedPrecondition unless arrays of these shapes belong into this tier. Reads none."""
    if scalars.vocab_size != tier.vocab_size:
        raise FailedPrecondition(
            f"it was made for a vocabulary of {scalars.vocab_size} tokens, "
            f"the namespace has {tier.vocab_size}"
        )
    room = tier.ring_tokens_max
    if not 0 <= scalars.low <= scalars.stop <= scalars.low + room < 2 * REBASE_AT:
        raise FailedPrecondition(
            f"its ring holds the positions {scalars.low} to {scalars.stop}, "
            f"the namespace's has room for {room}"
        )
    slots = shapes["stand_keys"].lengths[0] if "stand_keys" in shapes else 0
    if not SLOTS_MIN <= slots <= tier.stand.slots_max or slots & (slots - 1):
        raise FailedPrecondition(
            f"its table of probabilities has {slots} slots, the namespace's up to {tier.stand.slots_max}"
        )
    expected = {
        "tokens": Shape("<i4", (scalars.stop - scalars.low,)),
        "counts": Shape("<i4", (slots_count(tier.ring.table),)),
        "successors": shape_of(tier.recycling.successors),
        "logprobs": shape_of(tier.recycling.logprobs),
        "stand_keys": Shape("<u8", (slots,)),
        "stand_visits": Shape("|u1", (slots,)),
        "stand_credit": Shape("|u1", (slots,)),
        "stand_tokens": Shape("<i4", (slots, stand.WIDTH)),
        "stand_shares": Shape("<u2", (slots, stand.WIDTH)),
    }
    if shapes != expected:
        wrong = sorted(n for n in expected.keys() | shapes if expected.get(n) != shapes.get(n))
        raise FailedPrecondition(
            f"its arrays are of another size than the namespace's ({', '.join(wrong)}): "
            "learned_bytes_max differs"
        )


def restore(tier: LearnedTier, image: LearnedImage) -> None:
    """Make the tier what it was when the image was taken; drafting may read it meanwhile.

    Raises FailedPrecondition if it does not fit and Corrupt if kernels could go astray on it, whatever
    wrote it; the tier is untouched then. O(size).
    """
    scalars, arrays = image.scalars, image.arrays
    check_fits(tier, scalars, image.shapes)
    _check_content(scalars.vocab_size, scalars, arrays)
    # Positions count from 0 until something was overwritten: with the widest ring.
    tier.widen(tier.ring_tokens_max if scalars.low else scalars.stop)
    ring, recycling, table = tier.ring, tier.recycling, tier.stand
    ring.low = ring.stop = scalars.low
    places = np.arange(scalars.low, scalars.stop) & (ring.capacity - 1)
    ring.tokens[places] = arrays["tokens"]
    ring.head[:] = 0
    ring.prev[:] = 0
    ring_kernels.insert(ring.tokens, ring.head, ring.prev, scalars.low, scalars.low, scalars.stop)
    put_slots(ring.table, arrays["counts"].view(np.int32))
    ring.stop = scalars.stop
    recycling.successors[:] = arrays["successors"]
    recycling.logprobs[:] = arrays["logprobs"]
    table.grams = Grams(
        arrays["stand_keys"].astype(np.uint64),
        arrays["stand_visits"].astype(np.uint8),
        arrays["stand_credit"].astype(np.uint8),
        arrays["stand_tokens"].astype(np.int32),
        arrays["stand_shares"].astype(np.uint16),
    )
    table.rows_observed, table.unlooked = scalars.rows_observed, scalars.unlooked
    tier.open_text = scalars.open_text
    tier.tokens_learned = scalars.tokens_learned


def slots_of(table: npt.NDArray[np.int32]) -> list[tuple[npt.NDArray[np.int32], int]]:
    """The wide and the narrow slots of what `slots_in` gives, one a row; how many followers each has."""
    buckets = len(table) // windows.UNIT
    wide, narrow = table[: buckets * windows.WIDE_WORDS], table[buckets * windows.WIDE_WORDS :]
    return [
        (wide.reshape(-1, windows.WIDE_WORDS), windows.WIDE_FOLLOWERS),
        (narrow.reshape(-1, windows.NARROW_WORDS), windows.NARROW_FOLLOWERS),
    ]


def _check_content(vocab_size: int, scalars: Scalars, arrays: Mapping[str, Array]) -> None:
    numbers = (scalars.tokens_learned, scalars.rows_observed, scalars.unlooked)
    if min(numbers) < 0:
        raise Corrupt(f"it counts {min(numbers)}")
    for name in ("tokens", "successors", "stand_tokens"):
        _check_range(name, arrays[name], -1, vocab_size - 1)
    _check_range("stand_visits", arrays["stand_visits"], 0, stand.VISITS_MAX)
    _check_range("stand_credit", arrays["stand_credit"], 0, stand.CREDIT_MAX)
    for slots, followers in slots_of(arrays["counts"].view(np.int32)):
        _check_range("counts' states", slots[:, 1], 0, STATE_MAX)
        _check_range("counts' followers", slots[:, 2 : 2 + followers], -1, vocab_size - 1)
        _check_range("counts", slots[:, 2 + followers :], 0, ngrams.COUNT_MAX)


def _check_range(what: str, array: Array, low: int, high: int) -> None:
    if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
        raise Corrupt(f"{what} from {array.min()} to {array.max()}, within {low} to {high} only")
