"""Retrieval and a draft model in one tree: the rules by hand, losslessness, and either of them failing."""

from contextlib import closing

import numpy as np
import pytest

from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import InvalidInput, Unreachable
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.demo.prompts import shipped
from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.draft_models.draft_model import GoesOn
from retrieval_draft.gpu.draft_models.level_cost import LevelCosts
from retrieval_draft.gpu.draft_models.opening import open_draft_model
from retrieval_draft.gpu.draft_models.pricing import Pricing
from retrieval_draft.gpu.draft_models.shares import Shares
from retrieval_draft.gpu.fusion import FusedDrafter, NoRetrieval, Retrieval
from retrieval_draft.gpu.merging import best, fused, likely, merged, without_model
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.gpu.step_cost import BatchCost, StepCosts
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.verify import match
from retrieval_draft.step import DraftOptions, StepRequest, StepResponse
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import SOURCES, DraftTree, Float32Array, Int32Array, int32s
from tests.engine.driving import listed
from tests.gpu.drafters import random_tree
from tests.gpu.driving import Outputs, decode_all
from tests.gpu.models import tiny
from tests.gpu.test_lossless_enumeration import (
    DEPTH,
    VOCAB_SIZE,
    Context,
    distance,
    emitted_law,
    plain_law,
    toy_target,
)

MODEL_BIT, MATCH_BIT = 1 << SOURCES["model"], 1 << SOURCES["match"]
FUSIONS = ("rasd", "mix")
NODES, LENGTH_MAX = 8, 400


def tree_with(tokens: list[int], parents: list[int], worth: list[float], mask: int) -> DraftTree:
    masks = np.full(len(tokens), mask, np.uint32)
    return DraftTree(int32s(tokens), int32s(parents), np.array(worth, np.float32), masks)


# The model: 3 (then 9), 6, 8. Retrieval: 3 then 4 then 5; 6 then 7; 2 then 7.
MODEL = tree_with([3, 6, 8, 9], [-1, -1, -1, 0], [0.6, 0.3, 0.05, 0.3], MODEL_BIT)
RETRIEVED = tree_with(
    [3, 6, 2, 4, 7, 7, 5], [-1, -1, -1, 0, 1, 2, 3], [0.5, 0.25, 0.2, 0.25, 0.05, 0.1, 0.2],
    MATCH_BIT,
)  # fmt: skip


def expects(tokens: Int32Array) -> Float32Array:
    chances = {3: 0.6, 6: 0.3, 8: 0.05, 2: 0.004}
    return np.array([chances.get(token, 0.0) for token in tokens.tolist()], np.float32)


def test_paths_that_the_model_begins_improbably_are_pruned_with_all_below() -> None:
    assert listed(likely(RETRIEVED, expects)) == [(3, -1), (6, -1), (4, 0), (7, 1), (5, 2)]
    kept = likely(RETRIEVED, expects, first_min=0.5)
    assert listed(kept) == [(3, -1), (4, 0), (5, 1)]
    assert kept.probability.tolist() == pytest.approx([0.5, 0.25, 0.2])
    assert len(likely(RETRIEVED, expects, first_min=0.7)) == 0


def test_trees_are_merged_by_longest_prefixes_and_the_surer_is_believed() -> None:
    tree = merged(MODEL, likely(RETRIEVED, expects))
    assert listed(tree) == [(3, -1), (6, -1), (8, -1), (9, 0), (4, 0), (7, 1), (5, 4)]
    # 4 is worth half of 3, which the model holds for 0.6, and 5 is 0.8 of that; 7 a fifth of 0.3.
    assert tree.probability.tolist() == pytest.approx([0.6, 0.3, 0.05, 0.3, 0.3, 0.06, 0.24])
    both = MODEL_BIT | MATCH_BIT
    assert tree.source.tolist() == [
        both, both, MODEL_BIT, MODEL_BIT, MATCH_BIT, MATCH_BIT, MATCH_BIT,
    ]  # fmt: skip


def test_one_budget_keeps_the_most_probable_of_both() -> None:
    assert listed(fused(MODEL, RETRIEVED, expects, 4)) == [(3, -1), (6, -1), (9, 0), (4, 0)]
    assert listed(fused(MODEL, RETRIEVED, expects, 5))[-1] == (5, 3)
    assert listed(best(MODEL, 1)) == [(3, -1)]


@pytest.mark.parametrize("seed", range(6))
def test_fused_trees_leave_the_law_of_the_target_as_it_is(seed: int) -> None:
    """Exactly, over every draw of a toy target."""
    target = toy_target(seed)

    def drawn(generator: np.random.Generator) -> DraftTree:
        tree = random_tree(generator, 6, VOCAB_SIZE)
        shallow = int((tree.depths() < DEPTH).argmin()) or len(tree)
        worth = 0.7 ** (tree.depths()[:shallow] + 1.0) * generator.uniform(0.9, 1)
        return DraftTree(tree.token[:shallow], tree.parent[:shallow], worth.astype(np.float32))

    def planned(context: Context) -> DraftTree:
        generator = np.random.default_rng([seed, *context])
        chances = generator.dirichlet([0.3] * VOCAB_SIZE).astype(np.float32)
        tree = fused(drawn(generator), drawn(generator), lambda t: chances[t], 5)
        assert tree.problem(VOCAB_SIZE, 5) is None
        return tree

    assert distance(emitted_law(match, planned, target), plain_law(target)) < 1e-12


# With the demo models.


@pytest.fixture(scope="module")
def target() -> TargetModel:
    return load_model(demo_folder(), device="cpu", threads=1)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Greedy and sampled, in turn; three slots for four of them."""
    tokenizer = load_tokenizer("demo")
    prompts = [int32s(tokenizer.encode(text).ids) for text in shipped()[:4]]
    return [
        Request(f"s{i}", prompt, 40, SamplingOptions(temperature=0.8 * (i % 2), seed=i))
        for i, prompt in enumerate(prompts)
    ]


@pytest.fixture(scope="module")
def plain(target: TargetModel, requests: list[Request]) -> Outputs:
    return decode_all(Decoder(target, slots=3, length_max=LENGTH_MAX), requests)


class Watching(EngineClient):
    """Remembers what was sent; from step `gone_from` on nobody answers."""

    gone_from = 1 << 30
    sent: list[StepRequest]

    def send(self, request: StepRequest) -> None:
        self.sent.append(request)
        if len(self.sent) >= self.gone_from:
            raise Unreachable("gone")
        super().send(request)


class FailingDrafts(CausalDrafts):
    """Fails at every forward from the fifth on."""

    calls = 0

    def _draft(
        self, nodes_max: dict[str, int], goes_on: GoesOn | None = None
    ) -> dict[str, DraftTree]:
        self.calls += 1
        if self.calls >= 5:
            raise RuntimeError("out of memory")
        return super()._draft(nodes_max, goes_on)


def decoded(
    target: TargetModel,
    requests: list[Request],
    model: CausalDrafts,
    fusion: str,
    gone_from: int = 1 << 30,
) -> tuple[Outputs, list[StepRequest]]:
    client = Watching.in_memory()
    assert isinstance(client, Watching)
    client.sent, client.gone_from = [], gone_from
    with closing(client):
        options = DraftOptions(nodes_max=NODES)
        talk = converse(client, target, "fusion", options, step_ms_max=10_000)
        drafter = FusedDrafter(talk, model, fusion)
        decoder = Decoder(target, slots=3, length_max=LENGTH_MAX, nodes_max=NODES, drafter=drafter)
        return decode_all(decoder, requests), client.sent


def sibling(target: TargetModel) -> CausalDrafts:
    return open_draft_model("demo", target, slots=3, length_max=LENGTH_MAX)


def accepted(outputs: Outputs) -> int:
    return sum(figures.accepted for figures in outputs.figures.values())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_outputs_are_those_of_plain_decoding_and_the_sidecar_learns_what_was_verified(
    target: TargetModel, requests: list[Request], plain: Outputs, fusion: str
) -> None:
    outputs, sent = decoded(target, requests, sibling(target), fusion)
    assert outputs.tokens == plain.tokens
    assert accepted(outputs) > 30
    parts = [part for step in sent for part in step.sequences]
    verified = [part.verified_tree for part in parts if part.verified_tree]
    if fusion == "mix":
        assert any(part.model_tree for part in parts)
        assert not verified, "the sidecar's own trees were verified"
        return
    assert not any(part.model_tree for part in parts)
    assert len(verified) > len(parts) / 2
    for part in parts:
        if part.verified_tree:
            assert part.verified_step
            kept = part.verified_tree.follow(part.tokens.tolist())
            assert 0 <= part.accepted <= len(kept), "nodes are those of the tree that was sent"
            assert part.rows is None or (-1 - part.rows.at).max() < len(part.verified_tree)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_the_sidecar_the_draft_model_goes_on_alone(
    target: TargetModel, requests: list[Request], plain: Outputs, fusion: str
) -> None:
    outputs, sent = decoded(target, requests, sibling(target), fusion, gone_from=1)
    assert outputs.tokens == plain.tokens
    assert len(sent) >= 1
    assert accepted(outputs) > 20


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_the_draft_model_retrieval_goes_on_alone(
    target: TargetModel, requests: list[Request], plain: Outputs, fusion: str
) -> None:
    broken = FailingDrafts(sibling(target).model, slots=3, length_max=LENGTH_MAX)
    outputs, sent = decoded(target, requests, broken, fusion)
    assert outputs.tokens == plain.tokens
    assert broken.calls == 8, "three failures in a row, and one more try for the last request"
    assert accepted(outputs) > 10
    late = [part for step in sent[8:] for part in step.sequences]
    assert not any(part.verified_tree or part.model_tree for part in late)


def test_a_draft_model_of_other_tokens_is_refused(target: TargetModel) -> None:
    with pytest.raises(InvalidInput, match="the target's 64 tokens: it has 4096"):
        open_draft_model("demo", tiny("llama"), slots=1, length_max=64)
    other = load_tokenizer("demo")
    other.add_tokens(["another"])
    with pytest.raises(InvalidInput, match="its tokenizer is another one"):
        open_draft_model("demo", target, slots=1, length_max=64, tokenizer=other)
    for name, field in (("self:x", "self:N"), ("self:9", "self:1 to self:5")):
        with pytest.raises(InvalidInput, match=field):
            open_draft_model(name, target, slots=1, length_max=64)
    with pytest.raises(InvalidInput, match="draft_depth_max"):
        open_draft_model("self:1", target, slots=1, length_max=64, depth_max=0)


# What their time is worth.


def first_of(plain: Outputs) -> dict[str, list[int]]:
    return {name: plain.tokens[name] for name in ("s0", "s1")}


class Slow(Watching):
    """Answers only when the draft model has drafted; keeps the order of things."""

    events: list[str]

    def send(self, request: StepRequest) -> None:
        self.events.append("sent")
        super().send(request)

    def receive(self, step_id: int, seconds_max: float) -> StepResponse | None:
        if self.events[-1] == "sent":
            return None
        answer = super().receive(step_id, seconds_max)
        self.events.append("received")
        return answer


class Noted(CausalDrafts):
    events: list[str]

    def draft(
        self, nodes_max: dict[str, int], goes_on: GoesOn | None = None
    ) -> dict[str, DraftTree]:
        self.events.append("drafted")
        return super().draft(nodes_max, goes_on)


def costs_of(ms: float, node_ms: float) -> StepCosts:
    """A plain step takes `ms`; so much more for every node of the largest tree."""
    nodes = int32s([0, NODES])
    by_nodes = np.array([ms, ms + NODES * node_ms], np.float32)
    batches = tuple(BatchCost(b, nodes, by_nodes) for b in (1, 4))
    return StepCosts(batches, 100, np.zeros(2, np.float32))


def priced_by(model: CausalDrafts, talk: Retrieval, fusion: str, level_ms: float) -> FusedDrafter:
    by_level = level_ms * np.arange(6, dtype=np.float64)
    levels = LevelCosts((1, 4), np.stack([by_level, by_level]), 0.0)
    model.shares = Shares()
    return FusedDrafter(talk, model, fusion, Pricing(costs_of(100, 0.1), levels))


def test_the_sidecar_is_asked_first_and_drafts_while_the_model_does(
    target: TargetModel, requests: list[Request], plain: Outputs
) -> None:
    client = Slow.in_memory()
    assert isinstance(client, Slow)
    client.sent, client.events = [], []
    model = Noted(sibling(target).model, slots=3, length_max=LENGTH_MAX)
    model.events = client.events
    with closing(client):
        options = DraftOptions(nodes_max=NODES)
        talk = converse(client, target, "slow", options, step_ms_max=10_000)
        drafter = priced_by(model, talk, "rasd", level_ms=0.01)
        decoder = Decoder(target, slots=3, length_max=LENGTH_MAX, nodes_max=NODES, drafter=drafter)
        outputs = decode_all(decoder, requests[:2])
    assert outputs.tokens == first_of(plain)
    assert accepted(outputs) > 20
    assert " ".join(client.events).count("sent drafted received") > 10
    verified = [part.verified_tree for step in client.sent for part in step.sequences]
    assert any(tree is not None and MATCH_BIT & tree.source.max() for tree in verified), (
        "what came late is fused"
    )


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("level_ms", [0.01, 1e4])
def test_outputs_are_the_same_whatever_the_model_costs(
    target: TargetModel, requests: list[Request], plain: Outputs, fusion: str, level_ms: float
) -> None:
    client = Watching.in_memory()
    assert isinstance(client, Watching)
    client.sent = []
    with closing(client):
        options = DraftOptions(nodes_max=NODES)
        talk = converse(client, target, "priced", options, step_ms_max=10_000)
        drafter = priced_by(sibling(target), talk, fusion, level_ms)
        decoder = Decoder(target, slots=3, length_max=LENGTH_MAX, nodes_max=NODES, drafter=drafter)
        outputs = decode_all(decoder, requests[:2])
    assert outputs.tokens == first_of(plain)
    assert accepted(outputs) > 10
    parts = [part for step in client.sent for part in step.sequences]
    with_model = [part for part in parts if part.verified_tree or part.model_tree]
    if level_ms > 1:
        assert not with_model, "too dear for any step of so few"
    else:
        assert len(with_model) > len(parts) / 4


@pytest.mark.parametrize("level_ms", [0.01, 1e4])
def test_a_draft_model_alone_is_priced_too(
    target: TargetModel, requests: list[Request], plain: Outputs, level_ms: float
) -> None:
    drafter = priced_by(sibling(target), NoRetrieval(), "rasd", level_ms)
    decoder = Decoder(target, slots=3, length_max=LENGTH_MAX, nodes_max=NODES, drafter=drafter)
    outputs = decode_all(decoder, requests[:2])
    assert outputs.tokens == first_of(plain)
    assert (accepted(outputs) > 20) == (level_ms < 1)


def test_what_retrieval_has_of_a_fused_tree() -> None:
    both = merged(MODEL, likely(RETRIEVED, expects))
    assert listed(without_model(both)) == [(3, -1), (6, -1), (4, 0), (7, 1), (5, 2)]
    assert len(without_model(MODEL)) == 0
