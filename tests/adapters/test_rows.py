"""Telling sequences apart by their tokens, drafts as chains, and the names of what they share."""

import numpy as np
import pytest

from retrieval_draft.adapters.chain import chain_of
from retrieval_draft.adapters.tracking import TAIL_TOKENS, Tracker
from retrieval_draft.namespace_names import model_namespace, namespace_of
from retrieval_draft.store.keys import NAMESPACE_CHARACTERS_MAX, NamespaceKey
from retrieval_draft.tree import EMPTY, DraftTree, int32s
from tests.adapters.stacks import random_text


def tree(tokens: list[int], parents: list[int], probabilities: list[float]) -> DraftTree:
    return DraftTree(int32s(tokens), int32s(parents), np.array(probabilities, np.float32))


def test_a_chain_is_the_most_probable_path() -> None:
    drafted = tree([5, 6, 7, 8, 9], [-1, -1, 1, 1, 2], [0.3, 0.6, 0.2, 0.4, 0.1])
    assert chain_of(drafted, 100, 8) == [6, 8]
    assert chain_of(drafted, 100, 1) == [6]
    assert chain_of(drafted, 100, 0) == []
    assert chain_of(EMPTY, 100, 8) == []


def test_a_chain_ends_before_what_is_no_token_and_is_of_plain_ints() -> None:
    drafted = tree([5, 6, 100, 7], [-1, 0, 1, 2], [0.9, 0.8, 0.7, 0.6])
    found = chain_of(drafted, 100, 8)
    assert found == [5, 6]
    assert all(type(token) is int for token in found)
    assert chain_of(tree([-1, 4], [-1, 0], [0.9, 0.8]), 100, 8) == []


def names(tracker: Tracker, now: float, *rows: tuple[list[int], int]) -> list[str]:
    return tracker.names([int32s(text) for text, _ in rows], [fresh for _, fresh in rows], now)


def test_rows_keep_their_names_when_they_move() -> None:
    tracker = Tracker(60)
    a, b, c = random_text(1), random_text(2), random_text(3)
    first = names(tracker, 0, (a[:40], 1), (b[:40], 1), (c[:40], 1))
    assert len(set(first)) == 3
    # The first is preempted, the others swap rows and grow by what was accepted.
    second = names(tracker, 1, (c[:45], 5), (b[:42], 2))
    assert second == [first[2], first[1]]
    third = names(tracker, 2, (b[:43], 1), (a[:41], 1), (c[:46], 1))
    assert third == [first[1], first[0], first[2]]


def test_equal_rows_keep_to_their_rows() -> None:
    tracker, text = Tracker(60), random_text(1)
    first = names(tracker, 0, (text[:40], 1), (text[:40], 1))
    assert len(set(first)) == 2
    # From here on they differ.
    one, other = [*text[:40], 7], [*text[:40], 8]
    second = names(tracker, 1, (one, 1), (other, 1))
    assert second == first
    assert names(tracker, 2, ([*other, 1], 1), ([*one, 1], 1)) == first[::-1]


def test_a_row_of_this_step_is_not_taken_for_one_that_ends_in_it() -> None:
    tracker, text = Tracker(60), random_text(1)
    (first,) = names(tracker, 0, (text[:40], 1))
    found = names(tracker, 1, (text[:41], 1), (text[:42], 1))
    assert found[0] == first
    assert found[1] != first


def test_other_texts_of_one_length_are_others() -> None:
    tracker = Tracker(60)
    (first,) = names(tracker, 0, (random_text(1)[:40], 1))
    (second,) = names(tracker, 1, (random_text(2)[:41], 1))
    assert first != second


def test_what_is_long_gone_is_forgotten() -> None:
    tracker, text, other = Tracker(60), random_text(1), random_text(2)
    (first,) = names(tracker, 1000, (text[:TAIL_TOKENS], 1))
    names(tracker, 1059, (other[:40], 1))
    assert names(tracker, 1059, (text[: TAIL_TOKENS + 1], 1)) == [first]
    assert tracker.gone(1059) == []
    names(tracker, 1200, (other[:41], 1))
    assert first in tracker.gone(1200)
    assert names(tracker, 1200, (text[: TAIL_TOKENS + 2], 1)) != [first]


def test_namespaces_of_adapters_and_salts_are_valid_and_distinct() -> None:
    cases = [
        ("base", "", ""),
        ("base", "sql", ""),
        ("base", "sql", "s"),
        ("base", "", "s"),
        ("base", "", "t"),
        ("base", "a b", ""),
        ("base", "a-b", ""),
        ("base", "a/b", ""),
        ("base", "é" * 300, ""),
        ("base", "é" * 301, ""),
        ("b" * NAMESPACE_CHARACTERS_MAX, "x", ""),
        ("b" * NAMESPACE_CHARACTERS_MAX, "y", ""),
    ]
    found = [namespace_of(*case) for case in cases]
    assert len(set(found)) == len(cases)
    for name in found:
        assert len(name) <= NAMESPACE_CHARACTERS_MAX
        assert NamespaceKey("local", name).namespace == name
    assert namespace_of("base", salt="hunter2").find("hunter2") < 0


@pytest.mark.parametrize(
    ("model", "name"),
    [("org/Llama-3.1", "Llama-3.1"), ("/models/my llama/", "my-llama"), ("", "model")],
)
def test_a_model_names_its_namespace(model: str, name: str) -> None:
    assert model_namespace(model) == name


def test_models_whose_long_names_end_otherwise_share_nothing() -> None:
    names = [f"DeepSeek-R1-Distill-Qwen-32B-quantized.{kind}" for kind in ("w8a8", "w4a16")]
    assert [model_namespace(f"org/{name}") for name in names] == names
    assert len(model_namespace("x" * 500)) == NAMESPACE_CHARACTERS_MAX
