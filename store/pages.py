"""Large zeroed arrays: memory comes as it is touched, in huge pages where the system has them."""

import math
import mmap

import numpy as np
import numpy.typing as npt

HUGE_FROM_BYTES = 4 << 20
"""A smaller array fits few huge pages and would waste the rest of one."""


def zeroed(words: int) -> npt.NDArray[np.int32]:
    """int32[words] of zeros on a cache line's boundary.

    A table that is written here and there faults once for every page: in pages of 4 KiB that cost more
    than the writing (learning a token 4.7 against 2.3 us).
    """
    nbytes = 4 * words
    if nbytes < HUGE_FROM_BYTES:
        line = 64 // 4
        room = np.zeros(words + line, np.int32)
        first = -room.ctypes.data // 4 % line
        return room[first : first + words]
    # Private: shared memory, mmap's default, comes in pages of 4 KiB whatever is advised.
    memory = mmap.mmap(
        -1,
        math.ceil(nbytes / mmap.PAGESIZE) * mmap.PAGESIZE,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
    )
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.int32, words)
