"""The rules of a step (DESIGN.md, section 4), on an engine without a network."""

import numpy as np
import pytest

from retrieval_draft.config import Config
from retrieval_draft.engine import Engine
from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.step import SequenceStart, Status, TreeShape
from tests.engine.driving import (
    METHODS,
    NAMESPACE,
    TENANT,
    VOCAB,
    Caller,
    caller,
    learned,
    learned_text,
    listed,
    part,
    recreate,
    running_engine,
    same,
    state_of,
    warm,
)

TEXT = [1, 2, 3, 4, 5, 1, 2, 3]
OK, RESYNC = [Status.OK], [Status.RESYNC]


def text_of(engine: Engine, calls: Caller, name: str = "s") -> list[int]:
    """What the engine holds of an open sequence."""
    ring = engine.clients.get("local", calls.client_id).sequences[name].ring
    text: list[int] = ring.read(ring.low, ring.stop).tolist()
    return text


# Retries.


def test_a_retry_of_the_newest_step_returns_the_stored_answer_and_changes_nothing(
    engine: Engine, calls: Caller
) -> None:
    first = calls.step(part("s", 0, TEXT, prompt=4))
    again = calls.again(part("s", 0, [9, 9, 9], prompt=0))
    assert again is first
    assert text_of(engine, calls) == TEXT


def test_a_retry_counts_and_learns_nothing_twice(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=4))
    more = part("s", 8, [4, 9], verified_step=1, accepted=1)
    calls.step(more)
    before = state_of(engine).counters.tokens, state_of(engine).counters.accepted
    calls.again(more)
    assert (state_of(engine).counters.tokens, state_of(engine).counters.accepted) == before
    calls.step(part("s", 10, [7], finished=True))
    assert learned(engine) == 7


def test_a_stale_step_is_refused(calls: Caller) -> None:
    for _ in range(3):
        calls.step(part("s", 0, TEXT, prompt=4))
    calls.step_id = 2
    with pytest.raises(FailedPrecondition, match="step_id is 2, the newest of this client is 3"):
        calls.again(part("s", 0, TEXT, prompt=4))


def test_step_ids_and_sequence_ids_are_each_clients_own(engine: Engine) -> None:
    one, other = caller(engine), caller(engine)
    assert one.step(part("s", 0, TEXT, prompt=4)).statuses == OK
    assert other.step(part("s", 8, [4])).statuses == RESYNC
    assert other.step(part("s", 0, [7, 8], prompt=2)).statuses == OK
    assert text_of(engine, one) == TEXT


# Feedback.


def test_feedback_counts_what_was_accepted(engine: Engine, calls: Caller) -> None:
    tree = calls.tree(part("s", 0, TEXT, prompt=8), method="lookup")
    assert tree.token.tolist() == [4, 5, 1, 2, 3]
    calls.step(part("s", 8, [4, 5, 9], verified_step=1, accepted=2))
    counters = state_of(engine).counters
    assert (counters.steps, counters.tokens) == (1, 3)
    assert (counters.drafted_steps, counters.drafted, counters.accepted) == (1, 5, 2)
    assert np.isclose(counters.expected, 0.96875)
    assert [(hits.name, hits.accepted) for hits in counters.depths()][:3] == [
        ("1", 1),
        ("2", 1),
        ("3", 0),
    ]
    assert [(hits.name, hits.hits, hits.drafted) for hits in counters.methods()] == [
        ("lookup", 1, 5)
    ]


def test_steps_that_did_not_ask_count_one_token_each(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=8), method="lookup")
    # The tree's 4 was kept, 9 is the bonus token; 6, 7 and 8 came in plain steps.
    calls.step(part("s", 8, [4, 9, 6, 7, 8], verified_step=1, accepted=1), nodes_max=8)
    counters = state_of(engine).counters
    assert (counters.steps, counters.tokens) == (4, 5)


def test_where_nothing_was_drafted_every_token_was_a_step(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=8, nodes_max=0))
    calls.step(part("s", 8, [4, 9, 6]))
    counters = state_of(engine).counters
    assert (counters.steps, counters.tokens) == (3, 3)


@pytest.mark.parametrize(
    ("verified", "accepted"), [(7, 1), (2, 1), (1, 3)], ids=["later", "unknown", "too many"]
)
def test_feedback_about_another_tree_is_ignored_and_its_tokens_are_kept(
    engine: Engine, calls: Caller, verified: int, accepted: int
) -> None:
    calls.step(part("s", 0, TEXT, prompt=8), method="lookup")
    answer = calls.step(part("s", 8, [4, 9], verified_step=verified, accepted=accepted))
    assert answer.statuses == OK
    assert text_of(engine, calls) == [*TEXT, 4, 9]
    counters = state_of(engine).counters
    assert (counters.drafted_steps, counters.ignored_feedback) == (0, 1)
    assert (counters.steps, counters.tokens) == (1, 2)


def test_another_verified_tree_than_ours_is_what_counts(engine: Engine, calls: Caller) -> None:
    tree = calls.tree(part("s", 0, TEXT, prompt=8), method="lookup", nodes_max=2)
    calls.step(
        part("s", 8, [4, 5, 1], verified_step=1, accepted=-1, verified_tree=tree), method="lookup"
    )
    counters = state_of(engine).counters
    assert (counters.drafted, counters.accepted) == (2, 2)


def test_tokens_without_feedback_teach_mix(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=8))
    mix = state_of(engine).methods.mix
    before = mix.state()
    calls.step(part("s", 8, [9]))
    changed = {name for name, array in mix.state().items() if (array != before[name]).any()}
    assert {"worth", "weights", "path_worth"} <= changed


# Sequences.


def test_tokens_replace_the_sequence_from_the_base_on(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=4))
    assert calls.step(part("s", 6, [8, 9])).statuses == OK
    assert text_of(engine, calls) == [1, 2, 3, 4, 5, 1, 8, 9]
    tree = calls.tree(part("s", 8, [1, 8]), method="lookup")
    assert tree.token.tolist() == [9, 1, 8], "the index follows the roll-back"


def test_a_reused_id_with_base_0_starts_anew(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=4))
    assert calls.step(part("s", 0, [7, 8], prompt=2)).statuses == OK
    assert text_of(engine, calls) == [7, 8]
    assert engine.clients.count() == 1
    assert learned(engine) == 4, "what the old one committed stays learned"


def test_absence_from_a_batch_is_not_the_end(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT, prompt=4), part("t", 0, [5], prompt=1))
    for position in range(1, 4):
        calls.step(part("t", position, [5]))
    assert calls.step(part("s", 8, [4])).statuses == OK
    assert text_of(engine, calls) == [*TEXT, 4]


def test_an_opening_may_come_in_pieces(engine: Engine, calls: Caller) -> None:
    calls.step(part("s", 0, TEXT[:3], prompt=8, nodes_max=0))
    calls.step(part("s", 3, TEXT[3:6], nodes_max=0))
    in_pieces = calls.tree(part("s", 6, TEXT[6:]))
    whole = calls.tree(part("t", 0, TEXT, prompt=8))
    assert same(in_pieces, whole)
    assert state_of(engine).counters.tokens == 0, "a prompt is not gained by drafting"


def test_a_context_above_the_limit_keeps_its_tail_at_absolute_positions() -> None:
    with running_engine(Config(context_tokens_max=8)) as engine:
        calls = caller(engine)
        text = [*range(20), 17, 18]
        tree = calls.tree(part("s", 0, text, prompt=22), method="lookup")
        assert text_of(engine, calls) == text[-8:]
        assert tree.token.tolist() == [19, 17, 18]
        assert calls.step(part("s", 22, [50, 51, 52])).statuses == OK
        assert text_of(engine, calls) == [*text, 50, 51, 52][-8:]
        assert calls.step(part("s", 18, [60])).statuses == OK
        assert text_of(engine, calls) == [17, 60]
        assert calls.step(part("s", 16, [1])).statuses == RESYNC, "that is not kept any more"


def test_a_long_context_may_send_only_its_tail(engine: Engine, calls: Caller) -> None:
    start = SequenceStart(0, first_position=1000)
    calls.step(part("s", 0, TEXT, prompt=1004, start=start))
    assert calls.step(part("s", 1008, [4])).statuses == OK
    assert calls.step(part("s", 999, [4])).statuses == RESYNC
    calls.step(part("s", 1009, [], finished=True))
    assert learned(engine) == 5, "1004 to 1008"


@pytest.mark.parametrize("base", [1, 8, 9, 2**31 - 1])
def test_an_unknown_sequence_is_asked_to_resync(calls: Caller, base: int) -> None:
    answer = calls.step(part("s", base, [4]))
    assert answer.statuses == RESYNC
    assert len(answer.trees[0]) == 0


def test_a_base_beyond_the_end_is_asked_to_resync_and_changes_nothing(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, TEXT, prompt=4))
    assert calls.step(part("s", 9, [4])).statuses == RESYNC
    assert text_of(engine, calls) == TEXT
    assert state_of(engine).counters.resyncs == 1


def test_a_finished_sequence_takes_its_tokens_drafts_nothing_and_is_closed(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, TEXT, prompt=4))
    answer = calls.step(part("s", 8, [4, 5], finished=True))
    assert answer.statuses == OK
    assert len(answer.trees[0]) == 0
    assert engine.clients.count() == 0
    assert learned_text(engine)[-10:] == [*TEXT, 4, 5]
    assert calls.step(part("s", 10, [1])).statuses == RESYNC


def test_finish_sequences_closes_what_is_open_and_keeps_what_was_committed(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, TEXT, prompt=4), part("t", 0, TEXT, prompt=8))
    assert engine.finish_sequences("local", calls.client_id, ["s", "unknown", "s"]) == 1
    assert engine.clients.count() == 1
    assert learned(engine) == 4


def test_a_sequence_twice_in_a_batch_is_taken_once(engine: Engine, calls: Caller) -> None:
    answer = calls.step(part("s", 0, TEXT, prompt=4), part("s", 0, [9], prompt=1))
    assert answer.statuses == [Status.OK, Status.REJECTED]
    assert answer.problems[0].field == "sequence_ids"
    assert text_of(engine, calls) == TEXT


def test_a_namespace_that_is_deleted_and_created_anew_asks_for_resync_and_learns_nothing_old(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("s", 0, TEXT, prompt=0), part("t", 0, TEXT, prompt=0))
    recreate(engine)
    assert calls.step(part("s", 8, [4])).statuses == RESYNC
    assert calls.step(part("s", 0, TEXT, prompt=8)).statuses == OK
    assert engine.finish_sequences("local", calls.client_id, ["s", "t"]) == 2
    assert learned(engine) == 0


# What is drafted.


def test_nodes_max_0_takes_the_tokens_and_drafts_nothing(engine: Engine, calls: Caller) -> None:
    answer = calls.step(part("s", 0, TEXT, prompt=4, nodes_max=0))
    assert answer.statuses == OK
    assert len(answer.trees[0]) == 0
    assert text_of(engine, calls) == TEXT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", list(TreeShape))
def test_a_tree_is_never_larger_than_asked(
    engine: Engine, calls: Caller, method: str, shape: TreeShape
) -> None:
    calls.step(part("old", 0, [0], prompt=0), method=method)
    calls.step(part("old", 1, [*range(1, 50), *range(50)], finished=True))
    learned(engine)
    warm(engine, "books", range(50))
    text = [*range(20), *range(10), *range(5)]
    asked = {"method": method, "shape": shape}
    for i, nodes_max in enumerate((1, 2, 31)):
        name = f"s{i}"
        tree = calls.tree(part(name, 0, text, prompt=35), nodes_max=nodes_max, **asked)
        assert 1 <= len(tree) <= nodes_max
        own = calls.tree(part(name, 35, [], nodes_max=1), nodes_max=nodes_max, **asked)
        assert len(own) == 1
        own = calls.tree(part(name, 35, [], nodes_max=500), nodes_max=nodes_max, **asked)
        assert len(own) <= nodes_max
        flat = calls.tree(part(name, 35, []), depth_max=1, **asked)
        assert flat.depths().max() == 0
        narrow = calls.tree(part(name, 35, []), children_max=1, **asked)
        assert len(set(narrow.parent.tolist())) == len(narrow)


def test_without_a_word_the_servers_defaults_hold() -> None:
    with running_engine(Config(nodes_max=3, method="lookup")) as engine:
        tree = caller(engine).tree(part("s", 0, TEXT, prompt=8))
        assert tree.token.tolist() == [4, 5, 1]


def test_no_tree_reaches_over_the_sequences_last_position(calls: Caller) -> None:
    for length_max, nodes in ((8, 0), (9, 0), (10, 1), (11, 2), (50, 5)):
        start = SequenceStart(0, length_max=length_max)
        opening = part("s", 0, TEXT, prompt=8, start=start)
        assert len(calls.tree(opening, method="lookup")) == nodes, length_max


def test_nothing_is_drafted_behind_an_end_token(calls: Caller) -> None:
    start = SequenceStart(0, end_tokens=(5,))
    for method in METHODS:
        tree = calls.tree(part(method, 0, TEXT, prompt=8, start=start), method=method)
        tokens = tree.token.tolist()
        assert all(above < 0 or tokens[above] != 5 for above in tree.parent.tolist())
    assert calls.tree(
        part("s", 0, TEXT, prompt=8, start=start), method="lookup"
    ).token.tolist() == [
        4,
        5,
    ]


def test_only_the_named_corpora_are_looked_at(engine: Engine, calls: Caller) -> None:
    warm(engine, "red", [1, 2, 30, 31])
    warm(engine, "blue", [1, 2, 40, 41])
    for names, tokens in (
        ((), {30, 31, 40, 41}),
        (("red",), {30, 31}),
        (("blue", "blue"), {40, 41}),
        (("blue", "red"), {30, 31, 40, 41}),
    ):
        opening = part("s", 0, [1, 2], prompt=2, start=SequenceStart(0, corpora=names))
        for method in ("mix", "suffix"):
            assert set(calls.tree(opening, method=method).token.tolist()) == tokens


def test_a_corpus_that_is_deleted_costs_its_drafts_and_nothing_else(
    engine: Engine, calls: Caller
) -> None:
    warm(engine, "red", [1, 2, 30, 31])
    start = SequenceStart(0, corpora=("red",))
    assert len(calls.tree(part("s", 0, [1, 2], prompt=2, start=start))) == 2
    engine.stores.delete_corpus(TENANT, NAMESPACE, "red")
    answer = calls.step(part("s", 2, [1, 2]), part("t", 0, TEXT, prompt=8))
    assert answer.statuses == [Status.OK, Status.OK]
    assert 30 not in answer.trees[0].token.tolist()
    assert len(answer.trees[1]) > 0


def test_one_budget_is_cut_over_the_whole_batch(calls: Caller) -> None:
    parts = [part(f"s{i}", 0, TEXT, prompt=8) for i in range(3)]
    trees = calls.step(*parts, method="lookup", batch_nodes_max=4).trees
    assert [len(tree) for tree in trees] == [2, 1, 1]
    assert all(tree.problem(VOCAB, 4) is None for tree in trees)


def test_a_batch_gives_the_same_trees_as_its_sequences_one_by_one(
    engine: Engine, calls: Caller
) -> None:
    calls.step(part("old", 0, [0], prompt=0), method="phrases")
    old = [token % 9 for token in range(1, 32)] + [token % 7 for token in range(32)]
    calls.step(part("old", 1, old, finished=True))
    learned(engine)
    warm(engine, "books", [(token * token) % 9 for token in range(64)])
    dice = np.random.default_rng(1)
    texts = [dice.integers(0, 9, dice.integers(1, 60)).tolist() for _ in range(12)]
    for method in METHODS:
        batch = [part(f"{i}", 0, text, prompt=len(text)) for i, text in enumerate(texts)]
        together = calls.step(*batch, method=method).trees
        alone = [calls.tree(one, method=method) for one in batch]
        assert all(same(a, b) for a, b in zip(together, alone, strict=True))
        assert any(listed(tree) for tree in together)


def test_time_that_is_over_costs_drafts_and_keeps_the_tokens(engine: Engine, calls: Caller) -> None:
    parts = [part(f"s{i}", 0, TEXT * 20, prompt=8) for i in range(50)]
    answer = calls.step(*parts, draft_us_max=1)
    assert answer.statuses == [Status.OK] * 50
    assert not any(len(tree) for tree in answer.trees)
    assert text_of(engine, calls, "s49") == TEXT * 20
