"""What every backend promises, on process memory and on real Redis servers alike."""

import random
import threading

import msgspec
import pytest

from retrieval_draft.errors import AlreadyExists, InvalidInput, NotFound
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.records import (
    Batch,
    NamespaceSpec,
    encode_batch,
)
from tests.store.conftest import (
    WAIT_SECONDS_MAX,
    Shared,
    block,
    flushed,
    record,
)

DEMO = NamespaceKey("local", "demo")
SPEC = NamespaceSpec("demo", 100)


# Records


def test_records_come_back_once_in_the_order_they_were_appended(shared: Shared) -> None:
    backend, heard = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    for position in range(1000):
        backend.append(DEMO, record(position))
    flushed(backend)
    assert heard.positions(DEMO) == list(range(1000))
    figures = backend.figures(DEMO)
    assert (figures.appended, figures.written, figures.applied) == (1000, 1000, 1000)
    assert (figures.dropped, figures.corrupt, figures.gaps, figures.lag_records) == (0, 0, 0, 0)
    assert figures.connected
    assert len(heard.threads) == 1, "a listener is called from one thread"
    assert threading.get_ident() not in heard.threads


def test_replicas_see_the_same_batches_in_the_same_order(shared: Shared) -> None:
    replicas = [shared.started(name) for name in "abc"]
    backends = [backend for backend, _ in replicas]
    backends[0].create_namespace(DEMO, SPEC)
    for _, heard in replicas:
        heard.wait_for(lambda heard=heard: bool(heard.namespaces))  # type: ignore[misc]
    dice = random.Random(1)  # noqa: S311 - a test's
    for position in range(900):
        dice.choice(backends).append(DEMO, record(position))
    flushed(*backends)
    for _, heard in replicas:
        heard.wait_for(lambda heard=heard: len(heard.positions(DEMO)) == 900)  # type: ignore[misc]
    first = replicas[0][1].entries
    assert all(heard.entries == first for _, heard in replicas)
    assert sorted(replicas[0][1].positions(DEMO)) == list(range(900))


def test_a_restart_replays_everything_before_start_returns(shared: Shared) -> None:
    backend, before = shared.started("a")
    other = NamespaceKey("local", "other")
    backend.create_namespace(DEMO, SPEC)
    backend.create_namespace(other, NamespaceSpec("other", 7))
    for position in range(300):
        backend.append(DEMO, record(position))
        backend.append(other, record(position))
    assert backend.stop(WAIT_SECONDS_MAX)
    again, after = shared.started("a")
    assert after.positions(DEMO) == after.positions(other) == list(range(300))
    assert {key for key, _ in after.namespaces} == {DEMO, other}
    again.append(DEMO, record(300))  # the same replica name: its batch numbers begin again
    flushed(again)
    assert after.positions(DEMO) == list(range(301))
    of_demo = [entry for entry in after.entries if entry[0] == DEMO]
    assert of_demo[:-1] == [entry for entry in before.entries if entry[0] == DEMO]


def test_a_batch_that_was_stored_twice_is_applied_once(shared: Shared) -> None:
    backend, heard = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    twice = encode_batch(Batch("other", 1, [record(1)]))
    for payload in (twice, twice, encode_batch(Batch("other", 2, [record(2)])), twice):
        shared.add_raw(DEMO, payload)
    backend.append(DEMO, record(3))
    flushed(backend)
    assert heard.positions(DEMO) == [1, 2, 3]
    assert backend.figures(DEMO).gaps == 0


def test_a_hole_in_the_numbering_is_counted(shared: Shared) -> None:
    backend, heard = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    for number in (5, 6, 9):  # 1 to 4 never came, and there was no snapshot that held them
        shared.add_raw(DEMO, encode_batch(Batch("other", number, [record(number)])))
    heard.wait_for(lambda: heard.positions(DEMO) == [5, 6, 9])
    heard.wait_for(lambda: backend.figures(DEMO).gaps == 2)
    assert "2 batches of replica other" in backend.figures(DEMO).problems[0]


def test_a_damaged_entry_is_skipped_and_counted(shared: Shared) -> None:
    backend, heard = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    good = encode_batch(Batch("other", 1, [record(1)]))
    for payload in (b"", good[:-1], good[:-1] + b"?", b"\x09" + good[1:], good):
        shared.add_raw(DEMO, payload)
    backend.append(DEMO, record(2))
    flushed(backend)
    assert heard.positions(DEMO) == [1, 2]
    assert backend.figures(DEMO).corrupt == 4


def test_a_listener_that_fails_on_one_batch_hears_the_next(shared: Shared) -> None:
    backend, heard = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    heard.poison = 1
    for position in range(3):
        backend.append(DEMO, record(position))
        flushed(backend)
    assert heard.positions(DEMO) == [0, 2]
    assert backend.figures(DEMO).lag_records == 0


def test_a_record_without_a_namespace_is_dropped_and_counted(shared: Shared) -> None:
    backend, heard = shared.started("a")
    backend.append(DEMO, record(0))
    flushed(backend)
    assert backend.figures(DEMO).dropped == 1
    assert heard.entries == []


def test_after_stop_nothing_more_is_taken(shared: Shared) -> None:
    backend, _ = shared.started("a")
    backend.create_namespace(DEMO, SPEC)
    backend.append(DEMO, record(0))
    assert backend.stop(WAIT_SECONDS_MAX)
    backend.append(DEMO, record(1))
    assert backend.figures(DEMO).dropped == 1
    assert not backend.figures(DEMO).connected
    _, heard = shared.started("b")
    assert heard.positions(DEMO) == [0]


# Namespaces


def test_a_namespace_is_created_once_and_known_everywhere(shared: Shared) -> None:
    (one, heard_one), (two, heard_two) = shared.started("a"), shared.started("b")
    spec = NamespaceSpec("demo", 100, "m", end_tokens=(2,), learn_prompts=True)
    assert one.create_namespace(DEMO, spec) == spec
    assert heard_one.namespaces == [(DEMO, spec)], "told before the call returns"
    assert two.create_namespace(DEMO, spec) == spec
    assert heard_two.namespaces == [(DEMO, spec)]
    with pytest.raises(AlreadyExists, match="demo"):
        two.create_namespace(DEMO, msgspec.structs.replace(spec, vocab_size=101))
    assert two.get_namespace(DEMO) == spec
    with pytest.raises(InvalidInput):
        one.create_namespace(DEMO, msgspec.structs.replace(spec, vocab_size=0))


def test_tenants_do_not_meet(shared: Shared) -> None:
    backend, heard = shared.started("a")
    mine, theirs = NamespaceKey("a", "demo"), NamespaceKey("b", "demo")
    backend.create_namespace(mine, SPEC)
    backend.create_namespace(theirs, NamespaceSpec("demo", 200))
    backend.append(mine, record(1))
    backend.corpora.put_block(mine, "docs", block("secret"))
    flushed(backend)
    assert heard.positions(mine) == [1]
    assert heard.positions(theirs) == []
    assert backend.corpora.names(mine) == ["docs"]
    assert backend.corpora.names(theirs) == []
    assert (
        backend.corpora.known_documents(theirs, "docs", [block("secret").documents[0].digest])
        == set()
    )
    assert [spec.vocab_size for spec in backend.list_namespaces("a")] == [100]
    assert [spec.vocab_size for spec in backend.list_namespaces("b")] == [200]
    backend.delete_namespace(mine)
    assert backend.get_namespace(theirs).vocab_size == 200


def test_delete_leaves_no_key(shared: Shared) -> None:
    (one, heard), (two, heard_too) = shared.started("a"), shared.started("b")
    other = NamespaceKey("local", "kept")
    one.create_namespace(DEMO, SPEC)
    one.create_namespace(other, NamespaceSpec("kept", 9))
    one.append(DEMO, record(1))
    for corpus in ("docs", "code"):
        one.corpora.put_block(DEMO, corpus, block("a"))
    one.corpora.publish(DEMO, "docs")
    flushed(one)
    assert shared.keys(DEMO) != []
    two.delete_namespace(DEMO)
    heard.wait_for(lambda: heard.namespaces[-1] == (DEMO, None))
    assert heard_too.namespaces[-1] == (DEMO, None)
    one.append(DEMO, record(2))
    flushed(one, two)
    assert shared.keys(DEMO) == []
    assert shared.keys(other) != []
    for lost in (one.get_namespace, one.corpora.names, one.delete_namespace):
        with pytest.raises(NotFound, match="demo"):
            lost(DEMO)
    with pytest.raises(NotFound):
        one.corpora.put_block(DEMO, "docs", block("a"))
    assert shared.keys(DEMO) == []


def test_created_again_it_starts_empty(shared: Shared) -> None:
    (one, heard), (two, heard_too) = shared.started("a"), shared.started("b")
    one.create_namespace(DEMO, SPEC)
    one.append(DEMO, record(1))
    flushed(one)
    two.delete_namespace(DEMO)
    wider = NamespaceSpec("demo", 200)
    two.create_namespace(DEMO, wider)
    heard.wait_for(lambda: (DEMO, wider) in heard.namespaces)
    assert heard.namespaces == [(DEMO, SPEC), (DEMO, None), (DEMO, wider)]
    one.append(DEMO, record(2))
    flushed(one)
    heard_too.wait_for(lambda: heard_too.positions(DEMO)[-1:] == [2])
    _, late = shared.started("c")
    assert late.positions(DEMO) == [2]
    assert one.figures(DEMO).appended == 1, "the figures are those of the new namespace"


def test_management_works_without_start(shared: Shared) -> None:
    backend = shared.open()
    backend.create_namespace(DEMO, SPEC)
    assert backend.corpora.put_block(DEMO, "docs", block("a"))
    backend.corpora.publish(DEMO, "docs")
    assert [spec.namespace for spec in backend.list_namespaces("local")] == ["demo"]
    assert backend.stop(0)


# Corpora


def test_a_corpus_is_announced_when_published_and_when_deleted(shared: Shared) -> None:
    (one, heard), (two, heard_too) = shared.started("a"), shared.started("b")
    one.create_namespace(DEMO, SPEC)
    one.corpora.put_block(DEMO, "docs", block("a"))
    with pytest.raises(NotFound):
        one.corpora.publish(DEMO, "other")
    flushed(one)
    assert heard.corpora == []
    one.corpora.publish(DEMO, "docs")
    assert heard.corpora == [(DEMO, "docs")], "told before the call returns"
    heard_too.wait_for(lambda: heard_too.corpora == [(DEMO, "docs")])
    assert len(two.corpora.content(DEMO, "docs").pending) == 1
    one.corpora.put_block(DEMO, "docs", block("b"))
    one.corpora.publish(DEMO, "docs")
    heard_too.wait_for(lambda: len(heard_too.corpora) == 2)
    late, heard_late = shared.started("c")
    assert heard_late.corpora == [(DEMO, "docs")], "what was published before start is told"
    two.corpora.delete(DEMO, "docs")
    heard.wait_for(lambda: len(heard.corpora) == 3)
    heard_late.wait_for(lambda: len(heard_late.corpora) == 2)
    assert late.corpora.names(DEMO) == []
    with pytest.raises(NotFound):
        two.corpora.delete(DEMO, "docs")
