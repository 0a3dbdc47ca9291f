"""The cost table that prices the draft budget."""

from contextlib import closing
from dataclasses import replace

import numpy as np

from retrieval_draft.engine_client import EngineClient
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.gpu.step_cost import (
    BatchCost,
    StepCosts,
    measure_step_costs,
)
from retrieval_draft.step import DraftOptions
from retrieval_draft.tree import int32s
from tests.gpu.driving import decode_all
from tests.gpu.models import prompts, tiny


def test_costs_are_positive_and_rise_with_the_nodes() -> None:
    runner = Runner(tiny("llama"), slots=1, length_max=64, nodes_max=24)
    cost = measure_step_costs(runner, seconds_max=0.05).at(1, 32)
    assert cost.nodes.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24]
    milliseconds = cost.milliseconds.tolist()
    assert 0 < milliseconds[0] < 1000
    assert milliseconds == sorted(milliseconds)


def test_without_trees_there_is_one_cost() -> None:
    runner = Runner(tiny("llama"), slots=1, length_max=64, nodes_max=0)
    assert measure_step_costs(runner, seconds_max=0).at(1, 32).nodes.tolist() == [0]


def test_measuring_leaves_no_trace() -> None:
    decoder = Decoder(tiny("llama"), slots=1, length_max=64, nodes_max=8)
    request = Request("x", prompts(1)[0], 10)
    expected = decode_all(decoder, [request]).tokens
    measure_step_costs(decoder.runner, seconds_max=0)
    assert decode_all(decoder, [request]).tokens == expected


def costs_by_hand() -> StepCosts:
    nodes = int32s([0, 2, 8])
    one = BatchCost(1, nodes, np.array([10, 12, 18], np.float32))
    four = BatchCost(4, int32s([0, 2]), np.array([16, 24], np.float32))
    return StepCosts((one, four), 100, np.array([0.01, 0.01, 0.02], np.float32))


def test_costs_go_on_in_straight_lines_between_and_beyond_what_was_measured() -> None:
    costs = costs_by_hand()
    assert costs.at(1, 100).nodes.tolist() == [0, 2, 8]
    assert costs.at(1, 100).milliseconds.tolist() == [10, 12, 18]
    # Nodes are those of all sequences; what was not measured goes on with the last slope, 4 a node.
    assert costs.at(4, 100).nodes.tolist() == [0, 8, 32]
    assert costs.at(4, 100).milliseconds.tolist() == [16, 24, 48]
    np.testing.assert_allclose(costs.at(2, 100).milliseconds, [12, 16, 28])
    np.testing.assert_allclose(costs.at(8, 100).milliseconds, [24, 40, 88])


def test_every_cached_token_costs_every_sequence() -> None:
    costs = costs_by_hand()
    np.testing.assert_allclose(costs.at(1, 1100).milliseconds, [20, 22, 38])
    np.testing.assert_allclose(costs.at(4, 200).milliseconds, [20, 28, 56])
    # A straight line down from the measured context may not end at nothing.
    steep = replace(costs, per_token=20 * costs.per_token)
    assert steep.at(1, 0).milliseconds.tolist() == [5, 5, 5]


def test_batches_and_long_contexts_are_measured() -> None:
    runner = Runner(tiny("llama"), slots=4, length_max=200, nodes_max=8)
    costs = measure_step_costs(runner, seconds_max=0.05)
    assert [one.sequences for one in costs.batches] == [1, 4]
    assert costs.context_tokens == 100
    assert costs.per_token.min() >= 0
    for sequences in (1, 3, 4, 9):
        cost = costs.at(sequences, 150)
        assert cost.nodes.tolist() == [n * sequences for n in (0, 1, 2, 3, 4, 5, 6, 7, 8)]
        assert (np.diff(cost.milliseconds) >= 0).all()
        assert cost.milliseconds[0] > 0


def test_a_conversation_is_priced_by_what_runs() -> None:
    """With drafting far too dear at batch 4 only, only batch 1 gets drafts."""
    nodes = int32s([0, 8])
    cheap = BatchCost(1, nodes, np.array([10, 10], np.float32))
    dear = BatchCost(4, nodes, np.array([10, 1e6], np.float32))
    costs = StepCosts((cheap, dear), 10, np.zeros(2, np.float32))
    with closing(EngineClient.in_memory()) as client:
        options = DraftOptions(nodes_max=8)
        talk = converse(
            client, tiny("llama"), "x", options, cost=LiveCosts(costs), step_ms_max=5000
        )
        names = [f"{i}" for i in range(4)]
        for name in names:
            talk.open(name, int32s([5, 6, 7, 8] * 8), length_max=64)
        alone = talk.draft({"0": 8})
        assert len(alone["0"]) > 0
        together = talk.draft(dict.fromkeys(names, 8))
        assert sum(map(len, together.values())) == 0


def test_a_batch_is_cut_at_the_width_that_pays_for_all() -> None:
    """One of four knows how it goes on: all four would be as wide as its tree."""
    nodes = int32s([0, 8])
    batches = tuple(BatchCost(b, nodes, np.array([10, 80], np.float32)) for b in (1, 4))
    costs = StepCosts(batches, 10, np.zeros(2, np.float32))
    wide = np.array([10, 10.5], np.float32)
    cheap = StepCosts(tuple(BatchCost(b, nodes, wide) for b in (1, 4)), 10, np.zeros(2, np.float32))
    generator = np.random.default_rng(0)
    texts = {"known": [5, 6, 7, 8] * 12}
    texts |= {f"{i}": generator.integers(9, 60, 20).tolist() for i in range(3)}
    widths = []
    for one in (costs, cheap):
        with closing(EngineClient.in_memory()) as client:
            options = DraftOptions(nodes_max=8)
            talk = converse(
                client, tiny("llama"), "x", options, cost=LiveCosts(one), step_ms_max=5000
            )
            for name, text in texts.items():
                talk.open(name, int32s(text), length_max=64)
            widths.append(max(map(len, talk.draft(dict.fromkeys(texts, 8)).values())))
    assert widths[0] < widths[1] == 8
