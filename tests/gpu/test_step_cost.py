"""The cost table that prices the draft budget."""

import pytest

from retrieval_draft.errors import FailedPrecondition
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.step_cost import measure_step_cost
from tests.gpu.driving import decode_all
from tests.gpu.models import prompts, tiny


def test_costs_are_positive_and_rise_with_the_nodes() -> None:
    decoder = Decoder(tiny("llama"), slots=1, length_max=64, nodes_max=24)
    cost = measure_step_cost(decoder, seconds_max=0.05)
    assert cost.nodes.tolist() == [0, 1, 2, 4, 8, 16, 24]
    milliseconds = cost.milliseconds.tolist()
    assert 0 < milliseconds[0] < 1000
    assert milliseconds == sorted(milliseconds)


def test_without_trees_there_is_one_cost() -> None:
    decoder = Decoder(tiny("llama"), slots=1, length_max=64, nodes_max=0)
    assert measure_step_cost(decoder, seconds_max=0).nodes.tolist() == [0]


def test_measuring_leaves_no_trace_and_waits_for_no_one() -> None:
    decoder = Decoder(tiny("llama"), slots=1, length_max=64, nodes_max=8)
    request = Request("x", prompts(1)[0], 10)
    expected = decode_all(decoder, [request]).tokens
    measure_step_cost(decoder, seconds_max=0)
    assert decode_all(decoder, [request]).tokens == expected
    decoder.admit(request)
    with pytest.raises(FailedPrecondition):
        measure_step_cost(decoder, seconds_max=0)
