"""Blocks in your own Redis, up to a bound: a block is chunks under keys of its namespace's slot.

The hash `held` has each block's size; an entry begins with `?` until the last chunk is stored, so that
what a dead writer left can be found and removed.
"""

from collections.abc import Iterable, Iterator
from typing import cast

import redis
from redis.client import Pipeline

from retrieval_draft.errors import NotFound, ResourceExhausted
from retrieval_draft.store.blocks import REDIS_BYTES_MAX
from retrieval_draft.store.connection import translated_errors
from retrieval_draft.store.keys import NamespaceKey, redis_key
from retrieval_draft.store.redis_transaction import transaction

CHUNK_BYTES_MAX = 8 * 2**20
_UNFINISHED = b"?"


class RedisBlobs:
    """See BlobStore. Raises NotFound for a namespace that does not exist."""

    def __init__(self, client: redis.Redis, url: str, bytes_max: int = REDIS_BYTES_MAX) -> None:
        self._client, self._url, self._bytes_max = client, url, bytes_max

    def write(self, key: NamespaceKey, name: str, pieces: Iterable[bytes], size: int) -> None:
        """See BlobStore."""
        held = redis_key(key, "held")
        self._note(key, name, _UNFINISHED + b"%d" % size, size)
        written = 0
        for number, chunk in enumerate(_chunks(pieces)):
            with translated_errors(self._url):
                self._client.set(_chunk_key(key, name, number), chunk)
            written += len(chunk)
        if written != size:
            self.remove(key, [name])
            raise ValueError(f"{written} bytes came instead of {size}")
        try:
            self._note(key, name, b"%d" % size, size)
        except NotFound:  # deleted meanwhile: what was written must not stay
            with translated_errors(self._url):
                self._client.unlink(held, *_chunk_keys(key, name, size))
            raise

    def read(self, key: NamespaceKey, name: str) -> Iterator[bytes]:
        """See BlobStore."""
        with translated_errors(self._url):
            entry = cast(bytes | None, self._client.hget(redis_key(key, "held"), name))
        if entry is None or entry.startswith(_UNFINISHED):
            raise _missing(key, name)
        for chunk_key in _chunk_keys(key, name, int(entry)):
            with translated_errors(self._url):
                chunk = cast(bytes | None, self._client.get(chunk_key))
            if chunk is None:
                raise _missing(key, name)
            yield chunk

    def names(self, key: NamespaceKey) -> set[str]:
        """See BlobStore."""
        sizes = self._sizes(key)
        return {name.decode() for name, size in sizes.items() if not size.startswith(_UNFINISHED)}

    def remove(self, key: NamespaceKey, names: Iterable[str]) -> None:
        """See BlobStore."""
        sizes = self._sizes(key)
        for name in names:
            if (entry := sizes.get(name.encode())) is not None:
                self._unlink(key, name, entry)

    def remove_all(self, key: NamespaceKey) -> None:
        """See BlobStore."""
        for name, entry in self._sizes(key).items():
            self._unlink(key, name.decode(), entry)

    def _note(self, key: NamespaceKey, name: str, entry: bytes, size: int) -> None:
        held = redis_key(key, "held")

        def note(pipeline: Pipeline) -> None:
            if not pipeline.exists(redis_key(key, "spec")):
                raise NotFound(f"there is no namespace {key.namespace}")
            sizes = cast(dict[bytes, bytes], pipeline.hgetall(held))
            others = sum(_size(e) for other, e in sizes.items() if other != name.encode())
            if others + size > self._bytes_max:
                raise ResourceExhausted(
                    f"namespace {key.namespace} would have {others + size} bytes of blocks in Redis, "
                    f"the limit is {self._bytes_max} (blocks_redis_bytes_max): "
                    "give a folder or an object store with --blocks URL"
                )
            pipeline.multi()
            pipeline.hset(held, name, cast(str, entry))

        with translated_errors(self._url):
            transaction(self._client, note, redis_key(key, "spec"), held)

    def _sizes(self, key: NamespaceKey) -> dict[bytes, bytes]:
        with translated_errors(self._url):
            return cast(dict[bytes, bytes], self._client.hgetall(redis_key(key, "held")))

    def _unlink(self, key: NamespaceKey, name: str, entry: bytes) -> None:
        with translated_errors(self._url), self._client.pipeline() as pipeline:
            for chunk_key in _chunk_keys(key, name, _size(entry)):
                pipeline.unlink(chunk_key)
            pipeline.hdel(redis_key(key, "held"), name)
            pipeline.execute()


def _missing(key: NamespaceKey, name: str) -> NotFound:
    return NotFound(f"there is no block {name} in namespace {key.namespace}")


def _size(entry: bytes) -> int:
    return int(entry.removeprefix(_UNFINISHED))


def _chunk_key(key: NamespaceKey, name: str, number: int) -> str:
    return redis_key(key, "chunk", f"{name}/{number}")


def _chunk_keys(key: NamespaceKey, name: str, size: int) -> list[str]:
    return [_chunk_key(key, name, number) for number in range(-(-size // CHUNK_BYTES_MAX))]


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of CHUNK_BYTES_MAX, the last one shorter."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= CHUNK_BYTES_MAX:
            yield bytes(waiting[:CHUNK_BYTES_MAX])
            del waiting[:CHUNK_BYTES_MAX]
    if waiting:
        yield bytes(waiting)
