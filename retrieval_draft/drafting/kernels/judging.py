"""What came of a batch's trees: the path map is taught, and what verification kept is counted."""

import numpy as np
from numba import int64, njit, types

from retrieval_draft.drafting.kernels import growth, paths, tally
from retrieval_draft.drafting.kernels.bins import SCOPES
from retrieval_draft.drafting.kernels.contexts import (
    ACCEPTED,
    END,
    FIRST,
    KIND,
    PLACES,
    PLANE,
    SEGMENTS,
    SHAPE,
    SIZE,
    STRIDE,
    VERIFIED,
    rows_t,
)
from retrieval_draft.drafting.kernels.evidence import PLACE_COLUMNS, PLACES_MAX
from retrieval_draft.drafting.kernels.mixing import float_cube_t
from retrieval_draft.store.kernels.address import row_at, table_at
from retrieval_draft.tree import Float32Array, Int32Array, Int64Array

WORD_BYTES = 4

numbers_t = types.Array(types.int64, 1, "C")


@njit(
    types.void(
        rows_t, growth.read_row_t, growth.path_worth_t, float_cube_t, int64,
        tally.counts_t, numbers_t,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def judge(
    rows: Int64Array,
    tokens: Int32Array,
    path_worth: Float32Array,
    path_scale: Float32Array,
    method: int,
    counts: Int64Array,
    kept: Int64Array,
) -> None:
    """Teach the path map by the trees of `rows` (`contexts`), and count those that were verified (`tally`).

    kept[i] becomes how many nodes were kept; -1, and nothing is counted, if fewer agree than were
    accepted, or if the tree was not verified. O(nodes + committed).
    """
    room = 0
    for i in range(len(rows)):
        room = max(room, rows[i, SIZE])
    is_kept, is_unknown = np.empty(room, np.bool_), np.empty(room, np.bool_)
    surplus = np.empty(paths.DEPTHS, np.float64)
    path, depth = np.empty(room, np.int32), np.empty(room, np.int32)
    for i in range(len(rows)):
        kept[i] = -1
        size, kind, shape = rows[i, SIZE], rows[i, KIND], rows[i, SHAPE]
        if size == 0:
            # There may be no address either.
            if rows[i, VERIFIED] and rows[i, ACCEPTED] <= 0:
                kept[i] = 0
            continue
        first = rows[i, PLANE]
        plane = rows[i, STRIDE] * WORD_BYTES
        token = row_at(first + growth.TOKEN * plane, size)
        parent = row_at(first + growth.PARENT * plane, size)
        probability = row_at(first + growth.PROBABILITY * plane, size).view(np.float32)
        committed = tokens[rows[i, FIRST] : rows[i, END]]
        paths.teach_within(
            token, parent, probability, row_at(first + growth.PATH_BIN * plane, size), committed,
            path_worth[kind, shape], path_scale[kind, shape], is_kept, is_unknown, surplus,
        )  # fmt: skip
        if rows[i, VERIFIED]:
            kept[i] = tally.tally_within(
                token, parent, row_at(first + growth.SOURCE * plane, size).view(np.uint32),
                probability, row_at(first + growth.KEEP * plane, size), committed,
                rows[i, ACCEPTED], table_at(rows[i, PLACES], PLACES_MAX, PLACE_COLUMNS),
                row_at(rows[i, SEGMENTS], SCOPES + 1)[SCOPES], method, counts, path, depth,
            )  # fmt: skip
