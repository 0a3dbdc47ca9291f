"""Corpora beside drafting: mapped after a restart, built once for all replicas, left out when damaged."""

import logging
import threading
from pathlib import Path

import pytest

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.errands import Errands
from retrieval_draft.errors import NotFound, Unreachable
from retrieval_draft.step import SequenceStart
from retrieval_draft.store.folder_blocks import FolderBlocks
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.store.records import NamespaceSpec
from retrieval_draft.store.segment import PAGE_BYTES
from retrieval_draft.stores import Document
from retrieval_draft.tree import int32s
from tests.engine.driving import (
    NAMESPACE,
    TENANT,
    caller,
    part,
    running_engine,
    state_of,
    wait_for,
    warm,
)

KEY = NamespaceKey(TENANT, NAMESPACE)


def drafted(engine: Engine, *context: int, corpus: str = "red") -> list[int]:
    start = SequenceStart(0, corpora=(corpus,))
    step = part("s", 0, list(context), prompt=len(context), start=start)
    return [int(token) for token in caller(engine).tree(step, method="suffix").token]


def stored(engine: Engine, *texts: list[int]) -> None:
    documents = [Document("", int32s(text)) for text in texts]
    engine.stores.store_documents(TENANT, NAMESPACE, "red", documents)


def test_segments_are_mapped_before_the_first_draft_of_a_new_process(tmp_path: Path) -> None:
    store = MemoryStore(FolderBlocks(tmp_path))
    with running_engine(store=store) as engine:
        warm(engine, "red", [1, 2, 3, 4])
        warm(engine, "red", [5, 6, 7])
    with running_engine(store=store) as engine:
        assert drafted(engine, 1, 2) == [3, 4]
        assert drafted(engine, 5, 6) == [7]


def test_one_replica_builds_and_all_draft(tmp_path: Path) -> None:
    store = MemoryStore(FolderBlocks(tmp_path))
    with running_engine(store=store) as one, running_engine(store=store, replica="b") as two:
        for number in range(4):
            warm(one if number % 2 else two, "red", [number, 60, number, 61])
        for engine in (one, two):
            wait_for(lambda e=engine: e.stores.upkeep is not None and drafted(e, 3, 60) == [3, 61])  # type: ignore[misc]
        wait_for(lambda: is_settled(store, one, two))


def is_settled(store: MemoryStore, *engines: Engine) -> bool:
    """Whether the blocks that are kept are those that the store lists and every engine drafts from.

    Segments are merged beside drafting: until then a block is there before it is listed, and after.
    """
    content = engines[0].stores.backend.corpora.content(KEY, "red")
    listed = {entry.digest for entry in content.segments}
    shown = [{segment.digest for segment in state_of(engine).segments(())} for engine in engines]
    kept = store.blocks.digests(KEY)
    return not content.pending and all(found == listed for found in (kept, *shown))


def test_what_is_not_published_is_built_and_not_drafted() -> None:
    with running_engine(Config(build_tokens_min=4)) as engine:
        stored(engine, [1, 2, 3])
        stored(engine, [4, 5])
        corpora = engine.stores.backend.corpora
        wait_for(lambda: not corpora.content(KEY, "red").pending)
        assert corpora.content(KEY, "red").tokens == 5
        assert "red" not in state_of(engine).corpus_tiers()
        stored(engine, [6, 7])
        engine.stores.publish(TENANT, NAMESPACE, "red")
        assert drafted(engine, 1, 2) == [3]
        assert drafted(engine, 6) == []


def test_a_compacted_corpus_is_one_segment_and_drafts_the_same() -> None:
    with running_engine() as engine:
        for length in (9, 2, 30):
            warm(engine, "red", [length, length + 1] * length)
        before = [drafted(engine, length, length + 1) for length in (9, 2, 30)]
        engine.stores.compact(TENANT, NAMESPACE, "red")
        (tier,) = state_of(engine).corpora(("red",))
        assert (len(tier.segments), tier.documents) == (1, 3)
        assert [drafted(engine, length, length + 1) for length in (9, 2, 30)] == before
        engine.stores.delete_corpus(TENANT, NAMESPACE, "red")
        assert engine.stores.backend.blocks.digests(KEY) == set()
        with pytest.raises(NotFound):
            engine.stores.compact(TENANT, NAMESPACE, "red")


@pytest.mark.parametrize("damage", ["header", "page", "gone"])
def test_a_damaged_segment_is_left_out_and_drafting_goes_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    store = MemoryStore(FolderBlocks(tmp_path))
    with running_engine(store=store) as engine:
        warm(engine, "red", [1, 2, 3, 4])
        warm(engine, "blue", [1, 2, 5])
        (segment,) = state_of(engine).segments(("red",))
        assert segment.nbytes < PAGE_BYTES
        at = 30 if damage == "header" else segment.nbytes - 1
    path = store.blocks.local(KEY, segment.digest)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes(data)
    with running_engine(store=store) as engine:
        state = state_of(engine)
        wait_for(lambda: bool(state.problems))
        wait_for(lambda: not state.segments(("red",)))
        assert list(state.problems) == [("red", segment.digest)]
        assert drafted(engine, 1, 2) == []
        assert drafted(engine, 1, 2, corpus="blue") == [5]
        assert (
            f"left out a segment: {'there is no' if damage == 'gone' else 'segment'}" in caplog.text
        )


def test_an_errand_is_run_once_however_often_it_was_asked_for() -> None:
    gate, ran = threading.Event(), list[str]()

    def run(errand: str) -> float | None:
        gate.wait(20)
        ran.append(errand)
        if errand == "broken":
            raise ValueError(errand)
        return 0.0 if errand == "again" and ran.count("again") < 3 else None

    errands = Errands[str]("test", run)
    errands.start()
    for errand in ("first", "second", "second", "broken", "second"):
        errands.put(errand)
    errands.put("later", 60)
    assert not errands.wait_until_idle(0)
    gate.set()
    assert errands.wait_until_idle(20)
    assert ran == ["first", "second", "broken"]
    errands.put("again")
    wait_for(lambda: ran.count("again") == 3)
    errands.stop(20)
    errands.put("first")
    assert "later" not in ran


@pytest.mark.parametrize(("end", "error"), [("stop", Unreachable), ("delete", NotFound)])
def test_a_publish_ends_when_the_sidecar_stops_or_the_namespace_goes(
    end: str, error: type[Exception]
) -> None:
    backend = MemoryBackend()
    engine = Engine(backend)
    engine.start("a")
    engine.stores.create("local", NamespaceSpec("n", 50))
    engine.stores.store_documents("local", "n", "c", [Document("x", int32s([1, 2, 3] * 4))])
    # Somebody else is building, and never comes to an end.
    assert backend.corpora.claim(NamespaceKey("local", "n"), "c", "another", 600.0)
    failed: list[type[Exception]] = []

    def publish() -> None:
        try:
            engine.stores.publish("local", "n", "c")
        except (NotFound, Unreachable) as problem:
            failed.append(type(problem))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    thread.join(0.3)
    if end == "delete":
        engine.stores.delete("local", "n")
    else:
        engine.stop()
    thread.join(10)
    assert failed == [error]
    engine.stop()
