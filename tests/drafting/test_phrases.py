"""The phrase pool: what feeds it, what gives way, and what it drafts."""

import numpy as np

from retrieval_draft.drafting.phrases import PHRASES_MAX, PhrasePool, Phrases
from retrieval_draft.drafting.sight import Limits, Verified
from retrieval_draft.engine import Engine
from retrieval_draft.step import Learning, Rows, SequenceStart
from retrieval_draft.tree import DraftTree, int32s
from tests.drafting.sights import ring_of, sight
from tests.engine.driving import caller as caller_of
from tests.engine.driving import listed, part, running_engine

LIMITS = Limits(nodes_max=80)


def first_tokens(method: Phrases, last: int) -> list[int]:
    tree = method.draft(sight([last]), LIMITS).tree
    return [token for token, parent in listed(tree) if parent < 0]


def test_a_phrase_is_taken_when_its_six_tokens_are_committed() -> None:
    method = Phrases()
    method.learn(Verified(ring_of([1, 2, 3, 4, 5, 6]), 3))
    assert first_tokens(method, 1) == []
    # 7 completes the phrase after 1, and 8 that after 2; 3 has five tokens behind it.
    method.learn(Verified(ring_of([1, 2, 3, 4, 5, 6, 7, 8]), 2))
    tree = method.draft(sight([9, 1]), LIMITS).tree
    assert listed(tree) == [(2, -1), (3, 0), (4, 1), (5, 2), (6, 3), (7, 4)]
    assert [first_tokens(method, token) for token in (2, 3)] == [[3], []]


def test_phrases_come_newest_first_and_share_prefixes() -> None:
    pool = PhrasePool()
    for phrase in ([2, 3, 4], [5, 6], [2, 9], [2, 3, 4]):
        pool.add(1, phrase)
    rows = [np.frombuffer(row, np.int32).tolist() for row in pool.newest_first(1)]
    assert rows == [[2, 3, 4, -1, -1, -1], [2, 9, -1, -1, -1, -1], [5, 6, -1, -1, -1, -1]]


def test_the_least_recently_seen_phrase_and_token_give_way() -> None:
    pool = PhrasePool(tokens_max=2)
    for other in range(PHRASES_MAX + 1):
        pool.add(1, [other])
        pool.add(1, [0])
    first = [np.frombuffer(row, np.int32)[0] for row in pool.newest_first(1)]
    assert first == [0, *range(PHRASES_MAX, 1, -1)], "0 was seen again and again, 1 is gone"
    pool.add(2, [7])
    pool.newest_first(1)
    pool.add(3, [7])
    assert [bool(pool.newest_first(key)) for key in (1, 2, 3)] == [True, False, True]


def test_what_the_target_would_have_said_along_a_rejected_tail_is_taken() -> None:
    # Drafted 2, 3, 4, 5 after 1; 2 was kept, then the target said 9. After the rejected 3, 4 and 5 it
    # would have said 6, 7 and 8.
    tree = DraftTree(int32s([2, 3, 4, 5]), int32s([-1, 0, 1, 2]))
    rows = Rows(
        int32s([-1, -2, -3, -4]), int32s([[9], [6], [7], [8]]), np.empty((4, 0), np.float32)
    )
    method = Phrases()
    method.learn(Verified(ring_of([1, 2, 9]), 2, tree, rows))
    assert listed(method.draft(sight([6]), LIMITS).tree) == [(7, -1), (8, 0)]
    assert first_tokens(method, 7) == [8]
    assert first_tokens(method, 9) == []


def test_the_pool_is_shared_in_the_namespace_and_sequences_may_stay_out_of_it() -> None:
    def told(engine: Engine, learning: Learning) -> int:
        calls, start = caller_of(engine), SequenceStart(0, learning=learning)
        calls.step(part("s", 0, [50, 1], prompt=2, start=start), method="phrases")
        calls.step(part("s", 2, [2, 3, 4, 5, 6, 7], finished=True), method="phrases")
        return len(calls.tree(part("t", 0, [60, 1], prompt=2), method="phrases"))

    with running_engine() as engine:
        assert told(engine, Learning.NONE) == 0
        assert told(engine, Learning.OUTPUT) == 6
