"""Kernels that write the Token Recycling adjacency matrix, in a fixed order."""

import numpy as np
import numpy.typing as npt
from numba import int64, njit, types

from retrieval_draft.store.kernels.ahead import ahead
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Int32Array

row_t = types.Array(types.int32, 1, "C")
read_row_t = types.Array(types.int32, 1, "C", readonly=True)
read_table_t = types.Array(types.int32, 2, "C", readonly=True)
read_bytes_t = types.Array(types.uint8, 2, "C", readonly=True)
table_t = types.Array(types.int32, 2, "C")
bytes_t = types.Array(types.uint8, 2, "C")

UNKNOWN_LOGPROB = 255
AHEAD = 4
"""Tokens between fetching a row and writing it."""


@njit(types.void(table_t, bytes_t, read_row_t, read_table_t, read_bytes_t), nogil=True, cache=True)
def replace_rows(
    successors: Int32Array,
    logprobs: npt.NDArray[np.uint8],
    keys: Int32Array,
    rows: Int32Array,
    row_logprobs: npt.NDArray[np.uint8],
) -> None:
    """Row keys[i] becomes rows[i], first to last; a key outside the matrix is passed over."""
    width = min(successors.shape[1], rows.shape[1])
    for i in range(len(keys)):
        key = keys[i]
        if 0 <= key < successors.shape[0]:
            for k in range(successors.shape[1]):
                if k < width and 0 <= rows[i, k] < successors.shape[0]:
                    successors[key, k] = rows[i, k]
                    logprobs[key, k] = row_logprobs[i, k]
                else:
                    successors[key, k] = -1
                    logprobs[key, k] = UNKNOWN_LOGPROB


@leaf(types.void(table_t, bytes_t, int64, int64))
def push_front(
    successors: Int32Array,
    logprobs: npt.NDArray[np.uint8],
    key: int,
    token: int,
) -> None:
    """`token` followed `key`: it becomes the first of the row, unless a prediction stands there."""
    width = successors.shape[1]
    if logprobs[key, 0] != UNKNOWN_LOGPROB:
        return
    at = width - 1
    for k in range(width):
        if successors[key, k] == token:
            at = k
            break
    for k in range(at, 0, -1):
        successors[key, k] = successors[key, k - 1]
        logprobs[key, k] = logprobs[key, k - 1]
    successors[key, 0] = token
    logprobs[key, 0] = UNKNOWN_LOGPROB


@njit(types.void(table_t, bytes_t, read_row_t), nogil=True, cache=True)
def push_text(successors: Int32Array, logprobs: npt.NDArray[np.uint8], text: Int32Array) -> None:
    """`push_front` for every token of a text after the one before it; ids outside are passed over."""
    vocab_size = successors.shape[0]
    for i in range(1, len(text)):
        coming = text[min(i + AHEAD, len(text) - 1)]
        ahead(successors, coming * successors.shape[1])
        ahead(logprobs, coming * logprobs.shape[1])
        if 0 <= text[i - 1] < vocab_size and 0 <= text[i] < vocab_size:
            push_front(successors, logprobs, text[i - 1], text[i])
