"""Draft models: their trees, their caches, and what they refuse."""

from typing import Any

import numpy as np
import pytest
import torch

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.draft_models.first_layers import first_layers
from retrieval_draft.gpu.draft_models.levels import Levels
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.step import Learning
from retrieval_draft.tree import SOURCES, DraftTree, Int64Array, int32s
from tests.gpu.driving import decode_all
from tests.gpu.models import END_TOKEN, plain_logits, prompts, tiny

LENGTH_MAX, TOKENS_MAX = 96, 24
OPENING: dict[str, Any] = {
    "rows": None,
    "temperature": 0.0,
    "length_max": LENGTH_MAX,
    "end_tokens": (END_TOKEN,),
    "learning": Learning.UNSPECIFIED,
    "corpora": (),
}


def drafts_of(family: str, **options: Any) -> CausalDrafts:
    return CausalDrafts(tiny(family), slots=4, length_max=LENGTH_MAX, **options)


def requests(temperature: float = 0.0) -> list[Request]:
    sampling = [SamplingOptions(temperature=temperature, seed=i) for i in range(5)]
    return [
        Request(f"s{i}", prompt, TOKENS_MAX - i, sampling[i], ignore_end=True)
        for i, prompt in enumerate(prompts(5))
    ]


def path_to(tree: DraftTree, node: int) -> list[int]:
    above = int(tree.parent[node])
    return [*(path_to(tree, above) if above >= 0 else []), int(tree.token[node])]


def check_probabilities(family: str, tree: DraftTree, tokens: list[int]) -> None:
    """Every node's, from the model's own forward without a cache."""
    assert len(tree)
    assert tree.problem(tiny(family).vocab_size, 16) is None
    for node in range(len(tree)):
        path = path_to(tree, node)
        logprobs = [
            plain_logits(tiny(family), [*tokens, *path[:i]]).log_softmax(-1)[token]
            for i, token in enumerate(path)
        ]
        expected = float(torch.stack(logprobs).sum().exp())
        assert float(tree.probability[node]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3"])
def test_probabilities_are_of_whole_paths_and_the_cache_follows_what_is_committed(
    family: str,
) -> None:
    """Ragged sequences; one commits a path of its tree, one other tokens, one nothing; one leaves."""
    drafts = drafts_of(family, depth_max=3, children_max=2)
    texts = {f"s{i}": prompt.tolist() for i, prompt in enumerate(prompts(4))}
    for name, text in texts.items():
        drafts.open(name, int32s(text), **OPENING)
    trees: dict[str, DraftTree] = {}
    for step in range(4):
        trees = drafts.draft(dict.fromkeys(texts, 8))
        for name, tree in trees.items():
            check_probabilities(family, tree, texts[name])
            first = tree.token[tree.parent < 0]
            shares = drafts.expects(name, first)
            assert shares == pytest.approx(tree.probability[tree.parent < 0], rel=1e-3)
        told = {"s0": path_to(trees["s0"], len(trees["s0"]) - 1), "s1": [5, 6], "s2": [], "s3": [7]}
        for name in texts:
            tokens = [*told[name], step + 3] if told[name] else []
            texts[name] += tokens
            drafts.commit(name, int32s(tokens), -1, None)
        if step == 1:
            drafts.finish("s1")
            del texts["s1"]
    assert set(trees) == {"s0", "s2", "s3"}


@pytest.mark.parametrize("slots", [1, 3])
def test_the_target_drafts_for_itself_without_an_error_and_reads_nothing_twice(
    slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it drafts first is accepted: a cache that is off by anything would break that."""
    target = tiny("llama")
    drafts = CausalDrafts(target, slots=slots, length_max=LENGTH_MAX, depth_max=4, children_max=1)
    read: list[int] = []
    forward = drafts._runner.extend

    def counted(*parts: Any) -> torch.Tensor:
        read.append(parts[1].shape[1])
        return forward(*parts)

    monkeypatch.setattr(drafts._runner, "extend", counted)
    decoder = Decoder(target, slots=slots, length_max=LENGTH_MAX, nodes_max=9, drafter=drafts)
    outputs = decode_all(decoder, requests())
    plain = decode_all(Decoder(target, slots=slots, length_max=LENGTH_MAX), requests())
    assert outputs.tokens == plain.tokens
    for figures in outputs.figures.values():
        # Each step but the last brings four drafted tokens and one of its own.
        assert figures.steps == -(-(figures.output_tokens - 1) // 5)
    if slots == 1:
        # A prompt once; then the deepest node, which nothing was drafted behind, and the bonus token.
        assert set(read) == {1, 2, *(len(request.prompt) + 1 for request in requests())}


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("slots", [1, 3])
def test_outputs_with_a_draft_model_equal_plain_ones(slots: int, temperature: float) -> None:
    target = tiny("qwen2")
    plain = decode_all(Decoder(target, slots=slots, length_max=LENGTH_MAX), requests(temperature))
    for model in (tiny("llama"), first_layers(target, 1)):
        drafts = CausalDrafts(model, slots=slots, length_max=LENGTH_MAX)
        decoder = Decoder(target, slots=slots, length_max=LENGTH_MAX, nodes_max=9, drafter=drafts)
        outputs = decode_all(decoder, requests(temperature))
        assert outputs.tokens == plain.tokens
        assert sum(figures.drafted for figures in outputs.figures.values()) > 100


def test_a_prompt_is_read_in_chunks_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval_draft.gpu.draft_models.causal.BACKLOG_MAX", 4)
    monkeypatch.setattr("retrieval_draft.gpu.draft_models.causal.CHUNK_TOKENS_MAX", 8)
    monkeypatch.setattr("retrieval_draft.gpu.draft_models.level_runner.CHUNK_TOKENS_MAX", 8)
    drafts = drafts_of("llama", depth_max=2)
    text = prompts(1, seed=3)[0].tolist() * 8
    text = text[:22]
    drafts.open("s", int32s(text), **OPENING)
    answers = [drafts.draft({"s": 6}) for _ in range(3)]
    assert answers[:2] == [{}, {}]
    check_probabilities("llama", answers[2]["s"], text)


def test_there_is_no_draft_beyond_the_models_own_context() -> None:
    drafts = drafts_of("llama", depth_max=4)
    text = [int(token) for token in np.arange(LENGTH_MAX - 2) % 50 + 3]
    drafts.open("s", int32s(text), **OPENING)
    assert drafts.draft({"s": 9})["s"].depths().max() == 1
    drafts.commit("s", int32s([5, 6, 7]), -1, None)
    assert drafts.draft({"s": 9}) == {}


def test_after_a_failure_everything_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = drafts_of("llama", depth_max=3)
    text = prompts(1)[0].tolist()
    drafts.open("s", int32s(text), **OPENING)
    tree = drafts.draft({"s": 8})["s"]
    whole, calls = drafts._runner.extend, 0

    def broken(*parts: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("out of memory")
        return whole(*parts)

    monkeypatch.setattr(drafts._runner, "extend", broken)
    text += path_to(tree, len(tree) - 1)
    drafts.commit("s", int32s(path_to(tree, len(tree) - 1)), -1, None)
    with pytest.raises(RuntimeError, match="out of memory"):
        drafts.draft({"s": 8})
    check_probabilities("llama", drafts.draft({"s": 8})["s"], text)


def test_after_a_slot_could_not_be_moved_its_sequence_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drafts = drafts_of("llama", depth_max=3)
    one, other = prompts(2)
    drafts.open("one", one, **OPENING)
    drafts.open("other", other, **OPENING)
    drafts.draft({"one": 8, "other": 8})

    def broken(*parts: int) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(drafts._runner, "copy_slot", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        drafts.finish("one")
    check_probabilities("llama", drafts.draft({"other": 8})["other"], other.tolist())


def test_the_first_layers_are_the_targets_own_and_leave_it_as_it_is() -> None:
    target = tiny("llama")
    before = plain_logits(target, [3, 4, 5])
    short = first_layers(target, 1)
    parameters = {id(p) for p in target.module.parameters()}
    assert {id(p) for p in short.module.parameters()} < parameters
    assert torch.equal(plain_logits(target, [3, 4, 5]), before)
    assert not torch.equal(plain_logits(short, [3, 4, 5]), before)
    assert target.module.config.num_hidden_layers == 2
    assert torch.equal(plain_logits(first_layers(target, 1), [3]), plain_logits(short, [3]))
    for count in (0, 2):
        with pytest.raises(InvalidInput, match="self:1 to self:1"):
            first_layers(target, count)


def level(rows: list[list[float]]) -> Any:
    """What counts, and what was said."""
    return [np.log(np.array([rows]))] * 2


def numbers(rows: list[list[int]]) -> Int64Array:
    return np.array([rows])


def test_the_tree_of_the_most_probable_paths_by_hand() -> None:
    levels = Levels(1, 2, [frozenset({9})])
    levels.offer(np.array([[-1]]), numbers([[1, 2, 9]]), *level([[0.5, 0.3, 0.2]]))
    above, tokens, sees = levels.expand()
    assert tokens.tolist() == [[1, 2]], "the two most probable"
    assert sees.tolist() == [[[True, False], [False, True]]]
    levels.offer(above, numbers([[3, 4], [9, 5]]), *level([[0.9, 0.1], [0.5, 0.5]]))
    assert levels.gains(0, 6)
    above, tokens, sees = levels.expand()
    assert tokens.tolist() == [[3, 9]], "0.45 and 0.15: of the two 0.15 the first"
    assert sees.tolist() == [[[True, False, True, False], [False, True, False, True]]]
    levels.offer(above, numbers([[6], [7]]), *level([[0.2], [1.0]]))
    tree = levels.tree(0, 6)
    # 1 .5, 3 .45, 2 .3, 9 .2, then 9 and 5 below 2 at .15; nothing follows the end token below 2.
    assert list(zip(tree.token.tolist(), tree.parent.tolist(), strict=True)) == [
        (1, -1), (2, -1), (9, -1), (3, 0), (9, 1), (5, 1),
    ]  # fmt: skip
    assert tree.probability.tolist() == pytest.approx([0.5, 0.3, 0.2, 0.45, 0.15, 0.15])
    assert set(tree.source.tolist()) == {1 << SOURCES["model"]}
    assert not levels.gains(0, 4), "0.09 is below the four best"
    assert len(levels.tree(0, 99)) == 8
