"""How much the text itself repeats: a property of a file that no method can change.

The agreement before a token is the longest run of last tokens that stood before in the same sequence
(prompt and output so far) or in an earlier output: what a suffix match would find there. So acceptance
by match length means the same for every method.
"""

import numpy as np
import numpy.typing as npt

from retrieval_draft.replay.sequences import Recorded
from retrieval_draft.tree import Int32Array

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Agreements are told apart at these lengths: 5 counts as 4, 20 as 16."""

UInt64Array = npt.NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)


def agreements(sequences: list[Recorded]) -> Int32Array:
    """int32[output tokens of all]: the agreement before each, 0 or one of LENGTHS. O(tokens log tokens)."""
    total = sum(len(sequence.output) for sequence in sequences)
    longest = np.zeros(total, np.int32)
    for length in LENGTHS:
        found = _in_context(sequences, length) | _in_earlier_outputs(sequences, length)
        longest[found] = length
    return longest


def _hashes(tokens: Int32Array, length: int) -> UInt64Array:
    """uint64[n - length + 1]: a hash of every run of `length` tokens, by where it begins."""
    n = len(tokens) - length + 1
    value = np.zeros(max(n, 0), np.uint64)
    if n > 0:
        ids = tokens.astype(np.uint64) + np.uint64(1)
        for i in range(length):
            value = (value ^ ids[i : i + n]) * _BASE
            value ^= value >> np.uint64(29)
    return value


def _in_context(sequences: list[Recorded], length: int) -> npt.NDArray[np.bool_]:
    """Whether the run that ends before each output token began earlier in its sequence."""
    parts = []
    for sequence in sequences:
        hashes = _hashes(np.concatenate([sequence.prompt, sequence.output]), length)
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        seen = first[which] < np.arange(len(hashes))
        parts.append(_before_outputs(seen, sequence, length))
    return np.concatenate(parts)


def _in_earlier_outputs(sequences: list[Recorded], length: int) -> npt.NDArray[np.bool_]:
    """Whether the run that ends before each output token stands in an earlier sequence's output."""
    outputs = [_hashes(sequence.output, length) for sequence in sequences]
    runs = [_hashes(np.concatenate([s.prompt, s.output]), length) for s in sequences]
    known, first = np.unique(np.concatenate(outputs), return_index=True)
    owner = np.repeat(np.arange(len(outputs)), [len(part) for part in outputs])
    parts = []
    for i, (sequence, hashes) in enumerate(zip(sequences, runs, strict=True)):
        seen = np.zeros(len(hashes), np.bool_)
        if len(known):
            place = np.minimum(known.searchsorted(hashes), len(known) - 1)
            seen = (known[place] == hashes) & (owner[first[place]] < i)
        parts.append(_before_outputs(seen, sequence, length))
    return np.concatenate(parts)


def _before_outputs(
    seen: npt.NDArray[np.bool_], sequence: Recorded, length: int
) -> npt.NDArray[np.bool_]:
    """Of runs by their beginning, the flag of the one that ends right before each output token."""
    begins = len(sequence.prompt) + np.arange(len(sequence.output)) - length
    found = np.zeros(len(begins), np.bool_)
    there = begins >= 0
    found[there] = seen[begins[there]]
    return found
