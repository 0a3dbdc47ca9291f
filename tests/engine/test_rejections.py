"""Wrong input: what concerns one sequence is its own status, what concerns the message refuses it."""

from typing import Any

import msgspec
import numpy as np
import pytest

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import InvalidInput, NotFound, NotServed
from retrieval_draft.step import (
    DraftOptions,
    SequenceStart,
    SequenceStep,
    Status,
    VerifyCost,
)
from retrieval_draft.tree import DraftTree, int32s
from tests.engine.driving import SPEC, VOCAB, Caller, caller, part, rows, running_engine, warm

TEXT = [1, 2, 3, 1, 2]
CONFIG = Config()
MOST = 2**31 - 1


def opening(**fields: Any) -> SequenceStep:
    return part("s", 0, TEXT, start=SequenceStart(5, **fields), prompt=fields.get("prompt", 5))


def tree(token: list[int], parent: list[int]) -> DraftTree:
    return DraftTree(int32s(token), int32s(parent))


BAD = {
    "a negative id": (part("s", 0, [1, -1], prompt=2), "tokens", "-1", "0 to 99"),
    "an id of the vocabulary's size": (
        part("s", 0, [1, 100], prompt=2), "tokens", "100", "0 to 99",
    ),
    "an empty name": (part("", 0, TEXT, prompt=5), "sequence_ids", "''", "1 to 256 characters"),
    "a name too long": (
        part("n" * 257, 0, TEXT, prompt=5), "sequence_ids", "'nnn", "1 to 256 characters",
    ),
    "a negative base": (part("s", -1, TEXT), "base_positions", "-1", "0 or more"),
    "a start that is none": (
        part("s", 3, TEXT, prompt=5), "base_positions", "3", "0 for a sequence that starts",
    ),
    "a negative budget": (part("s", 0, TEXT, prompt=5, nodes_max=-1), "nodes_max", "-1", "0 to"),
    "a budget above the limit": (
        part("s", 0, TEXT, prompt=5, nodes_max=1025), "nodes_max", "1025", "0 to 1024",
    ),
    "an end token outside": (opening(end_tokens=(5, 100)), "end_tokens", "100", "0 to 99"),
    "too many end tokens": (opening(end_tokens=(5,) * 65), "end_tokens", "65", "64 tokens"),
    "a negative temperature": (opening(temperature=-0.1), "temperature", "-0.1", "0 or more"),
    "a temperature that is none": (opening(temperature=float("nan")), "temperature", "nan", "0"),
    "an infinite temperature": (opening(temperature=float("inf")), "temperature", "inf", "0"),
    "a length beyond all positions": (
        opening(length_max=MOST + 1), "length_max", str(MOST + 1), f"0 to {MOST}",
    ),
    "a first position beyond all": (
        opening(first_position=MOST + 1), "first_position", str(MOST + 1), f"0 to {MOST}",
    ),
    "tokens beyond all positions": (
        opening(first_position=MOST - 4), "tokens", str(MOST + 1), f"{MOST} positions",
    ),
    "an unknown corpus": (opening(corpora=("red", "green")), "corpora", "'green'", "red"),
    "an unknown namespace": (
        opening(namespace="other"), "starts.namespace", "'other'", "does not exist",
    ),
    "a namespace that has no name": (opening(namespace="a b"), "namespace", "'a b'", "characters"),
    "a prediction outside": (
        part("s", 0, TEXT, prompt=5, rows=rows([0], [[7, 100]])),
        "observations.tokens", "100", "0 to 99",
    ),
    "a verified tree with a cycle": (
        part("s", 0, TEXT, prompt=5, verified_tree=tree([1, 2], [1, 0])),
        "verified_trees", "'2 nodes'", "a draft tree",
    ),
    "a verified tree with twins": (
        part("s", 0, TEXT, prompt=5, verified_tree=tree([1, 1], [-1, -1])),
        "verified_trees", "'2 nodes'", "a draft tree",
    ),
    "a verified tree with a parent below the root": (
        part("s", 0, TEXT, prompt=5, verified_tree=tree([1], [-2])),
        "verified_trees", "'1 nodes'", "a draft tree",
    ),
    "a verified tree of unknown tokens": (
        part("s", 0, TEXT, prompt=5, verified_tree=tree([100], [-1])),
        "verified_trees", "'1 nodes'", "a draft tree",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_bad_sequence_is_rejected_by_name_and_nothing_else_suffers(
    engine: Engine, calls: Caller, name: str
) -> None:
    warm(engine, "red", [1, 2, 3])
    bad, field, value, limit = BAD[name]
    good = part("good", 0, TEXT, prompt=5)
    alone = calls.tree(msgspec.structs.replace(good, sequence_id="alone"))
    answer = calls.step(good, bad, msgspec.structs.replace(good, sequence_id="also good"))
    assert answer.statuses == [Status.OK, Status.REJECTED, Status.OK]
    assert [len(tree) for tree in answer.trees] == [len(alone), 0, len(alone)]
    (problem,) = answer.problems
    assert (problem.index, problem.field) == (1, field)
    assert problem.value.startswith(value)
    assert limit in f"{problem.limit} {problem.reason}"
    assert engine.clients.count() == 3


@pytest.mark.parametrize(
    ("field", "most"),
    [("length_max", MOST), ("first_position", MOST - 5), ("learn_from", MOST)],
)
def test_the_limits_themselves_are_allowed(calls: Caller, field: str, most: int) -> None:
    for value in (most - 1, most):
        assert calls.step(opening(**{field: value})).statuses == [Status.OK]


def test_names_budgets_and_ids_are_allowed_up_to_their_limits(calls: Caller) -> None:
    for size in (1, 255, 256):
        assert calls.step(part("n" * size, 0, TEXT, prompt=5)).statuses == [Status.OK]
    for nodes_max in (0, 1, 1023, 1024):
        one = part("s", 0, TEXT, prompt=5, nodes_max=nodes_max)
        assert calls.step(one).statuses == [Status.OK]
    assert calls.step(part("s", 0, [0, 99], prompt=2)).statuses == [Status.OK]


def test_a_rejected_sequence_keeps_its_state(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=5))
    for bad in (part("s", 5, [100]), part("s", 0, [100], prompt=1), part("s", 3, [100])):
        assert calls.step(bad).statuses == [Status.REJECTED]
    assert calls.step(part("s", 5, [3])).statuses == [Status.OK]
    ring = engine.clients.get("local", calls.client_id).sequences["s"].ring
    assert ring.read(0, ring.stop).tolist() == [*TEXT, 3]


def cost(nodes: list[int], milliseconds: list[float]) -> VerifyCost:
    return VerifyCost(int32s(nodes), np.array(milliseconds, np.float32))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (DraftOptions(nodes_max=1025), "options.nodes_max is 1025, the limit is 0 to 1024"),
        (DraftOptions(depth_max=1025), "options.depth_max"),
        (DraftOptions(method="eagle"), "options.method is 'eagle', it must be one of mix"),
        (DraftOptions(verify_cost=cost([], [])), "options.verify_cost"),
        (DraftOptions(verify_cost=cost([0, 1], [1])), "options.verify_cost"),
        (DraftOptions(verify_cost=cost([1, 2], [1, 2])), "options.verify_cost.nodes"),
        (DraftOptions(verify_cost=cost([0, 2, 2], [1, 2, 3])), "options.verify_cost.nodes"),
        (DraftOptions(verify_cost=cost([0, MOST, -MOST - 1], [1, 2, 3])), "verify_cost.nodes"),
        (DraftOptions(verify_cost=cost([0, 1], [1, 0])), "options.verify_cost.milliseconds"),
        (DraftOptions(verify_cost=cost([0], [np.nan])), "options.verify_cost.milliseconds"),
        (DraftOptions(verify_cost=cost([0], [np.inf])), "options.verify_cost.milliseconds"),
    ],
)
def test_wrong_options_refuse_the_message_and_change_nothing(
    engine: Engine, calls: Caller, options: DraftOptions, field: str
) -> None:
    calls.options = options
    with pytest.raises(InvalidInput, match=field):
        calls.step(part("s", 0, TEXT, prompt=5))
    assert engine.clients.count() == 0


def test_options_are_allowed_up_to_their_limits(calls: Caller) -> None:
    for most in (1023, 1024):
        calls.step(part("s", 0, TEXT, prompt=5), nodes_max=most, depth_max=most)
    calls.step(part("s", 0, TEXT, prompt=5), verify_cost=cost([0], [1]))


def test_a_message_with_no_sequence_or_too_many_is_refused() -> None:
    with running_engine(Config(batch_sequences_max=3)) as engine:
        calls = caller(engine)
        parts = [part(f"{i}", 0, TEXT, prompt=5) for i in range(4)]
        for count in (1, 2, 3):
            assert calls.step(*parts[:count]).statuses == [Status.OK] * count
        for count in (0, 4):
            with pytest.raises(InvalidInput, match=f"sequence_ids is {count}, the limit is 1 to 3"):
                calls.step(*parts[:count])


def test_a_message_needs_a_step_a_client_and_a_namespace(engine: Engine) -> None:
    one = part("s", 0, TEXT, prompt=5)
    for wrong, field in (
        (caller(engine, step_id=-1), "step_id is 0"),
        (caller(engine, client_id=""), "client_id"),
        (caller(engine, client_id="c" * 257), "client_id"),
        (caller(engine, namespace=""), "namespace"),
        (caller(engine, namespace="no such\n"), "namespace"),
    ):
        with pytest.raises(InvalidInput, match=field):
            wrong.step(one)
    with pytest.raises(NotFound, match="'unknown' does not exist; create it"):
        caller(engine, namespace="unknown").step(one)


def test_the_workers_own_drafts_are_for_methods_that_fuse_them(calls: Caller) -> None:
    with pytest.raises(NotServed, match="model_trees: suffix does not fuse"):
        calls.step(part("s", 0, TEXT, prompt=5, model_tree=tree([1], [-1])), method="suffix")
    empty = part("s", 0, TEXT, prompt=5, model_tree=tree([], []))
    assert calls.step(empty, method="suffix").statuses == [Status.OK]


@pytest.mark.parametrize("method", ["rasd", "mix"])
def test_the_workers_own_draft_is_fused_for_one_step(calls: Caller, method: str) -> None:
    model = DraftTree(int32s([77, 78]), int32s([-1, 0]), np.array([0.9, 0.5], np.float32))
    opening = part("s", 0, TEXT, prompt=5, model_tree=model)
    fused = calls.tree(opening, method=method)
    assert {77, 78} <= set(fused.token.tolist())
    assert 77 not in calls.tree(part("s", 5, [9]), method=method).token


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (tree([100], [-1]), "model_trees"),
        (tree([1, 1], [-1, -1]), "model_trees"),
        (tree([1], [-1]), "model_trees.probabilities"),
    ],
)
def test_a_workers_draft_that_is_no_tree_is_rejected(
    calls: Caller, model: DraftTree, field: str
) -> None:
    answer = calls.step(part("s", 0, TEXT, prompt=5, model_tree=model), method="rasd")
    assert answer.statuses == [Status.REJECTED]
    assert answer.problems[0].field == field


def test_a_value_that_is_shown_is_cut(calls: Caller) -> None:
    answer = calls.step(part("n" * 1000, 0, TEXT, prompt=5))
    assert len(answer.problems[0].value) < 100


def test_namespaces_are_bounded_in_number_and_size() -> None:
    with running_engine(Config(namespaces_max=2, vocab_size_max=VOCAB)) as engine:
        for field, value in (
            ("vocab_size", 0),
            ("vocab_size", VOCAB + 1),
            ("learned_bytes_max", 2**62),
            ("learned_bytes_max", -1),
        ):
            spec = _changed(namespace="other", **{field: value})
            with pytest.raises(InvalidInput, match=field):
                engine.stores.create("local", spec)
        engine.stores.create("local", _changed(namespace="other"))
        engine.stores.create("local", _changed(namespace="other"))
        with pytest.raises(Exception, match="namespaces: the limit is 2"):
            engine.stores.create("local", _changed(namespace="third"))


def _changed(**fields: Any) -> Any:
    return msgspec.structs.replace(SPEC, **fields)
