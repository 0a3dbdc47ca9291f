"""The replay feeds what a server would have seen, and counts what verification would have kept."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval_draft.drafting.names import METHODS
from retrieval_draft.replay.agreement import agreements
from retrieval_draft.replay.drafter import EngineDrafter, Setting
from retrieval_draft.replay.figures import Agreement, Share, figures_of
from retrieval_draft.replay.play import Trace, play
from retrieval_draft.replay.sequences import Recorded, RecordedFile
from retrieval_draft.step import DraftOptions, Rows, TreeShape
from retrieval_draft.tree import EMPTY, SOURCES, TIERS, DraftTree, int32s
from tests.replay.texts import Scripted, file_of, recorded, repetitive

MATCH = (1 << TIERS["context"]) | (1 << SOURCES["match"])


def tree(*nodes: tuple[int, int, float]) -> DraftTree:
    """Of (token, parent, probability)."""
    token, parent, probability = zip(*nodes, strict=True)
    return DraftTree(
        int32s(token),
        int32s(parent),
        np.array(probability, np.float32),
        np.full(len(nodes), MATCH, np.uint32),
    )


# Prompt 1 2, output 3 4 5 6. After 3: a tree with 4 and 9, and 5 under 4. Then nothing is left but 6.
SEQUENCE = recorded([1, 2], [3, 4, 5, 6, 7], has_rows=True)
FIRST = tree((9, -1, 0.2), (4, -1, 0.6), (5, 1, 0.5), (8, 1, 0.1))


def test_a_step_commits_what_is_accepted_and_one_token_more() -> None:
    drafter = Scripted(FIRST, tree((7, -1, 0.9), (7, 0, 0.8)))
    trace = play(drafter, [SEQUENCE])
    assert drafter.calls == [
        ("open", [1, 2], -1, [0, 1]),
        ("commit", [3], -1, []),
        # The rows of token 3 (position 2) and of the accepted 4 and 5.
        ("commit", [4, 5, 6], 2, [2, 3, 4]),
        # The output ends within the tree: there is no bonus token to gain, nor a row after the last.
        ("commit", [7], 1, [5]),
        ("close", [], -1, []),
    ]
    assert (trace.gained, trace.kept, trace.nodes, trace.at) == ([3, 1], [2, 1], [4, 2], [1, 4])


def test_figures_of_a_trace_by_hand() -> None:
    trace = play(Scripted(FIRST, tree((7, -1, 0.9), (7, 0, 0.8))), [SEQUENCE])
    figures = figures_of(trace, int32s([0, 4, 0, 0, 1]))
    assert (figures.steps, figures.tokens, figures.mat, figures.nodes) == (2, 4, 2.0, 3.0)
    assert figures.kept == 1.5
    assert figures.expected == pytest.approx((1.4 + 1.7) / 2)
    assert figures.us_mean == pytest.approx(2)
    assert figures.answer_us_p99 == pytest.approx(1)
    assert figures.by_tier == [Share("context", 6, 3)]
    assert figures.by_source == [Share("match", 6, 3)]
    assert figures.by_depth == [Share("1", 3, 2), Share("2", 3, 1)]
    assert figures.by_agreement == [Agreement(1, 1, 1), Agreement(4, 1, 3)]
    bins = figures.reliability
    assert [(bins[i].nodes, bins[i].accepted) for i in (1, 2, 6)] == [(1, 0.0), (1, 0.0), (1, 1.0)]
    assert bins[6].probability == pytest.approx(0.6)
    # |0.1| + |0.2| + |0.5 - 1| + |0.6 - 1| + |0.8| + |0.9 - 1| over six nodes.
    assert figures.ece == pytest.approx((0.1 + 0.2 + 0.5 + 0.4 + 0.8 + 0.1) / 6)


def test_figures_without_a_single_node() -> None:
    figures = figures_of(play(Scripted(EMPTY, EMPTY, EMPTY, EMPTY), [SEQUENCE]))
    assert (figures.mat, figures.nodes, figures.ece, figures.by_depth) == (1.0, 0.0, 0.0, [])


def test_agreement_is_the_longest_run_seen_before() -> None:
    # Output 4 5 6 continues 1 2 3 | 4 5 6: after "2 3" of the output the run 1 2 3 was seen.
    first = recorded([1, 2, 3, 9], [1, 2, 3, 7, 8])
    assert agreements([first]).tolist() == [0, 1, 2, 3, 0]
    # In the second sequence 3 7 8 is known from the first one's output alone; its prompt is not.
    second = recorded([40], [3, 7, 8, 9, 1])
    assert agreements([first, second]).tolist() == [0, 1, 2, 3, 0, 0, 1, 2, 3, 0]


def drafts_of(file: RecordedFile, options: DraftOptions) -> Trace:
    # The corpus is there from the beginning, whatever the future brings.
    corpus = tuple(sequence.prompt for sequence in repetitive(1, 4).sequences)
    with EngineDrafter(file, Setting(options, documents=corpus)) as drafter:
        return play(drafter, file.sequences)


def same(one: DraftTree, other: DraftTree) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("token", "parent", "probability", "source")
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [TreeShape.TREE, TreeShape.CHAIN])
def test_a_shuffled_future_changes_no_draft_before_it(method: str, shape: TreeShape) -> None:
    file = repetitive(1, 4, has_rows=True)
    options = DraftOptions(nodes_max=12, method=method, shape=shape)
    truth = drafts_of(file, options)
    changed, cut = 2, 30
    shuffled = list(file.sequences)
    shuffled[changed] = future_shuffled(file.sequences[changed], cut)
    shuffled[changed + 1] = future_shuffled(file.sequences[changed + 1], 0)
    other = drafts_of(replace(file, sequences=shuffled), options)
    before = sum(len(sequence.output) for sequence in file.sequences[:changed])
    seen = [i for i, at in enumerate(truth.at) if at <= before + cut]
    assert len(seen) > 20
    assert truth.at[: len(seen)] == other.at[: len(seen)]
    for i in seen:
        assert same(truth.trees[i], other.trees[i]), f"the draft of step {i} saw the future"
    # The test can fail: what is shuffled does change the drafts after it.
    rest = list(zip(truth.trees[len(seen) :], other.trees[len(seen) :], strict=False))
    assert not all(same(one, two) for one, two in rest)


def future_shuffled(sequence: Recorded, cut: int) -> Recorded:
    """Other output tokens from index `cut` on, and other predictions of them."""
    random = np.random.default_rng(7)
    output = sequence.output.copy()
    output[cut:] = random.integers(0, 50, len(output) - cut)
    rows = sequence.rows
    assert rows is not None
    # The row at the last token before the cut predicts the first one behind it.
    late = rows.at >= len(sequence.prompt) + cut - 1
    tokens = rows.tokens.copy()
    tokens[late] = (tokens[late] + 5) % 50
    return replace(sequence, output=output, rows=Rows(rows.at, tokens, rows.logprobs))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_replay_gives_the_same_drafts(method: str) -> None:
    file = repetitive(2, 3, has_rows=True)
    first, second = (drafts_of(file, DraftOptions(nodes_max=16, method=method)) for _ in range(2))
    assert all(same(one, two) for one, two in zip(first.trees, second.trees, strict=True))


def test_what_one_sequence_taught_helps_the_next() -> None:
    output = list(range(10, 40))
    twice = file_of(recorded([1], output), recorded([2], output))
    trace = drafts_of(twice, DraftOptions(nodes_max=16, method="suffix"))
    first, second = np.split(np.array(trace.gained), trace.bounds[1:2])
    assert first.mean() == 1.0
    assert second.mean() > 5
