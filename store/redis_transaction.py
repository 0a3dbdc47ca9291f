"""One transaction, also while a Cluster moves its slot."""

import threading
from collections.abc import Callable
from time import monotonic

import redis
from redis.client import Pipeline

from retrieval_draft.store.redis_clients import MOVING

MOVED_SECONDS_MAX = 5.0
MOVED_POLL_SECONDS = 0.05


def transaction(client: redis.Redis, change: Callable[[Pipeline], None], *watched: str) -> None:
    """Make a change that depends on the watched keys, all of one slot, or nothing of it.

    `change` may be called again: when a watched key was changed meanwhile, and for at most
    MOVED_SECONDS_MAX while the slot is on its way to another node. Raises redis-py's errors.
    """
    deadline = monotonic() + MOVED_SECONDS_MAX
    while True:
        try:
            client.transaction(change, *watched)
            return
        except MOVING:
            if monotonic() > deadline:
                raise
            threading.Event().wait(MOVED_POLL_SECONDS)
