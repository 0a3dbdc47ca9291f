"""Drafting changes no token: greedy output is transformers' own, sampled that of plain decoding."""

from pathlib import Path

import numpy as np
import pytest

import retrieval_draft.gpu
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import Int32Array, int32s
from tests.gpu.drafters import (
    Plan,
    ScriptedDrafter,
    decoy_plan,
    empty_plan,
    oracle_plan,
    random_plan,
    wrong_plan,
)
from tests.gpu.driving import decode_all
from tests.gpu.models import FAMILIES, generated, prompts, tiny

PLANS = ("random", "wrong", "decoys", "oracle", "empty")
TOKENS_MAX = (24, 9, 17, 1, 30)
SAMPLINGS = (
    SamplingOptions(temperature=1.0, seed=11),
    SamplingOptions(temperature=0.7, top_p=0.8, seed=12),
    SamplingOptions(temperature=1.3, top_k=5, seed=13),
    SamplingOptions(temperature=0.0),
    SamplingOptions(temperature=0.9, top_p=0.9, top_k=20, seed=2**64 - 1),
)
DEMO = Path(retrieval_draft.gpu.__file__).resolve().parent / "demo" / "model"


def plan_named(name: str, outputs: dict[tuple[int, ...], list[int]], vocab_size: int) -> Plan:
    match name:
        case "random":
            return random_plan(3, vocab_size)
        case "wrong":
            return wrong_plan(outputs, vocab_size)
        case "decoys":
            return decoy_plan(outputs, vocab_size)
        case "oracle":
            return oracle_plan(outputs)
    return empty_plan


def check_same(
    model: TargetModel,
    plan: str,
    requests: list[Request],
    expected: dict[str, list[int]],
    slots: int,
) -> None:
    by_prompt = {
        tuple(request.prompt.tolist()): expected[request.sequence_id] for request in requests
    }
    drafter = ScriptedDrafter(plan_named(plan, by_prompt, model.vocab_size), observation_width=10)
    decoder = Decoder(model, slots=slots, length_max=128, nodes_max=25, drafter=drafter)
    outputs = decode_all(decoder, requests)
    assert outputs.tokens == expected
    accepted = sum(figures.accepted for figures in outputs.figures.values())
    steps = sum(figures.steps for figures in outputs.figures.values())
    tokens = sum(figures.output_tokens - 1 for figures in outputs.figures.values())
    assert tokens == sum(len(output) - 1 for output in expected.values())
    assert steps + accepted >= tokens
    if plan in ("wrong", "empty"):
        assert accepted == 0
        assert steps == tokens
    if plan in ("decoys", "oracle"):
        assert tokens / steps > 2
    for told in drafter.told.values():
        assert told.is_finished


def sampled_requests(inputs: list[Int32Array], greedy: bool) -> list[Request]:
    return [
        Request(
            f"sequence {i}",
            prompt,
            TOKENS_MAX[i % len(TOKENS_MAX)],
            SamplingOptions() if greedy else SAMPLINGS[i % len(SAMPLINGS)],
        )
        for i, prompt in enumerate(inputs)
    ]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", [1, 3])
def test_greedy_output_with_drafts_is_that_of_generate(family: str, plan: str, slots: int) -> None:
    model = tiny(family)
    requests = sampled_requests(prompts(5), greedy=True)
    expected = {
        request.sequence_id: generated(model, request.prompt, request.tokens_max)
        for request in requests
    }
    check_same(model, plan, requests, expected, slots)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_output_with_drafts_is_that_of_plain_decoding(family: str, plan: str) -> None:
    model = tiny(family)
    requests = sampled_requests(prompts(5, seed=1), greedy=False)
    plain = decode_all(Decoder(model, slots=1, length_max=128, nodes_max=0), requests).tokens
    check_same(model, plan, requests, plain, slots=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_decodes_plainly_to_what_each_sequence_decodes_to_alone(family: str) -> None:
    model = tiny(family)
    requests = sampled_requests(prompts(8, seed=2), greedy=False)
    alone = decode_all(Decoder(model, slots=1, length_max=128), requests).tokens
    assert decode_all(Decoder(model, slots=4, length_max=128), requests).tokens == alone


@pytest.fixture(scope="module")
def demo() -> TargetModel:
    assert DEMO.is_dir(), f"the demo model is missing: {DEMO}"
    return load_model(DEMO, device="cpu")


@pytest.mark.parametrize("plan", ["random", "decoys"])
@pytest.mark.parametrize("greedy", [True, False])
def test_the_demo_model_gives_the_same_tokens_with_drafts(
    demo: TargetModel, plan: str, greedy: bool
) -> None:
    generator = np.random.default_rng(4)
    inputs = [int32s(generator.integers(1, demo.vocab_size, length)) for length in (5, 40, 12)]
    requests = [
        Request(f"{i}", prompt, 24, SamplingOptions() if greedy else SamplingOptions(0.7, seed=i))
        for i, prompt in enumerate(inputs)
    ]
    if greedy:
        expected = {
            request.sequence_id: generated(demo, request.prompt, request.tokens_max)
            for request in requests
        }
    else:
        expected = decode_all(Decoder(demo, slots=1, length_max=128), requests).tokens
    check_same(demo, plan, requests, expected, slots=2)
