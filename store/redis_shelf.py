"""Manifests of snapshots in Redis: every change is a transaction in the namespace's slot.

Under names of the namespace's incarnation: `snapshots` (list, newest first), `lock` (token, expires),
`token` (the last one given) and `noted` (set of digests).
"""

from collections.abc import Callable
from typing import cast

import redis
from redis.client import Pipeline

from retrieval_draft.errors import NotFound
from retrieval_draft.store.journal_position import BEGINNING
from retrieval_draft.store.keys import Kind, NamespaceKey, redis_key
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.records import decode_namespace
from retrieval_draft.store.redis_transaction import transaction
from retrieval_draft.store.redis_writer import MOVED_FIELD, journal_key
from retrieval_draft.store.snapshot_store import Fenced

KINDS: tuple[Kind, ...] = ("snapshots", "lock", "token", "noted")


def shelf_keys(journal: Journal) -> list[str]:
    """All keys of it, to be deleted with the namespace."""
    return [redis_key(journal.key, kind, journal.incarnation) for kind in KINDS]


class RedisShelf:
    """See Shelf. Raises redis-py's errors as they are."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def manifests(self, journal: Journal) -> list[bytes]:
        """See Shelf."""
        return cast(list[bytes], self._client.lrange(shelf_keys(journal)[0], 0, -1))

    def exists(self, key: NamespaceKey) -> bool:
        """See Shelf."""
        return bool(self._client.exists(redis_key(key, "spec")))

    def lock(self, journal: Journal, seconds: float) -> int | None:
        """See Shelf."""
        _, lock, last, _ = shelf_keys(journal)

        token: int | None = None

        def take(pipeline: Pipeline) -> None:
            nonlocal token
            is_held = pipeline.exists(lock)
            token = None if is_held else int(cast(bytes | None, pipeline.get(last)) or 0) + 1
            pipeline.multi()
            if token is not None:
                pipeline.set(last, token)
                pipeline.set(lock, token, px=int(seconds * 1000))

        self._change(journal, take, last)
        return token

    def unlock(self, journal: Journal, token: int) -> None:
        """See Shelf."""
        lock = shelf_keys(journal)[1]

        def let(pipeline: Pipeline) -> None:
            is_mine = self._holds(pipeline, journal, token)
            pipeline.multi()
            if is_mine:
                pipeline.unlink(lock)

        transaction(self._client, let, lock)

    def note(self, journal: Journal, token: int, digests: list[str], seconds: float) -> None:
        """See Shelf."""
        _, lock, _, noted = shelf_keys(journal)

        def note(pipeline: Pipeline) -> None:
            self._must_hold(pipeline, journal, token)
            pipeline.multi()
            if digests:
                pipeline.sadd(noted, *digests)
            pipeline.pexpire(lock, int(seconds * 1000))

        self._change(journal, note)

    def noted(self, journal: Journal) -> set[str]:
        """See Shelf."""
        found = cast(set[bytes], self._client.smembers(shelf_keys(journal)[3]))
        return {digest.decode() for digest in found}

    def unnote(self, journal: Journal, digests: list[str]) -> None:
        """See Shelf."""
        self._client.srem(shelf_keys(journal)[3], *digests)

    def switch(
        self, journal: Journal, token: int, manifests: list[bytes], trim_before: str
    ) -> None:
        """See Shelf."""
        snapshots = shelf_keys(journal)[0]

        def switch(pipeline: Pipeline) -> None:
            self._must_hold(pipeline, journal, token)
            pipeline.multi()
            pipeline.unlink(snapshots)
            pipeline.rpush(snapshots, *manifests)
            _trim(pipeline, journal, trim_before)

        self._change(journal, switch)

    def trim(self, journal: Journal, before: str) -> None:
        """See Shelf."""

        def trim(pipeline: Pipeline) -> None:
            pipeline.multi()
            _trim(pipeline, journal, before)

        transaction(self._client, trim, journal_key(journal))

    def _change(self, journal: Journal, change: Callable[[Pipeline], None], *watched: str) -> None:
        """One transaction, if the namespace is still this one."""
        spec, lock = redis_key(journal.key, "spec"), shelf_keys(journal)[1]

        def checked(pipeline: Pipeline) -> None:
            data = cast(bytes | None, pipeline.get(spec))
            if data is None or decode_namespace(data).incarnation != journal.incarnation:
                raise NotFound(f"there is no namespace {journal.key.namespace}")
            change(pipeline)

        transaction(self._client, checked, spec, lock, *watched)

    def _holds(self, pipeline: Pipeline, journal: Journal, token: int) -> bool:
        return cast(bytes | None, pipeline.get(shelf_keys(journal)[1])) == b"%d" % token

    def _must_hold(self, pipeline: Pipeline, journal: Journal, token: int) -> None:
        if not self._holds(pipeline, journal, token):
            raise Fenced(f"another replica saves namespace {journal.key.namespace} now")


def _trim(pipeline: Pipeline, journal: Journal, before: str) -> None:
    """Whoever reads on over what is gone reads the entry that says so, in the same answer."""
    name = journal_key(journal)
    if before != BEGINNING:
        pipeline.xtrim(name, minid=before, approximate=False)
    pipeline.xadd(name, {MOVED_FIELD: b""}, nomkstream=True)
