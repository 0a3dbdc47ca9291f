"""A namespace's corpora in Redis: content-addressed blocks, and who is told when they change.

Of each corpus: `blocks` (hash, digest -> block), `order` (list of digests), `documents` (set of
digests); the hash `corpora` holds every corpus with a token that changes on publish, "" before.
"""

import logging
from collections.abc import Callable, Iterator
from typing import cast
from uuid import uuid4

import redis
from redis.client import Pipeline

from retrieval_draft.errors import Corrupt, NotFound
from retrieval_draft.store.connection import translated_errors
from retrieval_draft.store.keys import NamespaceKey, checked_corpus, redis_key
from retrieval_draft.store.records import Block, content_digest, decode_block, encode_block
from retrieval_draft.store.redis_transaction import transaction

_log = logging.getLogger(__name__)


def corpus_keys(key: NamespaceKey, corpus: str) -> tuple[str, str, str]:
    """Where blocks, order and documents of a corpus lie."""
    return (
        redis_key(key, "blocks", corpus),
        redis_key(key, "order", corpus),
        redis_key(key, "documents", corpus),
    )


class RedisCorpora:
    """The part of RedisBackend that stores corpora. `announce` makes every replica look again."""

    def __init__(
        self, client: redis.Redis, url: str, announce: Callable[[NamespaceKey], None]
    ) -> None:
        self._client, self._url, self._announce = client, url, announce

    def put_block(self, key: NamespaceKey, corpus: str, block: Block) -> bool:
        """See Backend."""
        blocks, order, documents = corpus_keys(key, checked_corpus(corpus))
        data = encode_block(block)
        digest = content_digest(data)
        added = False

        def put(pipeline: Pipeline) -> None:
            nonlocal added
            self._must_exist(pipeline, key)
            added = not pipeline.hexists(blocks, cast(str, digest))
            pipeline.multi()
            if added:
                pipeline.hset(blocks, cast(str, digest), cast(str, data))
                pipeline.rpush(order, digest)
                pipeline.sadd(documents, *{document.digest for document in block.documents})
                pipeline.hsetnx(redis_key(key, "corpora"), corpus, "")

        self._change(key, put)
        return added

    def blocks(self, key: NamespaceKey, corpus: str) -> Iterator[Block]:
        """See Backend."""
        blocks, order, _ = corpus_keys(key, checked_corpus(corpus))
        with translated_errors(self._url):
            self._must_exist(self._client, key)
            digests = cast(list[bytes], self._client.lrange(order, 0, -1))
        return self._read(blocks, digests)

    def corpora(self, key: NamespaceKey) -> list[str]:
        """See Backend."""
        with translated_errors(self._url):
            self._must_exist(self._client, key)
            names = cast(list[bytes], self._client.hkeys(redis_key(key, "corpora")))
        return sorted(name.decode() for name in names)

    def known_documents(self, key: NamespaceKey, corpus: str) -> set[bytes]:
        """See Backend."""
        _, _, documents = corpus_keys(key, checked_corpus(corpus))
        with translated_errors(self._url):
            self._must_exist(self._client, key)
            return cast(set[bytes], self._client.smembers(documents))

    def publish(self, key: NamespaceKey, corpus: str) -> None:
        """See Backend."""

        def publish(pipeline: Pipeline) -> None:
            self._must_hold(pipeline, key, corpus)
            pipeline.multi()
            pipeline.hset(redis_key(key, "corpora"), corpus, uuid4().hex)

        self._change(key, publish)
        self._announce(key)

    def delete(self, key: NamespaceKey, corpus: str) -> None:
        """See Backend."""

        def delete(pipeline: Pipeline) -> None:
            self._must_hold(pipeline, key, corpus)
            pipeline.multi()
            pipeline.unlink(*corpus_keys(key, corpus))
            pipeline.hdel(redis_key(key, "corpora"), corpus)

        self._change(key, delete)
        self._announce(key)

    def _read(self, blocks: str, digests: list[bytes]) -> Iterator[Block]:
        # Two writers of one block may both have listed it.
        for digest in dict.fromkeys(digests):
            with translated_errors(self._url):
                data = cast(bytes | None, self._client.hget(blocks, cast(str, digest)))
            if data is None:  # deleted since the list was read
                continue
            try:
                if content_digest(data) != digest:
                    raise Corrupt("its digest does not fit its content")
                block = decode_block(data)
            except Corrupt as error:
                _log.error("left out block %s of %s: %s", digest.hex(), blocks, error)
                continue
            yield block

    def _change(self, key: NamespaceKey, change: Callable[[Pipeline], None]) -> None:
        with translated_errors(self._url):
            # Watched, so that a namespace deleted meanwhile is not half there again.
            transaction(self._client, change, redis_key(key, "spec"))

    def _must_exist(self, client: redis.Redis, key: NamespaceKey) -> None:
        if not client.exists(redis_key(key, "spec")):
            raise NotFound(f"there is no namespace {key.namespace}")

    def _must_hold(self, client: redis.Redis, key: NamespaceKey, corpus: str) -> None:
        self._must_exist(client, key)
        if not client.hexists(redis_key(key, "corpora"), checked_corpus(corpus)):
            raise NotFound(f"there is no corpus {corpus} in namespace {key.namespace}")
