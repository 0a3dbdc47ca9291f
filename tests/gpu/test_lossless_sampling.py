"""The law of what the decoder really samples, tested against the target's exact distribution."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from itertools import count

import msgspec
import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaConfig, LlamaForCausalLM

from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SampledDraws, SamplingOptions, draw, probabilities
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.verify import Draws, Rule, Verified, match, recursive
from retrieval_draft.tree import DraftTree, Proposals, int32s
from tests.gpu.drafters import Plan, ScriptedDrafter, tree_of
from tests.gpu.driving import decode_all
from tests.gpu.models import plain_logits
from tests.gpu.rules import OtherBonus, longest_of_paths, one_coin, one_coin_twice

VOCAB_SIZE = 5
SEQUENCES = 3000
TOKENS = 3  # whose joint law is tested
PROMPT = int32s([1, 4, 2])
# What drawn children are drawn from: one token far too often, so that many are refused.
Q = [0.55, 0.12, 0.13, 0.15, 0.05]
SAMPLINGS = [
    SamplingOptions(temperature=0.6),
    SamplingOptions(temperature=1.0, top_p=0.8),
    SamplingOptions(temperature=1.5, top_k=3),
]
SAMPLING = SamplingOptions(temperature=0.9, top_k=4, top_p=0.97)
# Every context gets the same tree: siblings that share mass, children that repeat their parent.
TREE = tree_of([0, 1, 2, 0, 1, 2, 3], [-1, -1, -1, 0, 1, 2, 0])


@lru_cache
def model() -> TargetModel:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    return adopt_model(LlamaForCausalLM(config))


@lru_cache
def exact_law(sampling: SamplingOptions = SAMPLING) -> dict[tuple[int, ...], float]:
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(TOKENS):
        longer: dict[tuple[int, ...], float] = {}
        for output, probability in law.items():
            logits = plain_logits(model(), [*PROMPT.tolist(), *output])
            for token, p in enumerate(probabilities(logits[None], sampling)[0].tolist()):
                longer[(*output, token)] = probability * p
        law = longer
    return law


def fixed(tokens: list[int]) -> DraftTree:
    return TREE


class Drawing:
    """Draws three children of the root from Q, and two under the first, with noise of its own."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self, tokens: list[int]) -> DraftTree:
        order = self._generator.choice(VOCAB_SIZE, 3, replace=False, p=Q)
        below = self._generator.choice(VOCAB_SIZE, 2, replace=False, p=Q)
        tree = tree_of([*order.tolist(), *below.tolist()], [-1, -1, -1, 0, 0])
        shares = np.array([Q, Q], np.float32)
        known = int32s([range(VOCAB_SIZE)] * 2)
        return msgspec.structs.replace(tree, proposals=Proposals(int32s([-1, 0]), known, shares))


def sampled_counts(
    rule: Rule, first_seed: int, sampling: SamplingOptions = SAMPLING, plan: Plan = fixed
) -> Counter[tuple[int, ...]]:
    """Outputs of the real decoder, with drafts, one seed per sequence."""
    requests = [
        Request(
            str(seed),
            PROMPT,
            TOKENS + 2,
            replace(sampling, seed=seed),
            ignore_end=True,
        )
        for seed in range(first_seed, first_seed + SEQUENCES)
    ]
    drafter = ScriptedDrafter(plan)
    decoder = Decoder(model(), slots=64, length_max=16, nodes_max=8, drafter=drafter, rule=rule)
    outputs = decode_all(decoder, requests)
    accepted = sum(figures.accepted for figures in outputs.figures.values())
    assert accepted > SEQUENCES / 2  # else the drafts were not put to the test
    return Counter(tuple(tokens[:TOKENS]) for tokens in outputs.tokens.values())


def p_value(counts: Counter[tuple[int, ...]], sampling: SamplingOptions = SAMPLING) -> float:
    """Of a chi-square test; outputs that are expected fewer than 5 times form one cell.

    0 if there is an output that the target cannot give.
    """
    law = exact_law(sampling)
    if any(law[output] == 0 for output in counts):
        return 0.0
    common = [output for output, p in law.items() if p * SEQUENCES >= 5]
    observed = [counts[output] for output in common]
    expected = [law[output] * SEQUENCES for output in common]
    if (rest := SEQUENCES - sum(expected)) > 1e-6:
        observed.append(SEQUENCES - sum(observed))
        expected.append(rest)
    return float(chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue)


def paths_of_their_own(tree: DraftTree, drawn: Draws) -> Verified:
    """REST's rule in the decoder: fresh seeds give every path coins of its own."""
    assert isinstance(drawn, SampledDraws)
    options = drawn.options
    cache: dict[tuple[int, int], int] = {}

    def own(path: int, node: int) -> int:
        if (path, node) not in cache:
            fresh = SamplingOptions(options.temperature, options.top_p, options.top_k, next(SEEDS))
            row = slice(node + 1, node + 2)
            cache[path, node] = draw(drawn.logits[row], drawn.positions[row], fresh)[0]
        return cache[path, node]

    return longest_of_paths(tree, own)


SEEDS = count(10**9)


def test_sampled_outputs_follow_the_targets_distribution() -> None:
    assert p_value(sampled_counts(match, first_seed=0)) > 1e-3


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("rule", [match, recursive])
def test_drawn_drafts_leave_the_targets_distribution_as_it_is(
    rule: Rule, sampling: SamplingOptions
) -> None:
    counts = sampled_counts(rule, 0, sampling, Drawing(seed=1))
    assert p_value(counts, sampling) > 1e-3


def bonus_without_top_p(tree: DraftTree, draws: Draws) -> Verified:
    """The bonus comes of the whole vocabulary, the drafts are held against the top of it."""
    assert isinstance(draws, SampledDraws)
    plain = SampledDraws(
        draws.logits,
        draws.positions[0] - 1,
        tree.parent.tolist(),
        SamplingOptions(draws.options.temperature, seed=draws.options.seed),
    )
    return recursive(tree, OtherBonus(draws, plain))


@pytest.mark.parametrize("rule", [one_coin_twice, paths_of_their_own])
def test_planted_wrong_rules_are_noticed(rule: Rule) -> None:
    assert p_value(sampled_counts(rule, first_seed=0)) < 1e-9


@pytest.mark.parametrize(
    ("rule", "sampling"),
    [(one_coin, SamplingOptions(temperature=1.0)), (bonus_without_top_p, SAMPLINGS[1])],
)
def test_planted_wrong_rules_for_drawn_drafts_are_noticed(
    rule: Rule, sampling: SamplingOptions
) -> None:
    assert p_value(sampled_counts(rule, 0, sampling, Drawing(seed=1)), sampling) < 1e-6


def test_drawn_drafts_that_are_pruned_by_identity_are_noticed() -> None:
    drawing, sampling = Drawing(seed=1), SamplingOptions(temperature=1.0)

    def pruned(tokens: list[int]) -> DraftTree:
        drawn = drawing(tokens).token[:3].tolist()
        kept = [token for token in drawn if token != 0] or drawn
        share = np.array([Q], np.float32)
        proposals = Proposals(int32s([-1]), int32s([range(VOCAB_SIZE)]), share)
        return msgspec.structs.replace(tree_of(kept, [-1] * len(kept)), proposals=proposals)

    assert p_value(sampled_counts(recursive, 0, sampling, pruned), sampling) < 1e-6
