"""The index of contexts against every vector compared one by one, and what it keeps."""

import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.errors import Corrupt, FailedPrecondition, InvalidInput
from retrieval_draft.store import dense
from retrieval_draft.store.blocks import block_digest
from retrieval_draft.store.dense import DenseIndex
from retrieval_draft.store.neighbours import WINDOW_TOKENS
from retrieval_draft.tree import Float32Array, Int32Array, int32s


def vectors(rows: int, seed: int = 0, clusters: int = 0) -> Float32Array:
    """Of length 1; around so many centres, or anywhere."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(rows, 64))
    if clusters:
        centres = random.normal(size=(clusters, 64))
        found = centres[random.integers(0, clusters, rows)] + found * 0.3
    unit: Float32Array = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def numbered(rows: int) -> Int32Array:
    return int32s(np.arange(rows))


def filled(rows: int, contexts_max: int = 1 << 14, kind: str = "auto", **more: int) -> DenseIndex:
    """Token i is i, so that a window says which context was found."""
    index = DenseIndex(contexts_max, kind)
    index.add("a", 0, 0, numbered(rows), vectors(rows, **more))
    return index


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 60), st.integers(0, 60), st.integers(1, 20), st.integers(0, 99))
def test_the_nearest_are_found_whether_indexed_yet_or_not(
    indexed: int, fresh: int, k: int, seed: int
) -> None:
    index = filled(indexed, seed=seed)
    index.build()
    more = vectors(fresh, seed=seed + 1)
    index.add("a", 0, indexed, int32s(np.arange(indexed, indexed + fresh)), more)
    everything = np.concatenate([vectors(indexed, seed=seed), more])
    query = vectors(1, seed=seed + 2)[0]
    found = index.search(query, k)
    # The last context has no continuation yet.
    likeness = everything.astype(np.float16).astype(np.float32)[:-1] @ query
    order = np.argsort(-likeness)[:k]
    order = order[likeness[order] >= dense.SIMILARITY_MIN]
    assert found.windows[:, 0].tolist() == (order + 1).tolist()
    np.testing.assert_allclose(found.similarity, likeness[order], atol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_every_kind_of_index_finds_most_of_the_nearest(kind: str) -> None:
    index = filled(6000, kind=kind, clusters=200)
    queries = vectors(6000, clusters=200)[::200]
    exact = [set(index.search(query, 8).windows[:, 0].tolist()) for query in queries]
    index.build()
    assert index.contexts_indexed == 6000
    found = [set(index.search(query, 8).windows[:, 0].tolist()) for query in queries]
    hits = sum(len(one & other) for one, other in zip(exact, found, strict=True))
    assert hits >= 0.85 * sum(map(len, exact))


def test_a_window_is_what_followed_up_to_the_end_of_its_text() -> None:
    index = DenseIndex(64)
    first, second = vectors(3), vectors(2, seed=1)
    index.add("a", 1, 10, int32s([5, 6, 7]), first)
    index.add("a", 2, 0, int32s([8, 9]), second)
    assert index.search(first[0], 1).windows[0, :3].tolist() == [6, 7, -1]
    assert index.search(second[0], 1).windows[0, :2].tolist() == [9, -1]
    # What nothing followed is not found, however near.
    assert not {8, -1} & set(index.search(first[2], 9).windows[:, 0].tolist())
    assert index.search(first[0], 1).windows.shape == (1, WINDOW_TOKENS)


def test_a_text_that_goes_on_is_one_text() -> None:
    index = DenseIndex(64)
    index.add("a", 1, 10, int32s([5, 6]), vectors(2))
    index.add("a", 1, 12, int32s([7]), vectors(1, seed=1))
    assert index.search(vectors(2)[0], 1).windows[0, :3].tolist() == [6, 7, -1]


def test_a_context_without_a_vector_is_never_found() -> None:
    index = DenseIndex(64)
    known = vectors(3)
    known[1] = 0
    index.add("a", 1, 0, int32s([5, 6, 7]), known)
    assert index.search(known[0], 9).windows[:, 0].tolist() == [6]


def test_only_the_newest_contexts_are_kept_and_found() -> None:
    index = filled(300, contexts_max=128, kind="flat")
    assert len(index) == 128
    index.build()
    index.add("b", 0, 0, int32s(np.arange(1000, 1060)), vectors(60, seed=1))
    found = index.search(vectors(300)[180], 100).windows[:, 0]
    # 61 positions went: those of 173..232.
    assert found.min() >= 234
    assert {1000, 300} & set(found.tolist()) == set()
    # The index knows more; where those stood others stand, which are found once.
    again = index.search(vectors(60, seed=1)[10], 100).windows[:, 0].tolist()
    assert again[0] == 1011
    assert len(set(again)) == len(again)


def test_memory_does_not_grow_beyond_the_bound() -> None:
    index = DenseIndex(256, "flat")
    sizes = []
    for i in range(6):
        index.add("a", 0, 256 * i, numbered(256), vectors(256, seed=i))
        index.build()
        sizes.append(index.nbytes)
    assert len(set(sizes[1:])) == 1
    assert sizes[-1] < 256 * 450


def test_building_pays_again_when_a_share_of_it_is_new() -> None:
    index = filled(dense.BUILD_MIN - 1)
    assert not index.is_due
    index.add("a", 0, dense.BUILD_MIN - 1, int32s([1]), vectors(1))
    assert index.is_due
    index.build()
    assert not index.is_due


# As a block.


def test_a_dump_answers_like_the_index_it_was_made_of() -> None:
    index = filled(500, contexts_max=512, kind="flat")
    index.build()
    index.add("b", 0, 0, int32s(np.arange(600, 700)), vectors(100, seed=1))
    data = index.dump()
    for contexts_max in (512, 1024, 128):
        loaded = DenseIndex(contexts_max, "flat")
        loaded.load(data, block_digest(data))
        for query in vectors(100, seed=1)[:50:10]:
            one, other = index.search(query, 1), loaded.search(query, 1)
            assert one.windows.tolist() == other.windows.tolist()
            np.testing.assert_allclose(one.similarity, other.similarity, atol=1e-6)


def test_a_dump_whose_digest_is_another_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(50)
    index.build()
    data = index.dump()
    digest = block_digest(data)

    def read(*_: object) -> None:
        pytest.fail("a byte was read as data")

    monkeypatch.setattr(msgspec.msgpack, "decode", read)
    for at in (0, len(data) // 2, len(data) - 1):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(Corrupt, match="digest"):
            index.load(damaged, digest)


def test_a_block_of_something_else_is_corrupt_and_changes_nothing() -> None:
    index = filled(50)
    before = index.search(vectors(50)[3], 1).windows.tolist()
    for data in (b"", b"\x93\x01\x02\x03", DenseIndex(8).dump().replace(b"\x98\x01", b"\x98\x07")):
        with pytest.raises(Corrupt):
            index.load(data, block_digest(data))
    assert index.search(vectors(50)[3], 1).windows.tolist() == before


# What is missing or wrong.


def test_without_faiss_the_option_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'retrieval-draft\[dense\]'"):
        DenseIndex(64)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InvalidInput, match="lsh"):
        DenseIndex(64, "lsh")
