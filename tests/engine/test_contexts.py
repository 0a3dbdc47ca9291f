"""A sequence's context, whatever its engine sends: repetitions, roll-backs, great length."""

import numpy as np
import pytest

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.sequence import Sequence
from retrieval_draft.store.kernels import windows
from retrieval_draft.store.ngrams import slots_in
from retrieval_draft.tree import DraftTree, Int32Array
from tests.engine.driving import (
    Caller,
    caller,
    learned,
    part,
    rows,
    running_engine,
    same,
    state_of,
)

MEGABYTE = 1_000_000
BEFORE = [(token * token + 3 * token) % 97 for token in range(60)]


def open_sequence(engine: Engine) -> Sequence:
    (one,) = engine.clients.open_sequences()
    return one


def knowledge(engine: Engine) -> dict[str, bytes]:
    """What the namespace's mixer and its learned tier hold, but for what is read past the end."""
    state = state_of(engine)
    mixer = {name: array.tobytes() for name, array in state.methods.mix.state().items()}
    del mixer["path_worth"], mixer["path_scale"]
    tier = state.learned
    ring = tier.ring
    return {
        **mixer,
        "common": b"".join(one.tobytes() for one in state.methods.mix._common),
        "ring": ring.read(ring.low, ring.stop).tobytes(),
        "counts": slots_in(ring.table).tobytes(),
        "matrix": tier.recycling.successors.tobytes(),
    }


@pytest.mark.parametrize("period", [1, 3, 16])
@pytest.mark.parametrize("observed", [False, True])
def test_a_loop_teaches_nothing_more_once_it_is_known_for_one(
    engine: Engine, calls: Caller, period: int, observed: bool
) -> None:
    loop = BEFORE[:period]
    other = part("other", 0, BEFORE[20:30], prompt=10)
    calls.step(part("s", 0, BEFORE, prompt=20))
    base = len(BEFORE)

    def repeat(tokens: int) -> None:
        nonlocal base
        for _ in range(tokens // 16):
            text = [loop[(base + k) % period] for k in range(16)]
            seen = rows([base + k for k in range(16)], [[t, 0] for t in text[1:] + text[:1]])
            calls.step(part("s", base, text, rows=seen if observed else None, nodes_max=0))
            base += 16

    repeat(160)
    learned(engine)
    before, tree = knowledge(engine), calls.tree(other)
    repeat(4_840)
    learned(engine)
    after = knowledge(engine)
    assert [name for name in before if after[name] != before[name]] == []
    again = calls.tree(other)
    assert len(tree) > 0
    assert tree.token.tolist() == again.token.tolist()


def test_what_is_rolled_back_and_comes_again_is_counted_once() -> None:
    tables = []
    for detours in (0, 3):
        with running_engine() as engine:
            calls = caller(engine)
            calls.step(part("s", 0, BEFORE, prompt=20))
            for detour in range(detours):
                calls.step(part("s", 60, [*range(70 + detour, 80), 9]))
                calls.step(part("s", 50, BEFORE[50:]))
            calls.step(part("s", 60, [1, 2, 3]))
            sequence = open_sequence(engine)
            ring = sequence.ring
            assert ring.read(ring.low, ring.stop).tolist() == [*BEFORE, 1, 2, 3]
            assert sequence.root.tails[0, :3].tolist() == [3, 2, 1]
            tables.append(followers_of(ring.table))
    assert tables[0] == tables[1]


def followers_of(table: Int32Array) -> dict[tuple[int, int], dict[int, int]]:
    """By part of the table and context: how often which token followed, as far as it did."""
    slots = slots_in(table)
    cut = len(slots) // windows.UNIT * windows.WIDE_WORDS
    found: dict[tuple[int, int], dict[int, int]] = {}
    for first, words in ((0, windows.WIDE_WORDS), (cut, windows.NARROW_WORDS)):
        room = words // 2 - 1
        stop = cut if first == 0 else len(slots)
        for at in range(first, stop, words):
            row = slots[at : at + words].tolist()
            pairs = zip(row[2 : 2 + room], row[2 + room :], strict=True)
            if known := {token: seen for token, seen in pairs if token >= 0 and seen > 0}:
                found[first, row[0]] = known
    return found


def test_a_long_context_stays_below_four_megabytes() -> None:
    dice = np.random.default_rng(1)
    text = dice.integers(0, 90, 32_768).tolist()
    with running_engine(Config(context_tokens_max=1 << 15)) as engine:
        calls = caller(engine)
        calls.step(part("s", 0, text[:20_000], prompt=20_000))
        calls.step(part("s", 20_000, text[20_000:]))
        sequence = open_sequence(engine)
        assert sequence.stop - sequence.low == 32_768
        root = sequence.root
        own = (root.tails, root.places, root.segments, root.corpus)
        assert sequence.nbytes + sum(array.nbytes for array in own) < 4 * MEGABYTE
        assert len(calls.tree(part("s", sequence.stop, [1, 2]), nodes_max=64)) == 64
        assert sequence.nbytes < 4 * MEGABYTE


def test_equal_sessions_have_equal_bytes() -> None:
    def session() -> tuple[dict[str, bytes], str, list[DraftTree]]:
        with running_engine() as engine:
            calls = caller(engine)
            trees = [calls.tree(part("s", 0, BEFORE, prompt=20))]
            for step in range(30):
                base = 60 + 2 * step
                trees.append(calls.tree(part("s", base, [step % 5, step % 7])))
                learned(engine)
            return knowledge(engine), state_of(engine).learned.digest(), trees

    one, other = session(), session()
    assert one[:2] == other[:2]
    assert all(same(a, b) for a, b in zip(one[2], other[2], strict=True))
