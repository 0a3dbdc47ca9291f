"""Kernels that build a segment: tokens become codes, codes bytes, and the bytes' suffix array the codes'.

Codes are numbered by falling frequency, the boundary between documents being 0. Their byte strings are
prefix-free and in the order of the codes: the first `singles` codes take one byte, the next
256 * `doubles` two, the rest three. So suffixes that start at codes stand in the order of the codes.
"""

import numpy as np
from numba import int64, types, uint64

from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.store.kernels.segment import KEY_BITS, KEY_TOKENS, SAMPLE, slot_of
from retrieval_draft.tree import Int32Array, Int64Array, UInt8Array, UInt64Array

text_t = types.Array(types.int32, 1, "C")
counts_t = types.Array(types.int64, 1, "C")
bytes_t = types.Array(types.uint8, 1, "C")
bits_t = types.Array(types.uint64, 1, "C")
read_t = types.Array(types.int32, 1, "C", readonly=True)


@leaf(types.void(text_t, counts_t))
def count(text: Int32Array, counts: Int64Array) -> None:
    """counts[t + 1] rises by the number of times that token t, or the boundary -1, stands in the text."""
    for token in text:
        counts[token + 1] += 1


@leaf(types.void(text_t, text_t))
def encode(text: Int32Array, codes: Int32Array) -> None:
    """Put codes[t + 1] in the place of each token t."""
    for i in range(len(text)):
        text[i] = codes[text[i] + 1]


@leaf(int64(text_t, int64, int64, bytes_t, bits_t))
def spell(
    text: Int32Array, singles: int, doubles: int, spelled: UInt8Array, starts: UInt64Array
) -> int:
    """Write the codes' bytes one after the other, and a bit where one begins; returns how many bytes."""
    at = 0
    for i in range(len(text)):
        code = text[i]
        starts[at >> 6] |= uint64(1) << uint64(at & 63)
        if code < singles:
            spelled[at] = code
            at += 1
            continue
        code -= singles
        if code < doubles << 8:
            spelled[at] = singles + (code >> 8)
            spelled[at + 1] = code & 255
            at += 2
            continue
        code -= doubles << 8
        spelled[at] = singles + doubles + (code >> 16)
        spelled[at + 1] = (code >> 8) & 255
        spelled[at + 2] = code & 255
        at += 3
    return at


@leaf(int64(uint64))
def ones(bits: "np.uint64 | int") -> int:
    """How many bits are set."""
    x = uint64(bits)
    x = x - ((x >> uint64(1)) & uint64(0x5555555555555555))
    x = (x & uint64(0x3333333333333333)) + ((x >> uint64(2)) & uint64(0x3333333333333333))
    x = (x + (x >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    for width in (8, 16, 32):
        x = x + (x >> uint64(width))
    return int(x & uint64(127))


@leaf(types.void(bits_t, text_t))
def rank_words(starts: UInt64Array, before: Int32Array) -> None:
    """before[w] becomes the number of codes that begin before word w of the bits."""
    total = 0
    for w in range(len(starts)):
        before[w] = total
        total += ones(starts[w])


@leaf(int64(text_t, bits_t, text_t))
def keep_starts(order: Int32Array, starts: UInt64Array, before: Int32Array) -> int:
    """Of a suffix array of bytes keep, at its front, that of the codes; returns its length."""
    kept = 0
    for i in range(len(order)):
        at = order[i]
        word = starts[at >> 6]
        bit = uint64(at & 63)
        if (word >> bit) & uint64(1):
            below = word & ((uint64(1) << bit) - uint64(1))
            order[kept] = before[at >> 6] + ones(below)
            kept += 1
    return kept


@leaf(types.void(text_t, text_t, bits_t))
def sample_keys(codes: Int32Array, order: Int32Array, keys: UInt64Array) -> None:
    """keys[i] becomes the codes behind the first of the suffix of rank i * SAMPLE.

    Beyond the text stands 0.
    """
    for i in range(len(keys)):
        at = int64(order[i * SAMPLE])
        key = uint64(0)
        for d in range(1, KEY_TOKENS + 1):
            code = int64(codes[at + d]) if at + d < len(codes) else 0
            key = (key << uint64(KEY_BITS)) | uint64(code)
        keys[i] = key


@leaf(types.void(read_t, text_t))
def fill_slots(vocabulary: Int32Array, slots: Int32Array) -> None:
    """Make `slots`, a power of two long, the hash table from tokens to codes; see `segment.code_of`."""
    mask = len(slots) - 1
    for i in range(len(vocabulary)):
        at = slot_of(int64(vocabulary[i]))
        while slots[at & mask] != 0:
            at += 1
        slots[at & mask] = i + 1
