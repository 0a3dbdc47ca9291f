"""What of a sequence is learned: each position once, and only what may be."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.step import Learning, SequenceStart, Status
from retrieval_draft.store.memory_store import MemoryStore
from retrieval_draft.store.records import decode_batch
from tests.engine.driving import (
    SPEC,
    Caller,
    caller,
    learned,
    learned_text,
    part,
    running_engine,
    state_of,
    wait_for,
)

PROMPT, OUTPUT = [1, 2, 3, 4], [5, 6, 7]


def run_one(calls: Caller, learning: Learning, learn_from: int = 0) -> None:
    start = SequenceStart(0, learning=learning, learn_from=learn_from)
    calls.step(part("s", 0, PROMPT, prompt=4, start=start))
    calls.step(part("s", 4, OUTPUT, finished=True))


@pytest.mark.parametrize(
    ("learning", "tokens"),
    [
        (Learning.NONE, 0),
        (Learning.OUTPUT, 3),
        (Learning.PROMPT_AND_OUTPUT, 7),
        (Learning.UNSPECIFIED, 3),
    ],
)
def test_a_sequence_says_what_of_it_is_learned(
    engine: Engine, calls: Caller, learning: Learning, tokens: int
) -> None:
    run_one(calls, learning)
    assert learned(engine) == tokens


@pytest.mark.parametrize(
    ("learning", "tokens"),
    [(Learning.NONE, 0), (Learning.OUTPUT, 3), (Learning.UNSPECIFIED, 7)],
)
def test_prompts_are_learned_where_the_namespace_opted_in_and_the_sequence_does_not_object(
    learning: Learning, tokens: int
) -> None:
    with running_engine(spec=msgspec.structs.replace(SPEC, learn_prompts=True)) as engine:
        run_one(caller(engine), learning)
        assert learned(engine) == tokens


def test_outputs_are_learned_with_the_tokens_before_them_as_context(
    engine: Engine, calls: Caller
) -> None:
    run_one(calls, Learning.OUTPUT)
    assert learned_text(engine) == [-1, *PROMPT, *OUTPUT]


def test_what_one_sequence_learned_is_drafted_for_the_next(engine: Engine, calls: Caller) -> None:
    run_one(calls, Learning.OUTPUT)
    assert learned(engine) == 3
    tree = calls.tree(part("t", 0, [9, 4], prompt=2), method="suffix")
    assert tree.token.tolist() == OUTPUT


def test_nothing_of_a_sequence_that_is_not_learned_reaches_another(
    engine: Engine, calls: Caller
) -> None:
    run_one(calls, Learning.NONE)
    learned(engine)
    for method in ("mix", "suffix", "recycling"):
        assert len(calls.tree(part("t", 0, [9, 4], prompt=2), method=method)) == 0


def test_after_a_resync_nothing_is_learned_twice(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, PROMPT, prompt=4))
    calls.step(part("s", 4, OUTPUT))
    engine.finish_sequences("local", calls.client_id, ["s"])
    assert calls.step(part("s", 7, [8])).statuses == [Status.RESYNC]
    start = SequenceStart(0, learn_from=7)
    calls.step(part("s", 0, [*PROMPT, *OUTPUT, 8], prompt=4, start=start))
    calls.step(part("s", 8, [9], finished=True))
    assert learned(engine) == 5
    assert learned_text(engine) == [-1, *PROMPT, *OUTPUT, -1, *PROMPT, *OUTPUT, 8, 9]


def test_long_outputs_are_learned_while_they_are_written() -> None:
    with running_engine(Config(record_tokens=8)) as engine:
        calls = caller(engine)
        calls.step(part("s", 0, [0], prompt=1))
        for position in range(1, 21):
            calls.step(part("s", position, [position]))
        assert learned(engine) == 16
        assert learned_text(engine) == [-1, *range(17)], "one text, not one for every record"


def test_stopping_the_engine_learns_what_open_sequences_had_not_yet(engine: Engine) -> None:
    store = MemoryStore()
    with running_engine(store=store) as first:
        caller(first).step(part("s", 0, [*PROMPT, *OUTPUT], prompt=4))
    with running_engine(store=store, replica="b") as second:
        assert learned(second) == 3


roll_backs = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 6), st.integers(0, 8)),  # back, and so many tokens again
        st.sampled_from(["lost", "resync"]),
    ),
    max_size=12,
)


def said(position: int) -> int:
    """The token there, of the vocabulary however far the changes lead."""
    return 50 + position % 49


def journalled(store: MemoryStore) -> list[int]:
    """The positions of all tokens in the journal."""
    (space,) = store.spaces.values()
    records = [record for entry in space.entries for record in decode_batch(entry).records]
    return [record.position + i for record in records for i in range(len(record.tokens) // 4)]


@settings(deadline=None, max_examples=150)
@given(roll_backs, st.integers(1, 9))
def test_each_position_is_learned_once_whatever_is_rolled_back_or_sent_again(
    changes: list[tuple[int, int] | str], record_tokens: int
) -> None:
    store = MemoryStore()
    with running_engine(Config(record_tokens=record_tokens), store=store) as engine:
        calls = caller(engine)
        calls.step(part("s", 0, PROMPT, prompt=4))
        stop, furthest = 4, 4
        # Rolled back when the drafter forgot the sequence: it cannot know what it had learned.
        lost: set[int] = set()
        for change in changes:
            if change == "lost":
                calls.again(part("s", 1, [99]))
            elif change == "resync":
                engine.finish_sequences("local", calls.client_id, ["s"])
                lost.update(range(stop, furthest))
                again = [said(p) for p in range(stop)]
                start = SequenceStart(0, learn_from=furthest)
                calls.step(part("s", 0, again, prompt=4, start=start))
            elif isinstance(change, tuple):
                base = max(4, stop - change[0])
                stop = base + change[1]
                furthest = max(furthest, stop)
                calls.step(part("s", base, [said(p) for p in range(base, stop)]))
        calls.step(part("s", stop, [], finished=True))
        count = learned(engine)
        positions = journalled(store)
        assert len(positions) == len(set(positions)) == count
        assert set(range(4, stop)) - lost <= set(positions) <= set(range(4, furthest))


def test_two_engines_over_one_store_learn_the_same() -> None:
    store = MemoryStore()
    with (
        running_engine(store=store, replica="a") as one,
        running_engine(store=store, replica="b") as other,
    ):
        for number in range(6):
            for engine, calls in ((one, caller(one)), (other, caller(other))):
                text = [(number * 7 + p) % 90 for p in range(70)]
                calls.step(part("s", 0, text, prompt=4))
                calls.step(part("s", 70, [number], finished=True))
                learned(engine)
        wait_for(lambda: learned(one) == learned(other) == 12 * 67)
        assert state_of(one).learned.digest() == state_of(other).learned.digest()
        tree = caller(other).tree(part("t", 0, [9, 10, 11], prompt=3), method="suffix")
        assert tree.token.tolist()[:2] == [12, 13]
