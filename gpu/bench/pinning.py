"""Threads that stay on their cores, so that a measurement does not wander."""

import os

from retrieval_draft.errors import FailedPrecondition, InvalidInput


def pin_threads(threads: int) -> None:
    """Keep this process, and the threads that it starts from here on, to its first `threads` cores.

    Call it before torch starts its threads; child processes inherit it. Raises InvalidInput for more
    than there are, FailedPrecondition where the system knows no affinity.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise FailedPrecondition("this system cannot pin threads to cores")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise InvalidInput("threads", threads, f"1 to {len(cores)}, the cores there are")
    os.sched_setaffinity(0, cores[:threads])
