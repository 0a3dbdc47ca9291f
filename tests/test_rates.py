"""Rates follow from counts, and what came between two readings is their difference."""

import math

import numpy as np
import pytest

from retrieval_draft.drafting.kernels.bins import SCOPES
from retrieval_draft.drafting.kernels.evidence import LENGTH
from retrieval_draft.drafting.root import Root
from retrieval_draft.metrics import Counters
from retrieval_draft.rates import mean_accepted_length, quantile_us, rates_of, since
from retrieval_draft.stats import _counted
from retrieval_draft.store.keys import NamespaceKey
from retrieval_draft.timing import KEPT, Timings, timings_of
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import store_pb2 as pb

KEY = NamespaceKey("local", "n")


def read(counters: Counters) -> pb.NamespaceStats:
    return _counted(KEY, counters.counts())


def agreeing(length: int) -> Root:
    """A root whose context's end stood before over so many tokens."""
    root = Root()
    root.places[0, 0, LENGTH], root.segments[0, SCOPES] = length, 1
    return root


def verify(counters: Counters, kept: list[int]) -> None:
    """A step whose tree has two nodes, of 0.75 and 0.25."""
    probability = np.array([0.75, 0.25], np.float32)
    source = np.array([1 << 0 | 1 << 8, 1 << 2 | 1 << 15], np.uint32)
    tree = DraftTree(int32s([5, 6]), int32s([-1, 0]), probability, source)
    committed = int32s([*tree.token[kept].tolist(), 9])
    assert counters.verified(tree, committed, -1, "mix", agreeing(9)) == len(kept)
    counters.committed(len(kept) + 1, 1)


def test_rates_are_as_defined() -> None:
    counters = Counters()
    for kept in ([0, 1], [0], [], []):
        verify(counters, kept)
    counters.committed(4, 4)  # steps without a draft
    found = rates_of(read(counters))
    assert found.mat == 11 / 8
    assert found.acceptance_rate == 3 / 8
    assert found.mean_accepted_length == 1 + 3 / 4
    assert found.wasted == 5
    assert found.expected_over_kept == pytest.approx(4 / 3)
    # Two of four were kept where 0.75 was said, one of four where 0.25 was.
    assert found.calibration_error == pytest.approx((1 + 0) / 8)
    assert found.nodes == 2
    assert found.corpus_coverage == 1


def test_without_a_step_no_rate_is_made_up() -> None:
    found = rates_of(pb.NamespaceStats())
    rates = (found.mat, found.acceptance_rate, found.mean_accepted_length, found.nodes)
    assert all(map(math.isnan, rates))


def test_rows_say_what_they_brought() -> None:
    counters = Counters()
    for kept in ([0, 1], [0], []):
        verify(counters, kept)
    found = read(counters)
    tiers = {row.name: row for row in found.tiers}
    assert tiers.keys() == {"context", "corpus"}
    corpus = tiers["corpus"]
    assert (corpus.steps, corpus.hits, corpus.drafted, corpus.accepted) == (3, 1, 3, 1)
    assert corpus.expected == pytest.approx(0.75)
    assert mean_accepted_length(corpus) == pytest.approx(4 / 3)
    assert [(row.name, row.drafted, row.accepted) for row in found.tenths] == [
        ("2", 3, 1),
        ("7", 3, 2),
    ]
    assert [(row.name, row.steps, row.drafted) for row in found.sizes] == [("2", 3, 6)]
    assert [(row.name, row.steps) for row in found.match_lengths] == [("8", 3)]


def test_what_came_between_two_readings_is_counted_alone() -> None:
    counters = Counters()
    verify(counters, [0, 1])
    counters.timings.stepped(0.0, 1e-5, 2e-5, 3e-5)
    before = read(counters)
    verify(counters, [])
    for _ in range(3):
        counters.timings.stepped(0.0, 1e-3, 2e-3, 4e-3)
    new = since(before, read(counters))
    assert (new.steps, new.tokens, new.drafted, new.accepted) == (1, 1, 2, 0)
    assert {row.name: (row.steps, row.accepted) for row in new.tiers} == {
        "context": (1, 0),
        "corpus": (1, 0),
    }
    step = next(timing for timing in new.timings if timing.stage == "step")
    assert step.count == 3
    assert step.p50_us == pytest.approx(4000, rel=0.1)


def test_a_reading_after_a_restart_is_all_new() -> None:
    old, fresh = Counters(), Counters()
    for _ in range(3):
        verify(old, [0])
    verify(fresh, [0])
    assert since(read(old), read(fresh)).steps == 1


@pytest.mark.parametrize("field", ["tiers", "timings", "rejected"])
def test_any_count_that_fell_tells_of_a_new_life(field: str) -> None:
    """Steps may have risen beyond those of before: sums over namespaces, of which one was deleted."""
    old, fresh = Counters(), Counters()
    verify(old, [0])
    if field == "tiers":
        old.table *= 3
    elif field == "timings":
        for _ in range(3):
            old.timings.stepped(0.0, 1e-3, 2e-3, 4e-3)
    else:
        old.rejected = 3
    for _ in range(2):
        verify(fresh, [0])
        fresh.timings.stepped(0.0, 1e-3, 2e-3, 4e-3)
    assert since(read(old), read(fresh)) == read(fresh)


def test_times_are_within_a_tenth_whatever_they_are() -> None:
    rng = np.random.default_rng(5)
    seconds = np.exp(rng.uniform(np.log(2e-6), np.log(2.0), 3 * KEPT))
    timings = Timings()
    for one in seconds.tolist():
        timings.stepped(7.0, 7.0 + one, 7.0 + one, 7.0 + one)
    (take, draft, _, step) = timings_of(dict(timings.counts()))
    assert (take.stage, draft.stage, step.stage) == ("take", "draft", "step")
    assert take.count == step.count == len(seconds)
    assert step.sum_us == pytest.approx(seconds.sum() * 1e6, rel=0.01)
    told = pb.Timing(
        count=step.count,
        bounds_us=[bound for bound, _ in step.buckets],
        counts=[count for _, count in step.buckets],
    )
    for share in (0.01, 0.5, 0.99):
        wanted = float(np.quantile(seconds, share)) * 1e6
        assert quantile_us(told, share) == pytest.approx(wanted, rel=0.1)
    recent = float(np.quantile(seconds[-KEPT:], 0.5)) * 1e6
    assert timings.step_us_quantile(0.5) == pytest.approx(recent, rel=0.01)
