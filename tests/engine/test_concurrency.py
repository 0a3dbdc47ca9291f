"""Several engines draft at once, while what they learn is being written beside them."""

import threading
from concurrent.futures import ThreadPoolExecutor

from retrieval_draft.config import Config
from retrieval_draft.drafting.sight import Limits
from retrieval_draft.engine import Engine
from retrieval_draft.errors import NotFound
from retrieval_draft.stats import stats_of
from retrieval_draft.step import Status
from tests.drafting.sights import broken_limit
from tests.engine.driving import (
    METHODS,
    SPEC,
    VOCAB,
    caller,
    learned,
    part,
    rows,
    running_engine,
    warm,
)

THREADS = 4
STEPS = 60
LIMITS = Limits(nodes_max=24)


def run_one(engine: Engine, seed: int) -> int:
    """One client decodes along a text of its own; returns how many tokens it committed."""
    calls = caller(engine)
    text = [(seed * 13 + p * p) % 17 for p in range(STEPS * 3 + 8)]
    stop = 8
    calls.step(part("s", 0, text[:stop], prompt=stop))
    for step in range(STEPS):
        method = METHODS[step % len(METHODS)]
        seen = rows([stop - 1], [[(stop + i) % VOCAB for i in range(8)]])
        new = text[stop : stop + 3]
        answer = calls.step(part("s", stop, new, rows=seen), method=method, nodes_max=24)
        assert answer.statuses == [Status.OK]
        assert not broken_limit(answer.trees[0], LIMITS, VOCAB)
        stop += len(new)
    calls.step(part("s", stop, [], finished=True))
    return stop - 8


def test_clients_draft_beside_each_other_while_the_applier_writes() -> None:
    config = Config(record_tokens=3, record_rows=1)
    with running_engine(config) as engine:
        with ThreadPoolExecutor(THREADS) as pool:
            committed = list(pool.map(lambda seed: run_one(engine, seed), range(THREADS * 2)))
        assert learned(engine) == sum(committed)
        (figures,) = stats_of(engine, "local").namespaces
        assert (figures.tokens, figures.rejected, figures.sequences) == (sum(committed), 0, 0)


def test_figures_can_be_read_and_corpora_replaced_while_drafting() -> None:
    with running_engine() as engine:
        done = threading.Event()

        def manage() -> int:
            rounds = 0
            while not done.is_set() or not rounds:
                warm(engine, "red", [1, 2, 3, rounds % VOCAB, 4])
                assert len(stats_of(engine, "local").namespaces) == 1
                rounds += 1
            return rounds

        with ThreadPoolExecutor(THREADS + 1) as pool:
            managed = pool.submit(manage)
            drafting = [pool.submit(run_one, engine, seed) for seed in range(THREADS)]
            try:
                assert all(one.result() == STEPS * 3 for one in drafting)
            finally:
                done.set()
            assert managed.result() > 0


def test_a_namespace_may_vanish_while_it_is_drafted_from() -> None:
    with running_engine() as engine:
        stop = threading.Event()

        def decode() -> set[Status]:
            calls, seen = caller(engine), set()
            while not stop.is_set():
                try:
                    calls.step(part("s", 0, [1, 2, 1, 2], prompt=4))
                    seen.update(calls.step(part("s", 4, [1])).statuses)
                except NotFound:
                    calls.step_id += 1
            return seen

        with ThreadPoolExecutor(THREADS) as pool:
            drafting = [pool.submit(decode) for _ in range(THREADS)]
            try:
                for _ in range(20):
                    engine.stores.delete("local", SPEC.namespace)
                    engine.stores.create("local", SPEC)
            finally:
                stop.set()
            seen = set().union(*(one.result() for one in drafting))
        assert seen <= {Status.OK, Status.RESYNC}
