"""What replicas counted and learned, seen from each of them and from all together."""

import threading
from collections.abc import Mapping

import pytest

from retrieval_draft.drafting.root import Root
from retrieval_draft.engine import Engine
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import Unreachable
from retrieval_draft.metrics import COLUMNS, Counters, hits_of
from retrieval_draft.store.counts import COUNT_CHARACTERS_MAX, COUNTS_MAX
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.timing import BUCKETS, BUCKETS_PER_DOUBLING
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, int32s
from retrieval_draft.v1 import store_pb2
from tests.engine.driving import (
    METHODS,
    NAMESPACE,
    SPEC,
    TENANT,
    Caller,
    caller,
    part,
    recreate,
    running_engine,
    state_of,
    wait_for,
)

TEXT = [1, 2, 3, 4, 5, 1, 2, 3]
KEY = NamespaceKey(TENANT, NAMESPACE)


def decode(calls: Caller, name: str = "s") -> None:
    """A sequence of one verified step: the tree 4 5 1 2 3, of which 4 and 5 are kept."""
    calls.step(part(name, 0, TEXT, prompt=8), method="lookup")
    calls.step(
        part(name, 8, [4, 5, 9], verified_step=calls.step_id, accepted=2, finished=True),
        method="lookup",
    )


def fleet_of(engine: Engine, namespace: str = NAMESPACE) -> store_pb2.NamespaceStats:
    (one,) = EngineClient(engine).stats(namespace, fleet=True).namespaces
    return one


def own(engine: Engine, *, digest: bool = False) -> store_pb2.NamespaceStats:
    (one,) = EngineClient(engine).stats(NAMESPACE, digest=digest).namespaces
    return one


# Counting


def test_a_verified_tree_counts_at_the_match_length_where_it_was_made(
    engine: Engine, calls: Caller
) -> None:
    decode(calls)
    rows = [(h.name, h.steps, h.hits, h.drafted, h.accepted) for h in own(engine).match_lengths]
    assert rows == [("3", 1, 1, 5, 2)]
    long = list(range(40)) + list(range(20))
    calls.step(part("t", 0, long, prompt=60), method="lookup")
    calls.step(part("t", 60, [99], verified_step=calls.step_id, accepted=0), method="lookup")
    calls.step(part("u", 0, [50, 60, 70, 50], prompt=4), method="lookup")
    calls.step(part("u", 4, [60, 2], verified_step=calls.step_id, accepted=1), method="lookup")
    hits = [(h.name, h.steps, h.hits) for h in own(engine).match_lengths]
    assert hits == [("0", 1, 1), ("3", 1, 1), ("16", 1, 0)]


def test_all_counts_are_bounded_and_read_back_in_order() -> None:
    counters = Counters()
    counters.table[:] = 7
    for bucket in range(2 * BUCKETS):
        seconds = 1e-6 * 2 ** (bucket / BUCKETS_PER_DOUBLING)
        counters.timings.stepped(0.0, seconds, 2 * seconds, 3 * seconds)
        counters.timings.settled(seconds)
    counts = counters.counts()
    assert 1000 < len(counts) < COUNTS_MAX
    assert max(map(len, counts)) <= COUNT_CHARACTERS_MAX
    names = {kind: [row.name for row in hits_of(counts, kind)] for kind in ("tier", "source")}
    assert names == {"tier": list(TIERS), "source": list(SOURCES)}
    assert {row.name for row in hits_of(counts, "method")} == set(METHODS)
    depths = [int(row.name) for row in hits_of(counts, "depth")]
    assert depths == sorted(depths) == list(range(1, 65))
    assert [row.name for row in hits_of(counts, "match")][:3] == ["0", "3", "4"]
    assert all(f"depth:64:{column}" in counts for column in COLUMNS)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    """Deltas must add up to the totals exactly, probabilities included."""
    counters, summed, before = Counters(), dict[str, int](), dict[str, int]()
    tree = DraftTree(int32s([1, 2]), int32s([-1, 0]))
    tree.probability[:] = [0.7, 0.1]
    for kept in ([], [0], [0, 1]) * 5:
        committed = int32s([*tree.token[kept].tolist(), 9])
        assert counters.verified(tree, committed, len(kept), "mix", Root()) == len(kept)
        counters.committed(len(kept) + 1, 1)
        now = counters.counts()
        for name, value in now.items():
            summed[name] = summed.get(name, 0) + value - before.get(name, 0)
        before = now
    assert summed == counters.counts()
    assert summed["expected_thousandths"] == pytest.approx(15 * 0.8e3, abs=1)


# The fleet


def test_the_fleet_is_the_sum_of_its_replicas_whoever_is_asked() -> None:
    store = MemoryStore()
    with running_engine(store=store) as one, running_engine(store=store, replica="b") as two:
        for engine, sequences in ((one, 2), (two, 3)):
            calls = caller(engine)
            for i in range(sequences):
                decode(calls, f"s{i}")
            engine.report()
        assert [own(engine).steps for engine in (one, two)] == [2, 3]
        for engine in (one, two):
            fleet = fleet_of(engine)
            assert (fleet.steps, fleet.tokens, fleet.drafted, fleet.accepted) == (5, 15, 25, 10)
            assert fleet.expected == pytest.approx(own(one).expected + own(two).expected, abs=0.01)
            assert [h.accepted for h in fleet.depths[:3]] == [5, 5, 0]
            assert sum(h.accepted for h in fleet.match_lengths) == 10
            assert [(h.name, h.steps) for h in fleet.methods] == [("lookup", 5)]
            assert [r.replica_id.partition("/")[0] for r in fleet.replicas] == ["a", "b"]


def test_what_was_counted_survives_a_restart_and_is_reported_at_the_end() -> None:
    store = MemoryStore()
    with running_engine(store=store) as engine:
        decode(caller(engine))
    with running_engine(store=store) as engine:
        assert own(engine).steps == 0
        assert fleet_of(engine).steps == 1
        decode(caller(engine))
        engine.report()
        engine.report()
        assert fleet_of(engine).steps == 2


def test_counting_goes_on_in_the_background_without_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("retrieval_draft.reporter.REPORT_SECONDS", 0.01)
    with running_engine() as engine:
        decode(caller(engine))
        wait_for(lambda: fleet_of(engine).accepted == 2)


def test_created_anew_a_namespace_counts_from_0(engine: Engine, calls: Caller) -> None:
    decode(calls)
    engine.report()
    recreate(engine)
    assert fleet_of(engine).steps == 0
    decode(caller(engine))
    engine.report()
    assert fleet_of(engine).steps == 1


class Cut(MemoryBackend):
    """A backend that cannot be reached now and then; as the contract says, nothing gets lost."""

    def __init__(self) -> None:
        super().__init__()
        self.is_cut = False
        self.held: dict[str, int] = {}
        self.threads: set[str] = set()

    def add_counts(self, key: NamespaceKey, counts: Mapping[str, int]) -> None:
        self.threads.add(threading.current_thread().name)
        for name, value in counts.items():
            self.held[name] = self.held.get(name, 0) + value
        if self.is_cut:
            raise Unreachable("cut off by the test")
        super().add_counts(key, self.held)
        self.held = {}


def test_a_store_out_of_reach_delays_counts_and_disturbs_no_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("retrieval_draft.reporter.REPORT_SECONDS", 0.01)
    backend = Cut()
    engine = Engine(backend)
    engine.start("a")
    engine.stores.create(TENANT, SPEC)
    backend.is_cut = True
    calls = caller(engine)
    for i in range(3):
        decode(calls, f"s{i}")
    wait_for(lambda: "the fleet's counts wait" in caplog.text)
    assert caplog.text.count("the fleet's counts wait") == 1
    decode(calls, "last")
    assert backend.counts(KEY).counts == {}
    backend.is_cut = False
    wait_for(lambda: backend.counts(KEY).counts.get("steps") == 4)
    assert backend.threads == {"counts"}, "never from a thread that drafts"
    engine.stop()
    assert backend.counts(KEY).counts["accepted"] == 8


# Digests


def test_replicas_at_equal_positions_have_equal_digests() -> None:
    store = MemoryStore()
    with running_engine(store=store) as one, running_engine(store=store, replica="b") as two:
        empty = own(one, digest=True)
        assert empty.journal_position == ""
        decode(caller(one))
        assert one.flush(20)
        wait_for(lambda: own(two).journal_position == own(one).journal_position != "")
        first, second = (own(engine, digest=True) for engine in (one, two))
        assert first.learned_digest == second.learned_digest != empty.learned_digest
        assert own(one).learned_digest == "", "only if asked: it costs"
        assert state_of(two).counters.steps == 0
