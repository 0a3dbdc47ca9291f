"""Dense retrieval in the engine: beside the steps, of one namespace, of outputs, and only a hint."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from retrieval_draft.config import DENSE, Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import Learning, Rows, SequenceStart
from retrieval_draft.store.dense import DenseIndex
from retrieval_draft.store.dense_thread import DenseThread
from retrieval_draft.store.embedding import SAMPLE_ROWS
from retrieval_draft.store.neighbours import Neighbours
from retrieval_draft.store.records import Batch, NamespaceSpec, Record
from retrieval_draft.tree import SOURCES, DraftTree, Float32Array, int32s
from tests.engine.driving import (
    SECONDS_MAX,
    SPEC,
    TENANT,
    Caller,
    caller,
    learned,
    part,
    recreate,
    rows,
    running_engine,
    same,
    state_of,
    wait_for,
    warm,
)

DENSE_BIT = 1 << SOURCES["dense"]
TEXT = [7, 12, 31, 8, 44, 17, 25, 61, 9, 73, 38, 52, 66, 21, 80, 14]
"""Learned; no token comes twice."""
RENAMED = [*TEXT[:2], 90, *TEXT[3:5], 91, *TEXT[6:8], 92, *TEXT[9:11], 93]
"""Its beginning with other names in it, the last of them at its end: no table knows what follows."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_engine(Config(dense="tokens")) as running:
        yield running


def thread_of(engine: Engine) -> DenseThread:
    thread = engine.stores.dense_thread
    assert thread is not None
    return thread


def settled(engine: Engine) -> None:
    """All that was journalled is learned, all that was asked is answered."""
    assert engine.flush(SECONDS_MAX)
    assert thread_of(engine).wait(SECONDS_MAX)


def teach(engine: Engine, text: Sequence[int], namespace: str = SPEC.namespace) -> None:
    calls = caller(engine, namespace=namespace)
    calls.step(part("teacher", 0, text[:1], prompt=1))
    calls.step(part("teacher", 1, text[1:], finished=True))
    settled(engine)


def drafted(engine: Engine, calls: Caller, context: Sequence[int], name: str = "s") -> DraftTree:
    """The second draft for a context: the first one asks. Its last token comes in between."""
    calls.tree(part(name, 0, context[:-1], prompt=len(context) - 1), nodes_max=40)
    settled(engine)
    return calls.tree(part(name, len(context) - 1, context[-1:]), nodes_max=40)


def dense_tokens(tree: DraftTree) -> set[int]:
    return set(tree.token[(tree.source & DENSE_BIT) > 0].tolist())


def test_a_renamed_context_brings_what_followed_the_known_one(
    engine: Engine, calls: Caller
) -> None:
    teach(engine, TEXT)
    assert TEXT[12] in dense_tokens(drafted(engine, calls, RENAMED))


def test_without_the_option_nobody_finds_it() -> None:
    with running_engine() as engine:
        calls = caller(engine)
        calls.step(part("teacher", 0, TEXT[:1], prompt=1))
        calls.step(part("teacher", 1, TEXT[1:], finished=True))
        learned(engine)
        tree = calls.tree(part("s", 0, RENAMED, prompt=len(RENAMED)), nodes_max=40)
        assert not dense_tokens(tree)
        assert state_of(engine).dense is None
        assert engine.stores.dense_thread is None


def test_a_slow_index_delays_no_draft(
    engine: Engine, calls: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(engine, TEXT)
    let_go = threading.Event()
    search = DenseIndex.search

    def slow(index: DenseIndex, vector: Float32Array, k: int) -> Neighbours:
        assert let_go.wait(SECONDS_MAX)
        return search(index, vector, k)

    monkeypatch.setattr(DenseIndex, "search", slow)
    calls.tree(part("s", 0, RENAMED[:-1], prompt=len(RENAMED) - 1), nodes_max=40)
    # Were a step to wait for the index, it would wait here for ever.
    at = len(RENAMED) - 1
    for i in range(30):
        tree = calls.tree(part("s", at + i, [i]), nodes_max=40)
        assert len(tree) == 40
        assert not dense_tokens(tree)
    let_go.set()
    settled(engine)
    assert thread_of(engine).figures.dropped >= 28, "overtaken questions are dropped"


def test_a_failing_index_costs_no_draft(
    engine: Engine,
    calls: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(DenseIndex, "search", lambda *_: 1 // 0)
    assert len(drafted(engine, calls, RENAMED)) > 0
    assert "goes on after it" in caplog.text


def test_a_namespace_made_anew_knows_nothing_of_the_old_one(engine: Engine, calls: Caller) -> None:
    teach(engine, TEXT)
    recreate(engine)
    wait_for(lambda: len(engine.stores.states(TENANT)) == 1)
    assert not dense_tokens(drafted(engine, calls, RENAMED))
    dense = state_of(engine).dense
    assert dense is not None
    assert len(dense.index) == 0


def test_nothing_is_found_across_namespaces_or_tenants(engine: Engine) -> None:
    teach(engine, TEXT)
    engine.stores.create(TENANT, NamespaceSpec("other", SPEC.vocab_size))
    engine.stores.create("somebody", SPEC)
    assert not dense_tokens(drafted(engine, caller(engine, namespace="other"), RENAMED))
    theirs = engine.stores.state("somebody", SPEC.namespace).dense
    assert theirs is not None
    assert len(theirs.index) == 0


@pytest.mark.parametrize("learning", [Learning.OUTPUT, Learning.NONE])
def test_what_may_not_be_learned_is_not_found(
    engine: Engine, calls: Caller, learning: Learning
) -> None:
    start = SequenceStart(len(TEXT), learning=learning)
    calls.step(part("teacher", 0, TEXT, prompt=len(TEXT), start=start))
    calls.step(part("teacher", len(TEXT), [1], finished=True))
    settled(engine)
    assert not dense_tokens(drafted(engine, calls, RENAMED))


def test_tokens_that_were_taken_back_are_no_context_of_an_answer(
    engine: Engine, calls: Caller
) -> None:
    teach(engine, TEXT)
    calls.tree(part("s", 0, RENAMED[:-1], prompt=2), nodes_max=40)
    settled(engine)
    # What came in their place goes further than they did.
    tree = calls.tree(part("s", len(RENAMED) - 3, [95, 96, 97]), nodes_max=40)
    assert not dense_tokens(tree)


def test_journalled_tokens_outside_the_vocabulary_are_not_learned(engine: Engine) -> None:
    for token in (-5, SPEC.vocab_size):
        bad = int32s([1, token, 2]).tobytes()
        state_of(engine).apply("1-0", Batch("elsewhere", 1, [Record(1, 0, tokens=bad)]))
    settled(engine)
    dense = state_of(engine).dense
    assert dense is not None
    assert len(dense.index) == 0


def test_beside_a_corpus_both_are_drafted_and_the_corpus_keeps_its_places(
    engine: Engine, calls: Caller
) -> None:
    teach(engine, TEXT)
    warm(engine, "texts", [*RENAMED[-3:], 55, 56, 57])
    tree = drafted(engine, calls, RENAMED)
    roots = set(tree.token[tree.parent < 0].tolist())
    assert {55, TEXT[12]} <= roots


# Hidden states.


def state_after(token: int, noise: np.random.Generator) -> np.ndarray:
    """Each token has its own direction in 24 dimensions; two are the same to within noise."""
    kind = np.random.default_rng(token).normal(size=24)
    return (kind + noise.normal(size=24) * 0.01).astype(np.float16)


def with_states(at: Sequence[int], tokens: Sequence[int]) -> Rows:
    noise = np.random.default_rng(sum(at))
    seen = rows(at, [[0, 1, 2]] * len(at))
    return replace(seen, hidden=np.stack([state_after(token, noise) for token in tokens]))


@pytest.fixture
def hidden() -> Iterator[Engine]:
    with running_engine(Config(dense="hidden")) as running:
        yield running


def teach_states(engine: Engine) -> None:
    """TEXT's hidden states, behind as many others as the projection is fitted to."""
    random = np.random.default_rng(5)
    calls = caller(engine)
    for i in range(SAMPLE_ROWS // 100 + 1):
        text = random.integers(0, 100, 101).tolist()
        calls.step(part(f"fit{i}", 0, text[:1], prompt=1))
        seen = with_states(range(1, 101), text[1:])
        calls.step(part(f"fit{i}", 1, text[1:], finished=True, rows=seen))
    calls.step(part("teacher", 0, TEXT[:1], prompt=1))
    seen = with_states(range(1, len(TEXT)), TEXT[1:])
    calls.step(part("teacher", 1, TEXT[1:], finished=True, rows=seen))
    settled(engine)


def test_like_hidden_states_bring_what_followed(hidden: Engine) -> None:
    teach_states(hidden)
    # Other tokens throughout, but the model was in the state that follows TEXT[10].
    calls = caller(hidden)
    told = with_states([2], [TEXT[10]])
    calls.tree(part("s", 0, [90, 91, 92], prompt=3, rows=told), nodes_max=40)
    settled(hidden)
    assert TEXT[12] in dense_tokens(calls.tree(part("s", 3, [TEXT[11]]), nodes_max=40))


def test_hidden_states_are_never_journalled(hidden: Engine) -> None:
    teach_states(hidden)
    dense = state_of(hidden).dense
    assert dense is not None
    assert len(dense.index) > len(TEXT)
    before = len(dense.index)
    # What the journal brings of another replica has none: nothing to be found by.
    state_of(hidden).apply(
        "1-0", Batch("elsewhere", 1, [Record(1, 0, tokens=int32s(TEXT).tobytes())])
    )
    settled(hidden)
    assert len(dense.index) == before


def test_hidden_states_of_nodes_and_of_positions_to_come_are_passed_over(hidden: Engine) -> None:
    teach_states(hidden)
    answered = thread_of(hidden).figures.answered
    told = with_states([-1, 3, 40], [TEXT[10]] * 3)
    caller(hidden).tree(part("s", 0, [90, 91, 92], prompt=3, rows=told), nodes_max=40)
    settled(hidden)
    assert thread_of(hidden).figures.answered == answered


def test_without_the_option_hidden_states_change_nothing() -> None:
    trees = []
    for told in (rows([2], [[0, 1, 2]]), with_states([2], [5])):
        with running_engine() as plain:
            asked = part("s", 0, [90, 91, 92], prompt=3, rows=told)
            trees.append(caller(plain).tree(asked, nodes_max=40))
    assert same(*trees)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="dense is 'bert'"), running_engine(Config(dense="bert")):
        pass
    assert DENSE == ("off", "tokens", "hidden")
    odd = Config(dense="tokens", dense_index="lsh")
    with pytest.raises(InvalidInput, match="dense_index is 'lsh'"), running_engine(odd):
        pass
