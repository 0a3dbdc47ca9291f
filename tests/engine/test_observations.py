"""What the target predicted becomes rows of the recycling matrix."""

from pathlib import Path

import numpy as np
import pytest

from retrieval_draft.config import Config
from retrieval_draft.drafting.templates import Template
from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import Learning, Rows, SequenceStart, Status
from retrieval_draft.store.kernels import stand as kernels
from retrieval_draft.store.memory_backend import MemoryBackend
from retrieval_draft.tree import int32s
from tests.engine.driving import (
    Caller,
    caller,
    learned,
    listed,
    part,
    rows,
    running_engine,
    state_of,
)

TOP = [[10, 11, 12], [20, 21, 22], [30, 31, 32]]


def row(engine: Engine, key: int) -> list[int]:
    learned(engine)
    found: list[int] = state_of(engine).learned.recycling.successors[key].tolist()
    return [token for token in found if token >= 0]


def expected(engine: Engine, *gram: int) -> list[int]:
    """What STAND's table expects after these tokens."""
    learned(engine)
    grams, tokens = state_of(engine).learned.stand.grams, int32s(gram)
    slot = kernels.find(grams.keys, kernels.gram_key(tokens, len(gram), len(gram)))
    found: list[int] = grams.tokens[slot].tolist() if slot >= 0 else []
    return [token for token in found if token >= 0]


def test_predictions_along_the_prompt_are_learned(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, [1, 2, 3], prompt=3, rows=rows([0, 1, 2], TOP)))
    calls.step(part("s", 3, [30], finished=True))
    assert [row(engine, key) for key in (1, 2, 3)] == TOP


def test_of_a_tokens_predictions_the_newest_counts(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, [1, 1, 1], prompt=3, rows=rows([0, 1, 2], TOP)))
    calls.step(part("s", 3, [30], finished=True))
    assert row(engine, 1) == TOP[2]


def test_predictions_along_the_path_and_after_rejected_nodes_are_learned(
    engine: Engine, calls: Caller
) -> None:
    tree = calls.tree(part("s", 0, [1, 2, 3, 4, 1, 2], prompt=6), method="lookup")
    assert tree.token.tolist() == [3, 4, 1, 2]
    seen = rows([5, -1, -2], TOP)  # after the last token, and after nodes 0 and 1
    calls.step(part("s", 6, [3, 9], rows=seen, verified_step=1, accepted=1))
    calls.step(part("s", 8, [], finished=True))
    assert [row(engine, key) for key in (2, 3, 4)] == TOP


def test_predictions_after_nodes_of_an_unknown_tree_are_dropped_and_the_others_kept(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, [1, 2, 3, 4, 1, 2], prompt=6), method="lookup")
    seen = rows([6, -1, -99], TOP)
    calls.step(part("s", 6, [3, 9], rows=seen, verified_step=7, accepted=1))
    calls.step(part("s", 8, [], finished=True))
    assert row(engine, 3) == TOP[0]
    assert row(engine, 4) == []


def test_positions_that_the_sequence_does_not_have_are_passed_over(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, [1, 2], prompt=2, rows=rows([0, 2, 2**31 - 1], TOP)))
    calls.step(part("s", 2, [], finished=True))
    assert row(engine, 1) == TOP[0]


@pytest.mark.parametrize("token", [-1, 100, 2**31 - 1])
def test_predicted_ids_outside_the_vocabulary_are_rejected(
    engine: Engine, calls: Caller, token: int
) -> None:
    answer = calls.step(part("s", 0, [1, 2], prompt=2, rows=rows([0], [[5, token, 6]])))
    assert answer.statuses == [Status.REJECTED]
    assert answer.problems[0].field == "observations.tokens"
    assert answer.problems[0].value == str(token)
    assert answer.problems[0].limit == "0 to 99"
    assert engine.clients.count() == 0


def test_predictions_without_probabilities_are_learned_too(engine: Engine, calls: Caller) -> None:
    bare = Rows(int32s([0]), int32s([TOP[0]]), np.empty((1, 0), np.float32))
    calls.step(part("s", 0, [1, 2], prompt=2, rows=bare))
    calls.step(part("s", 2, [], finished=True))
    assert row(engine, 1) == TOP[0]


@pytest.mark.parametrize("logprob", [float("nan"), float("inf"), float("-inf"), -3e38, 3e38])
def test_odd_log_probabilities_do_no_harm(engine: Engine, calls: Caller, logprob: float) -> None:
    odd = Rows(int32s([0]), int32s([TOP[0]]), np.full((1, 3), logprob, np.float32))
    assert calls.step(part("s", 0, [1, 2], prompt=2, rows=odd)).statuses == [Status.OK]
    calls.step(part("s", 2, [], finished=True))
    assert row(engine, 1) == TOP[0]


def test_more_predictions_than_the_matrix_is_wide_are_cut(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, [1, 2], prompt=2, rows=rows([0], [list(range(10, 30))])))
    calls.step(part("s", 2, [], finished=True))
    assert row(engine, 1) == list(range(10, 18))


def test_what_followed_moves_to_the_front_where_nothing_was_predicted(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, [1, 5, 1, 6, 1, 5], prompt=0, finished=True))
    assert row(engine, 1) == [5, 6]


def test_a_sequence_that_is_not_learned_leaves_no_predictions(
    engine: Engine, calls: Caller
) -> None:
    start = SequenceStart(0, learning=Learning.NONE)
    calls.step(part("s", 0, [1, 2], prompt=2, start=start, rows=rows([0], [[5, 6]])))
    calls.step(part("s", 2, [], finished=True))
    assert row(engine, 1) == []


def test_recycling_drafts_what_was_predicted(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, [1, 2], prompt=2, rows=rows([0, 1], [[7, 8], [9, 3]])))
    calls.step(part("s", 2, [], finished=True))
    learned(engine)
    tree = calls.tree(part("t", 0, [50, 1], prompt=2), method="recycling")
    assert tree.token.tolist() == [7, 8]


def test_predictions_are_learned_after_the_n_grams_that_they_followed(
    engine: Engine, calls: Caller
) -> None:
    tree = calls.tree(part("s", 0, [1, 2, 3, 4, 1, 2], prompt=6), method="lookup")
    assert tree.token.tolist() == [3, 4, 1, 2]
    # After the prompt, after the accepted 3, and after the rejected 4 and 1 (nodes 0, 1 and 2).
    seen = rows([5, -1, -2, -3], [*TOP, [40, 41, 42]])
    calls.step(part("s", 6, [3, 9], rows=seen, verified_step=1, accepted=1))
    calls.step(part("s", 8, [8], finished=True))
    assert expected(engine, 3, 4, 1, 2) == expected(engine, 2) == TOP[0]
    assert expected(engine, 4, 1, 2, 3) == expected(engine, 3) == TOP[1]
    assert expected(engine, 1, 2, 3, 4) == expected(engine, 4) == TOP[2]
    assert expected(engine, 2, 3, 4, 1) == [40, 41, 42]
    assert expected(engine, 1, 2, 3, 9) == [8], "no prediction came: what was committed"


def test_a_prompt_gives_no_more_than_one_token_of_context_away(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, [1, 2, 3], prompt=3, rows=rows([0, 1, 2], TOP)))
    calls.step(part("s", 3, [30], finished=True))
    assert expected(engine, 2) == TOP[1]
    assert expected(engine, 1, 2) == []
    assert expected(engine, 1, 2, 3) == TOP[2], "it predicted what was learned"


def test_another_static_tree_can_be_given(tmp_path: Path) -> None:
    Template((-1,), (1,)).write(tmp_path / "tree.json")
    with running_engine(Config(stand_tree=tmp_path / "tree.json")) as engine:
        calls = caller(engine)
        calls.step(part("s", 0, [1, 2], prompt=2, rows=rows([0], [[7, 8]])))
        calls.step(part("s", 2, [9], finished=True))
        learned(engine)
        tree = calls.tree(part("t", 0, [50, 1], prompt=2), method="stand")
        assert listed(tree) == [(8, -1)], "the second best alone"
    (tmp_path / "tree.json").write_text("{}")
    with pytest.raises(InvalidInput, match="template"):
        Engine(MemoryBackend(), Config(stand_tree=tmp_path / "tree.json"))


def test_stand_drafts_from_what_was_predicted_and_a_retry_draws_the_same(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, [1, 2], prompt=2, rows=rows([0, 1], [[7, 8], [9, 3]])))
    calls.step(part("s", 2, [9], finished=True))
    learned(engine)
    greedy = calls.tree(part("t", 0, [50, 1], prompt=2), method="stand")
    assert listed(greedy) == [(7, -1), (8, -1)]
    assert greedy.proposals is None
    hot = SequenceStart(0, temperature=0.8)
    opening = part("u", 0, [50, 1], prompt=2, start=hot)
    drawn = calls.tree(opening, method="stand", seed=9)
    assert drawn.proposals is not None
    assert sorted(drawn.token.tolist()) == [7, 8]
    again = calls.again(opening, method="stand", seed=9).trees[0]
    assert listed(again) == listed(drawn)
