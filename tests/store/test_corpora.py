"""Corpora in the shared store, and building their segments: nothing lost, nothing twice, one builder."""

import random
from collections.abc import Iterator
from typing import Any, cast

import pytest

from retrieval_draft.errors import DraftError, InvalidInput, NotFound, Unreachable
from retrieval_draft.store import compaction
from retrieval_draft.store.backend import Backend
from retrieval_draft.store.blocks import Blocks
from retrieval_draft.store.corpora import SegmentEntry
from retrieval_draft.store.corpus_build import CorpusBuild
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.records import Block, BlockDocument, NamespaceSpec, document_digest
from retrieval_draft.store.segment import Segment
from retrieval_draft.tree import int32s
from tests.engine.driving import wait_for
from tests.store.conftest import Shared, SharedRedis

KEY = NamespaceKey("local", "demo")
TEXT_MAX = 1000


def block(*texts: list[int]) -> Block:
    parts = [int32s(text).tobytes() for text in texts]
    documents = [
        BlockDocument(str(text[:2]), document_digest(part), len(text))
        for text, part in zip(texts, parts, strict=True)
    ]
    return Block(tuple(documents), b"".join(parts))


def opened(shared: Shared) -> Backend:
    backend = shared.open()
    backend.create_namespace(KEY, NamespaceSpec("demo", 100))
    return backend


def builder(backend: Backend, owner: str = "a", text_max: int = TEXT_MAX) -> CorpusBuild:
    return CorpusBuild(backend, owner, text_max, None)


def texts(backend: Backend, corpus: str = "docs") -> list[list[int]]:
    """Every document of every segment, sorted."""
    found = []
    for entry in backend.corpora.content(KEY, corpus).segments:
        segment = Segment.open(backend.blocks.local(KEY, entry.digest), entry.digest)
        assert segment.damaged_page() is None
        assert (segment.documents, segment.token_count) == (entry.documents, entry.tokens)
        found += [document.tokens.tolist() for document in segment.read()]
        segment.close()
    return sorted(found)


def test_blocks_are_pending_once(shared: Shared) -> None:
    corpora = opened(shared).corpora
    stored = [block([1], [2, 3]), block([4]), block([5], [6], [7])]
    again = [corpora.put_block(KEY, "docs", one) for one in [*stored, stored[0]]]
    assert again == [True, True, True, False]
    content = corpora.content(KEY, "docs")
    assert (content.tokens, content.pending_tokens, content.is_published) == (7, 7, False)
    read = dict(corpora.pending(KEY, "docs", [*content.pending, b"gone"]))
    assert sorted(str(one) for one in read.values()) == sorted(map(str, stored))
    digests = [document.digest for one in stored for document in one.documents]
    assert corpora.known_documents(KEY, "docs", [*digests, b"other"]) == set(digests)
    assert corpora.known_documents(KEY, "docs", []) == set()
    assert corpora.known_documents(KEY, "nothing", digests) == set()
    with pytest.raises(NotFound):
        corpora.content(KEY, "nothing")
    with pytest.raises(InvalidInput):
        corpora.put_block(KEY, "no such name", stored[0])


def test_the_list_of_segments_is_switched_only_from_what_it_was(shared: Shared) -> None:
    corpora = opened(shared).corpora
    corpora.put_block(KEY, "docs", block([1, 2]))
    (pending,) = corpora.content(KEY, "docs").pending
    one, two = SegmentEntry("0" * 32, 1, 2, 3), SegmentEntry("1" * 32, 1, 2, 3)
    assert not corpora.switch(KEY, "docs", (one,), (two,), [pending])
    assert not corpora.switch(KEY, "docs", (), (one,), [pending, b"not pending"])
    assert list(corpora.content(KEY, "docs").pending) == [pending]
    assert corpora.switch(KEY, "docs", (), (one,), [pending])
    content = corpora.content(KEY, "docs")
    assert (content.segments, content.pending, content.tokens) == ((one,), {}, 2)
    digest = document_digest(int32s([1, 2]).tobytes())
    assert corpora.known_documents(KEY, "docs", [digest]) == {digest}
    corpora.delete(KEY, "docs")
    with pytest.raises(NotFound):
        corpora.switch(KEY, "docs", (one,), (two,), ())


def test_a_switch_is_announced_once_the_corpus_is_published(shared: Shared) -> None:
    (one, heard), (_, heard_too) = shared.started("a"), shared.started("b")
    one.create_namespace(KEY, NamespaceSpec("demo", 100))
    one.corpora.put_block(KEY, "docs", block([1, 2]))
    assert builder(one).build(KEY, "docs")
    assert heard.corpora == []
    one.corpora.publish(KEY, "docs")
    one.corpora.put_block(KEY, "docs", block([3]))
    assert builder(one).build(KEY, "docs")
    heard_too.wait_for(lambda: len(heard_too.corpora) >= 2)
    assert set(heard_too.corpora) == {(KEY, "docs")}


def test_one_builds_at_a_time(shared: Shared) -> None:
    corpora = opened(shared).corpora
    corpora.put_block(KEY, "docs", block([1]))
    assert corpora.claim(KEY, "docs", "a", 60)
    assert corpora.claim(KEY, "docs", "a", 60)
    assert not corpora.claim(KEY, "docs", "b", 60)
    corpora.release(KEY, "docs", "b")
    assert not corpora.claim(KEY, "docs", "b", 60)
    corpora.release(KEY, "docs", "a")
    assert corpora.claim(KEY, "docs", "b", 0.001)
    wait_for(lambda: corpora.claim(KEY, "docs", "a", 60))
    assert not corpora.claim(KEY, "docs", "b", 60)


def test_pending_blocks_become_segments_and_small_ones_one(shared: Shared) -> None:
    backend = opened(shared)
    build = builder(backend)
    for number in range(6):
        backend.corpora.put_block(KEY, "docs", block([number, 1, 2], [number]))
        assert build.build(KEY, "docs")
    segments = backend.corpora.content(KEY, "docs").segments
    assert len(segments) == 2, "6 of the same size: 4 and 2"
    assert backend.blocks.digests(KEY) == {entry.digest for entry in segments}
    assert build.compact(KEY, "docs")
    (one,) = backend.corpora.content(KEY, "docs").segments
    assert backend.blocks.digests(KEY) == {one.digest}
    expected = sorted([[n, 1, 2] for n in range(6)] + [[n] for n in range(6)])
    assert texts(backend) == expected


def test_a_segment_has_at_most_so_many_tokens(shared: Shared) -> None:
    backend = opened(shared)
    for number in range(5):
        backend.corpora.put_block(KEY, "docs", block([number] * 9))
    build = builder(backend, text_max=20)
    assert build.build(KEY, "docs")
    assert [entry.documents for entry in backend.corpora.content(KEY, "docs").segments] == [2, 2, 1]
    assert build.compact(KEY, "docs")
    assert texts(backend) == [[number] * 9 for number in range(5)]
    assert len(backend.corpora.content(KEY, "docs").segments) == 3


def test_deleting_leaves_what_another_corpus_has_too(shared: Shared) -> None:
    backend = opened(shared)
    for corpus in ("docs", "same"):
        backend.corpora.put_block(KEY, corpus, block([1, 2, 3]))
        assert builder(backend).build(KEY, corpus)
    assert len(backend.blocks.digests(KEY)) == 1
    backend.corpora.delete(KEY, "docs")
    assert texts(backend, "same") == [[1, 2, 3]]
    backend.corpora.delete(KEY, "same")
    assert backend.blocks.digests(KEY) == set()
    assert not any("segments" in name or "pending" in name for name in shared.keys(KEY))


def test_documents_of_a_damaged_pending_block_can_be_warmed_again(
    shared_redis: SharedRedis,
) -> None:
    backend = opened(shared_redis)
    good, bad = block([1, 2]), block([3, 4])
    for one in (good, bad):
        backend.corpora.put_block(KEY, "docs", one)
    (name,) = [key for key in shared_redis.keys(KEY) if ":blocks:" in key]
    stored = cast(dict[bytes, bytes], shared_redis.client.hgetall(name))
    for digest, data in stored.items():
        if int32s([3, 4]).tobytes() in data:
            shared_redis.client.hset(name, cast(str, digest), cast(str, data[:-1] + b"?"))
    assert builder(backend).build(KEY, "docs")
    assert texts(backend) == [[1, 2]]
    known = [document.digest for one in (good, bad) for document in one.documents]
    assert backend.corpora.known_documents(KEY, "docs", known) == {known[0]}
    assert backend.corpora.content(KEY, "docs").pending == {}


class Cut(MemoryBackend):
    """A store that is gone at the n-th call of its corpora or blocks, before or after it took effect."""

    def __init__(self, whole: MemoryBackend, calls: int, is_after: bool) -> None:
        super().__init__(whole._store)
        self.left, self._is_after = calls, is_after
        self._corpora = cast(Any, Counting(self, self._corpora))
        self._cut_blocks = cast(Any, Counting(self, whole.blocks))

    @property
    def blocks(self) -> Blocks:
        blocks: Blocks = self._cut_blocks
        return blocks


class Counting:
    def __init__(self, owner: Cut, inner: object) -> None:
        self._owner, self._inner = owner, inner

    def __getattr__(self, name: str) -> object:
        call = getattr(self._inner, name)

        def counted(*arguments: object) -> object:
            owner = self._owner
            owner.left -= 1
            if owner.left <= 0 and not (owner.left == 0 and owner._is_after):
                raise Unreachable("cut off")
            done = call(*arguments)
            if owner.left <= 0:
                raise Unreachable("cut off")
            return done

        return counted


def warmed(backend: Backend, documents: list[list[int]]) -> Iterator[None]:
    """As Stores does: what is not known is stored, a few documents at a time; then it is built."""
    for at in range(0, len(documents), 3):
        some = {document_digest(int32s(d).tobytes()): d for d in documents[at : at + 3]}
        known = backend.corpora.known_documents(KEY, "docs", some.keys())
        if fresh := [d for digest, d in some.items() if digest not in known]:
            backend.corpora.put_block(KEY, "docs", block(*fresh))
        if at % 2:
            builder(backend, "dead").build(KEY, "docs")
    builder(backend, "dead").build(KEY, "docs")
    yield


@pytest.mark.parametrize("seed", range(4))
def test_a_corpus_that_was_interrupted_fifty_times_equals_one_that_was_not(seed: int) -> None:
    """Cut off at random calls, each time tried again from its beginning, like `warm`."""
    draw = random.Random(seed)  # noqa: S311 - examples, no secrets
    documents = [[draw.randrange(100) for _ in range(draw.randint(1, 30))] for _ in range(40)]
    whole = MemoryBackend()
    whole.create_namespace(KEY, NamespaceSpec("demo", 100))
    whole.corpora.put_block(KEY, "docs", block(documents[0]))
    cut = 0
    while cut < 50:
        try:
            list(warmed(Cut(whole, draw.randint(1, 80), draw.random() < 0.5), documents))
        except DraftError:
            cut += 1
            # Its claim ends by itself; here at once.
            whole.corpora.release(KEY, "docs", "dead")
    list(warmed(whole, documents))
    assert texts(whole) == sorted(map(list, {tuple(document) for document in documents}))
    content = whole.corpora.content(KEY, "docs")
    assert content.pending == {}
    used = {entry.digest for entry in content.segments}
    assert used <= whole.blocks.digests(KEY)


@pytest.mark.parametrize(
    ("sizes", "size_max", "due"),
    [
        ([], 100, []),
        ([5], 100, []),
        ([5, 5], 100, [0, 1]),
        ([4, 5], 100, []),
        ([8, 4, 2, 1], 100, []),
        ([8, 4, 2, 2], 100, [2, 3, 1, 0]),
        ([8, 4, 2, 2], 9, [2, 3, 1]),
        ([100, 1, 1], 100, [1, 2]),
        ([2**31 - 9, 2**31 - 9, 7], 2**31 - 1, []),
        ([2**30, 2**30, 2**30, 2**30], 2**32, [0, 1, 2, 3]),
    ],
)
def test_merges_at_least_double(sizes: list[int], size_max: int, due: list[int]) -> None:
    assert compaction.due(sizes, size_max) == due


def test_a_growing_corpus_has_few_segments_and_rewrites_little() -> None:
    draw = random.Random(1)  # noqa: S311 - examples, no secrets
    for most in (10**12, 10**6):
        sizes: list[int] = []
        added = rewritten = 0
        while added < 10_000_000:
            sizes.append(size := draw.choice((500, 1000, 100_000)))
            added += size
            while due := compaction.due(sizes, most):
                total = sum(sizes[i] for i in due)
                assert total >= 2 * max(sizes[i] for i in due)
                assert total <= most
                rewritten += total
                sizes = [size for i, size in enumerate(sizes) if i not in due] + [total]
        assert sum(sizes) == added
        assert len(sizes) <= 14 + 2 * added // most
        assert rewritten <= 14 * added
    groups = compaction.packed([2**30] * 5 + [3, 2**29], 2**31 - 1)
    assert sorted(i for group in groups for i in group) == list(range(7))
    assert len(groups) == 5
