"""The kernel that turns copied places into those of a root."""

from numba import int64, types

from retrieval_draft.drafting.kernels.evidence import GAP, LENGTH, NEXT, POSITION
from retrieval_draft.store.kernels.leaf import leaf
from retrieval_draft.tree import Int32Array

row_t = types.Array(types.int32, 1, "C")
table_t = types.Array(types.int32, 2, "C")


@leaf(types.void(table_t, row_t, int64, int64, table_t))
def stand(
    windows: Int32Array, lengths: Int32Array, count: int, first: int, places: Int32Array
) -> None:
    """places[first : first + count] become those of the windows' rows, longest agreement first, stable.

    A position is an index into the flattened windows.
    """
    width = windows.shape[1]
    for i in range(count):
        at = first + i
        while at > first and places[at - 1, LENGTH] < lengths[i]:
            places[at, POSITION] = places[at - 1, POSITION]
            places[at, LENGTH] = places[at - 1, LENGTH]
            places[at, NEXT] = places[at - 1, NEXT]
            at -= 1
        places[at, POSITION] = i * width
        places[at, LENGTH] = lengths[i]
        places[at, NEXT] = windows[i, 0]
    for at in range(first, first + count):
        places[at, GAP] = 0
