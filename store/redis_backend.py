"""The shared state in Redis: namespaces and the life of the threads that write and follow journals.

For Redis the `spec` key of a namespace decides whether it exists; every change of a namespace is
one transaction in its slot. The hash of all namespaces and the control stream only announce it.
"""

import logging
from collections.abc import Callable, Mapping
from typing import cast
from uuid import uuid4

import redis
from redis.client import Pipeline

from retrieval_draft.errors import AlreadyExists, FailedPrecondition, NotFound
from retrieval_draft.store.applier import Applier, captured_image
from retrieval_draft.store.backend import (
    NOTICE_SECONDS_MAX,
    Durability,
    JournalFigures,
    Listener,
)
from retrieval_draft.store.block_cache import BlockCache
from retrieval_draft.store.blocks import REDIS_BYTES_MAX, Blocks
from retrieval_draft.store.connection import (
    connect,
    durability_of,
    translated_errors,
)
from retrieval_draft.store.corpora import Corpora
from retrieval_draft.store.counts import FleetCounts, checked_counts
from retrieval_draft.store.journal_position import JournalPosition
from retrieval_draft.store.journal_rules import JournalRules
from retrieval_draft.store.keys import NamespaceKey, parse_tag, redis_key, tag
from retrieval_draft.store.learned_image import LearnedImage
from retrieval_draft.store.manifest import Manifest
from retrieval_draft.store.pending import Journal, Pending
from retrieval_draft.store.records import (
    NamespaceSpec,
    Record,
    StoredNamespace,
    check_spec,
    decode_namespace,
    encode_namespace,
)
from retrieval_draft.store.redis_blobs import RedisBlobs
from retrieval_draft.store.redis_corpora import RedisCorpora, corpus_keys
from retrieval_draft.store.redis_counts import RedisCounts, count_keys, read_counts
from retrieval_draft.store.redis_follower import (
    CONTROL,
    NAMESPACES,
    RedisFollower,
    control_fields,
)
from retrieval_draft.store.redis_shelf import RedisShelf, shelf_keys
from retrieval_draft.store.redis_streams import Streams, open_streams
from retrieval_draft.store.redis_transaction import transaction
from retrieval_draft.store.redis_writer import CREATED_FIELD, RedisWriter, journal_key
from retrieval_draft.store.remote_blocks import RemoteBlocks
from retrieval_draft.store.snapshot_store import Captured, SnapshotStore
from retrieval_draft.store.snapshots import Snapshots

EMBEDDED = "embedded"
CONTROL_ENTRIES_MAX = 10_000
THREAD_ANSWER_SECONDS_MAX = 2.0  # a background thread gives a silent server up sooner
THREAD_STOP_SECONDS_MAX = THREAD_ANSWER_SECONDS_MAX + 3.0

_log = logging.getLogger(__name__)


class RedisBackend:
    """A Backend on a Redis, own or embedded. Drafting never touches its connections.

    Blocks lie in this Redis, up to a bound, unless others are given. Raises InvalidInput, Unreachable
    or PermissionDenied when made, if the server cannot be used.
    """

    def __init__(
        self,
        url: str,
        name: str = "redis",
        pending: Pending | None = None,
        blocks: Blocks | None = None,
        cache: BlockCache | None = None,
        blocks_bytes_max: int = REDIS_BYTES_MAX,
        rules: JournalRules | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._client = connect(url)
        with translated_errors(url):
            self._durability = durability_of(url, self._client)
        self._pending = pending or Pending()
        self._rules = rules or JournalRules()
        self._blocks = blocks or RemoteBlocks(
            RedisBlobs(self._client, url, blocks_bytes_max), cache or BlockCache()
        )
        self._corpora = RedisCorpora(self._client, url, self._blocks, self._announce, self._compact)
        self._kept = SnapshotStore(RedisShelf(self._client), self._blocks)
        self._applier: Applier | None = None
        self._counts: RedisCounts | None = None
        self._snapshots: Snapshots | None = None
        self._writer: RedisWriter | None = None
        self._follower: RedisFollower | None = None
        self._streams: Streams | None = None
        self._stopped = False

    @property
    def durability(self) -> Durability:
        """FSYNC if this server said that it has an append-only file and fsync always."""
        return self._durability

    @property
    def blocks(self) -> Blocks:
        """See Backend."""
        return self._blocks

    @property
    def corpora(self) -> Corpora:
        """See Backend."""
        return self._corpora

    def start(self, replica: str, listener: Listener) -> None:
        """See Backend."""
        if self._streams is not None:
            raise FailedPrecondition("this backend was started before")
        # Numbers of batches begin anew with each process, so each is a replica of its own.
        incarnation = f"{replica}/{uuid4().hex[:12]}"
        streams = open_streams(self._url, THREAD_ANSWER_SECONDS_MAX)
        applier = Applier(incarnation, listener, self._pending, self._blocks)
        kept = SnapshotStore(RedisShelf(streams.client), self._blocks)
        self._snapshots = Snapshots(kept, applier, self._rules)
        follower = RedisFollower(streams, self._url, applier, self._snapshots)
        self._streams, self._applier, self._follower = streams, applier, follower
        self._counts = RedisCounts(streams.client, self._url, incarnation)
        try:
            follower.start()
        except Exception:
            self.stop(0)
            raise
        self._writer = RedisWriter(streams, self._url, incarnation, self._pending)
        self._writer.start()
        self._snapshots.start()

    def stop(self, flush_seconds_max: float) -> bool:
        """See Backend."""
        flushed = self._pending.flush(flush_seconds_max) if self._writer else True
        if self._snapshots and self._writer and not self._stopped:
            self._snapshots.save_at_stop()
            self._snapshots.stop(THREAD_STOP_SECONDS_MAX)
        self._stopped = True
        self._pending.close()
        if self._writer:
            self._writer.stop(THREAD_STOP_SECONDS_MAX)
        if self._follower:
            self._follower.stop(THREAD_STOP_SECONDS_MAX)
        if self._streams:
            self._streams.client.close()
        self._client.close()
        return flushed

    def create_namespace(self, key: NamespaceKey, spec: NamespaceSpec) -> NamespaceSpec:
        """See Backend."""
        self._create(key, spec)
        self._index(key)
        return spec

    def _create(self, key: NamespaceKey, spec: NamespaceSpec) -> None:
        check_spec(spec)
        made = StoredNamespace(uuid4().hex, spec)

        def create(pipeline: Pipeline) -> None:
            data = cast(bytes | None, pipeline.get(redis_key(key, "spec")))
            stored = decode_namespace(data) if data is not None else made
            if stored.spec != spec:
                raise AlreadyExists(f"namespace {key.namespace} exists and differs")
            journal = journal_key(Journal(key, stored.incarnation))
            has_journal = bool(pipeline.exists(journal))
            pipeline.multi()
            if data is None:
                pipeline.set(redis_key(key, "spec"), encode_namespace(made))
            if not has_journal:  # writers only add to a journal that exists
                pipeline.xadd(journal, {CREATED_FIELD: b""})

        self._change(key, create)

    def get_namespace(self, key: NamespaceKey) -> NamespaceSpec:
        """See Backend."""
        return self._stored(key).spec

    def list_namespaces(self, tenant: str) -> list[NamespaceSpec]:
        """See Backend."""
        with translated_errors(self._url):
            stored = cast(dict[bytes, bytes], self._client.hgetall(NAMESPACES))
        by_key = {parse_tag(name.decode()): data for name, data in stored.items()}
        mine = sorted(key for key in by_key if key.tenant == tenant)
        return [decode_namespace(by_key[key]).spec for key in mine]

    def delete_namespace(self, key: NamespaceKey) -> None:
        """See Backend."""
        existed = False

        def delete(pipeline: Pipeline) -> None:
            nonlocal existed
            data = cast(bytes | None, pipeline.get(redis_key(key, "spec")))
            corpora = cast(list[bytes], pipeline.hkeys(redis_key(key, "corpora")))
            existed = data is not None
            pipeline.multi()
            for corpus in corpora:
                pipeline.unlink(*corpus_keys(key, corpus.decode()))
            pipeline.unlink(redis_key(key, "spec"), redis_key(key, "corpora"))
            if data is not None:
                journal = Journal(key, decode_namespace(data).incarnation)
                pipeline.unlink(journal_key(journal), *count_keys(journal), *shelf_keys(journal))

        self._change(key, delete)
        self.blocks.remove_all(key)
        self._index(key)
        self._compact()
        if not existed:
            raise NotFound(f"there is no namespace {key.namespace}")

    def append(self, key: NamespaceKey, record: Record) -> None:
        """See Backend."""
        journal = self._applier.journal(key) if self._applier else None
        if journal is None:
            self._pending.refuse(key)
        else:
            self._pending.append(journal, record)

    def flush(self, seconds_max: float) -> bool:
        """See Backend."""
        return self._pending.flush(seconds_max)

    def save_snapshot(self, key: NamespaceKey) -> Manifest:
        """See Backend."""
        if self._snapshots is None:
            raise FailedPrecondition("this backend was not started")
        with translated_errors(self._url):
            return self._snapshots.take(key)

    def snapshots(self, key: NamespaceKey) -> list[Manifest]:
        """See Backend."""
        with translated_errors(self._url):
            return [one.manifest for one in self._kept.kept(self._journal(key))]

    def verify_snapshots(self, key: NamespaceKey) -> list[tuple[Manifest, str]]:
        """See Backend."""
        with translated_errors(self._url):
            return self._kept.verify(self._journal(key))

    def learned_image(self, key: NamespaceKey) -> LearnedImage:
        """See Backend."""
        return captured_image(self._applier, key)

    def create_from(
        self, key: NamespaceKey, spec: NamespaceSpec, image: LearnedImage
    ) -> NamespaceSpec:
        """See Backend. No replica looks at a namespace before it is in the hash of all."""
        with translated_errors(self._url):
            if self._client.hexists(NAMESPACES, tag(key)):
                raise AlreadyExists(f"namespace {key.namespace} exists already")
        self._create(key, spec)
        captured = Captured(self._journal(key), JournalPosition(), {}, image)
        with translated_errors(self._url):
            self._kept.put_first(captured)
        self._index(key)
        return spec

    def figures(self, key: NamespaceKey) -> JournalFigures:
        """See Backend."""
        if self._applier is None:
            return JournalFigures()
        threads = (self._follower, self._writer)
        connected = all(thread is not None and thread.connected for thread in threads)
        return self._applier.figures(key, connected and not self._stopped)

    def add_counts(self, key: NamespaceKey, counts: Mapping[str, int]) -> None:
        """See Backend."""
        checked_counts(counts)
        if self._applier is None or self._counts is None:
            return
        journal = self._applier.journal(key)
        if journal is not None:
            self._counts.add(journal, counts, self._applier.heartbeat(key))

    def counts(self, key: NamespaceKey) -> FleetCounts:
        """See Backend."""
        return read_counts(self._client, self._url, self._journal(key))

    def _stored(self, key: NamespaceKey) -> StoredNamespace:
        with translated_errors(self._url):
            data = cast(bytes | None, self._client.get(redis_key(key, "spec")))
        if data is None:
            raise NotFound(f"there is no namespace {key.namespace}")
        return decode_namespace(data)

    def _journal(self, key: NamespaceKey) -> Journal:
        return Journal(key, self._stored(key).incarnation)

    def _change(self, key: NamespaceKey, change: Callable[[Pipeline], None]) -> None:
        """Make a change that depends on what the namespace is, as one transaction."""
        with translated_errors(self._url):
            transaction(self._client, change, redis_key(key, "spec"), redis_key(key, "corpora"))

    def _index(self, key: NamespaceKey) -> None:
        """Bring the hash of all namespaces in line with the namespace's own key, and say so."""
        with translated_errors(self._url):
            data = cast(bytes | None, self._client.get(redis_key(key, "spec")))
            if data is None:
                self._client.hdel(NAMESPACES, tag(key))
            else:
                self._client.hset(NAMESPACES, tag(key), data)
        self._announce(key)

    def _compact(self) -> None:
        """What was deleted still stands in the embedded server's file: have it written afresh."""
        if self.name != EMBEDDED:
            return
        with translated_errors(self._url):
            try:
                self._client.bgrewriteaof()
            except redis.ResponseError as error:  # one is running, and may have begun too early
                _log.warning("deleted data stay in the data folder for now: %s", error)

    def _announce(self, key: NamespaceKey) -> None:
        """Tell every replica to look at the namespace, and wait for this one's."""
        with translated_errors(self._url):
            entry_id = self._client.xadd(
                CONTROL, control_fields(key), maxlen=CONTROL_ENTRIES_MAX, approximate=True
            )
        follower = self._follower if self._writer else None
        if follower is None:
            return
        if not follower.wait_for_control(cast(bytes, entry_id).decode(), NOTICE_SECONDS_MAX):
            _log.warning("the follower is behind by more than %s s", NOTICE_SECONDS_MAX)
