"""A namespace's corpora in Redis: pending blocks of documents, and which segments are built.

Of each corpus: `blocks` (hash, digest -> block), `pending` (hash, digest -> what the block holds),
`documents` (set of digests of all documents), `segments` (their list) and `claim` (who builds); the hash
`corpora` holds every corpus with a token that changes with what drafts may use, "" before the first publish.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from typing import cast
from uuid import uuid4

import redis
from redis.client import Pipeline

from retrieval_draft.errors import Corrupt, NotFound
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.connection import translated_errors
from retrieval_draft.store.corpora import (
    PendingEntry,
    SegmentEntry,
    StoredContent,
    decode_pending,
    decode_segments,
    encode_pending,
    encode_segments,
    listed,
)
from retrieval_draft.store.keys import Kind, NamespaceKey, checked_corpus, redis_key
from retrieval_draft.store.records import Block, content_digest, decode_block, encode_block
from retrieval_draft.store.redis_transaction import transaction

KINDS: tuple[Kind, ...] = ("blocks", "pending", "documents", "segments", "claim")

_log = logging.getLogger(__name__)


def corpus_keys(key: NamespaceKey, corpus: str) -> tuple[str, ...]:
    """Where a corpus lies: KINDS."""
    return tuple(redis_key(key, kind, corpus) for kind in KINDS)


class RedisCorpora:
    """See Corpora. `announce` makes every replica look again, `rewrite` lets go of what was deleted."""

    def __init__(
        self,
        client: redis.Redis,
        url: str,
        blocks: Blocks,
        announce: Callable[[NamespaceKey], None],
        rewrite: Callable[[], None],
    ) -> None:
        self._client, self._url, self._blobs = client, url, blocks
        self._announce, self._rewrite = announce, rewrite

    def put_block(self, key: NamespaceKey, corpus: str, block: Block) -> bool:
        """See Corpora."""
        blocks, pending, documents, _, _ = corpus_keys(key, checked_corpus(corpus))
        data = encode_block(block)
        digest = content_digest(data)
        entry = PendingEntry.of(block)
        added = False

        def put(pipeline: Pipeline) -> None:
            nonlocal added
            self._must_exist(pipeline, key)
            added = not pipeline.hexists(blocks, cast(str, digest))
            pipeline.multi()
            if added:
                pipeline.hset(blocks, cast(str, digest), cast(str, data))
                pipeline.hset(pending, cast(str, digest), cast(str, encode_pending(entry)))
                pipeline.sadd(documents, *entry.each())
                pipeline.hsetnx(redis_key(key, "corpora"), corpus, "")

        self._change(key, put)
        return added

    def pending(
        self, key: NamespaceKey, corpus: str, digests: Collection[bytes]
    ) -> Iterator[tuple[bytes, Block | None]]:
        """See Corpora."""
        blocks = redis_key(key, "blocks", checked_corpus(corpus))
        for digest in digests:
            with translated_errors(self._url):
                data = cast(bytes | None, self._client.hget(blocks, cast(str, digest)))
            if data is None:  # built or deleted meanwhile
                continue
            try:
                if content_digest(data) != digest:
                    raise Corrupt("its digest does not fit its content")
                yield digest, decode_block(data)
            except Corrupt as error:
                _log.error("left out block %s of %s: %s", digest.hex(), blocks, error)
                yield digest, None

    def content(self, key: NamespaceKey, corpus: str) -> StoredContent:
        """See Corpora."""
        with translated_errors(self._url):
            self._must_exist(self._client, key)
            pipeline = self._client.pipeline()
            pipeline.hget(redis_key(key, "corpora"), checked_corpus(corpus))
            pipeline.get(redis_key(key, "segments", corpus))
            pipeline.hgetall(redis_key(key, "pending", corpus))
            token, segments, pending = cast(
                tuple[bytes | None, bytes | None, dict[bytes, bytes]], pipeline.execute()
            )
        if token is None:
            raise _missing(key, corpus)
        entries = {digest: decode_pending(data) for digest, data in sorted(pending.items())}
        return StoredContent(decode_segments(segments), entries, bool(token))

    def names(self, key: NamespaceKey) -> list[str]:
        """See Corpora."""
        with translated_errors(self._url):
            self._must_exist(self._client, key)
            names = cast(list[bytes], self._client.hkeys(redis_key(key, "corpora")))
        return sorted(name.decode() for name in names)

    def known_documents(
        self, key: NamespaceKey, corpus: str, digests: Collection[bytes]
    ) -> set[bytes]:
        """See Corpora."""
        asked, documents = list(digests), redis_key(key, "documents", checked_corpus(corpus))
        with translated_errors(self._url):
            self._must_exist(self._client, key)
            if not asked:
                return set()
            found = cast(list[int], self._client.smismember(documents, cast(list[str], asked)))
        return {digest for digest, known in zip(asked, found, strict=True) if known}

    def switch(
        self,
        key: NamespaceKey,
        corpus: str,
        before: tuple[SegmentEntry, ...],
        after: tuple[SegmentEntry, ...],
        built: Collection[bytes],
        lost: Collection[bytes] = (),
    ) -> bool:
        """See Corpora."""
        blocks, pending, documents, segments, _ = corpus_keys(key, corpus)
        done = is_published = False

        def switch(pipeline: Pipeline) -> None:
            nonlocal done, is_published
            self._must_hold(pipeline, key, corpus)
            token = cast(bytes, pipeline.hget(redis_key(key, "corpora"), corpus))
            now = decode_segments(cast(bytes | None, pipeline.get(segments)))
            held = cast(dict[bytes, bytes], pipeline.hgetall(pending))
            done, is_published = now == before and held.keys() >= set(built), bool(token)
            pipeline.multi()
            if not done:
                return
            pipeline.set(segments, cast(str, encode_segments(after)))
            if built:
                pipeline.hdel(blocks, *cast(list[str], list(built)))
                pipeline.hdel(pending, *cast(list[str], list(built)))
            for digest in lost:
                pipeline.srem(documents, *decode_pending(held[digest]).each())
            if is_published:
                pipeline.hset(redis_key(key, "corpora"), corpus, uuid4().hex)

        self._change(key, switch, segments)
        if done and is_published:
            self._announce(key)
        return done

    def claim(self, key: NamespaceKey, corpus: str, owner: str, seconds: float) -> bool:
        """See Corpora."""
        claim, held = redis_key(key, "claim", checked_corpus(corpus)), False

        def take(pipeline: Pipeline) -> None:
            nonlocal held
            self._must_exist(pipeline, key)
            held = pipeline.get(claim) in (None, owner.encode())
            pipeline.multi()
            if held:
                pipeline.set(claim, owner, px=int(seconds * 1000))

        self._change(key, take, claim)
        return held

    def release(self, key: NamespaceKey, corpus: str, owner: str) -> None:
        """See Corpora."""
        claim = redis_key(key, "claim", checked_corpus(corpus))

        def give(pipeline: Pipeline) -> None:
            mine = pipeline.get(claim) == owner.encode()
            pipeline.multi()
            if mine:
                pipeline.unlink(claim)

        self._change(key, give, claim)

    def publish(self, key: NamespaceKey, corpus: str) -> None:
        """See Corpora."""

        def publish(pipeline: Pipeline) -> None:
            self._must_hold(pipeline, key, corpus)
            pipeline.multi()
            pipeline.hset(redis_key(key, "corpora"), corpus, uuid4().hex)

        self._change(key, publish)
        self._announce(key)

    def delete(self, key: NamespaceKey, corpus: str) -> None:
        """See Corpora."""
        segments: tuple[SegmentEntry, ...] = ()

        def delete(pipeline: Pipeline) -> None:
            nonlocal segments
            self._must_hold(pipeline, key, corpus)
            data = cast(bytes | None, pipeline.get(redis_key(key, "segments", corpus)))
            segments = decode_segments(data)
            pipeline.multi()
            pipeline.unlink(*corpus_keys(key, corpus))
            pipeline.hdel(redis_key(key, "corpora"), corpus)

        self._change(key, delete)
        self._blobs.remove(key, {entry.digest for entry in segments} - listed(self, key))
        self._announce(key)
        self._rewrite()

    def _change(self, key: NamespaceKey, change: Callable[[Pipeline], None], *also: str) -> None:
        with translated_errors(self._url):
            # Watched, so that a namespace deleted meanwhile is not half there again.
            transaction(self._client, change, redis_key(key, "spec"), *also)

    def _must_exist(self, client: redis.Redis, key: NamespaceKey) -> None:
        if not client.exists(redis_key(key, "spec")):
            raise NotFound(f"there is no namespace {key.namespace}")

    def _must_hold(self, client: redis.Redis, key: NamespaceKey, corpus: str) -> None:
        self._must_exist(client, key)
        if not client.hexists(redis_key(key, "corpora"), checked_corpus(corpus)):
            raise _missing(key, corpus)


def _missing(key: NamespaceKey, corpus: str) -> NotFound:
    return NotFound(f"there is no corpus {corpus} in namespace {key.namespace}")
