"""The decoder's promises beside identity: observations, limits, cancelling, drafters that fail."""

import copy
import dataclasses

import msgspec
import numpy as np
import pytest
import torch

from retrieval_draft.errors import AlreadyExists, InvalidInput, NotFound, ResourceExhausted
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import adopt_model
from retrieval_draft.gpu.observe import REJECTED_ROWS_MAX
from retrieval_draft.gpu.request import Finish, Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.step import Rows
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, int32s
from tests.gpu.drafters import (
    FailingDrafter,
    NonsenseDrafter,
    Plan,
    ScriptedDrafter,
    chain,
    decoy_plan,
    random_plan,
    random_tree,
    tree_of,
)
from tests.gpu.driving import decode_all
from tests.gpu.models import END_TOKEN, VOCAB_SIZE, generated, plain_logits, prompts, tiny
from tests.gpu.rules import path_to

WIDTH = 10


def requests(count: int = 3, tokens_max: int = 16) -> list[Request]:
    return [
        Request(
            f"{i}", prompt, tokens_max, SamplingOptions(0.8, seed=i) if i else SamplingOptions()
        )
        for i, prompt in enumerate(prompts(count, seed=6))
    ]


def plain_outputs(asked: list[Request]) -> dict[str, list[int]]:
    return decode_all(Decoder(tiny("llama"), slots=1, length_max=64), asked).tokens


def decoys(asked: list[Request]) -> Plan:
    plain = plain_outputs(asked)
    by_prompt = {tuple(one.prompt.tolist()): plain[one.sequence_id] for one in asked}
    return decoy_plan(by_prompt, VOCAB_SIZE)


def check_rows(rows: Rows, tokens: list[int], tree: DraftTree | None) -> None:
    """Every row against a plain forward over the tokens that it names."""
    for at, top, logprobs in zip(rows.at.tolist(), rows.tokens, rows.logprobs, strict=True):
        if at >= 0:
            context = tokens[: at + 1]
        else:
            assert tree is not None
            context = [*tokens, *tree.token[path_to(tree, -1 - at)].tolist()]
        expected = plain_logits(tiny("llama"), context).log_softmax(-1)
        np.testing.assert_allclose(logprobs, expected.topk(WIDTH).values.numpy(), atol=2e-4)
        np.testing.assert_allclose(logprobs, expected.numpy()[top], atol=2e-4)


def test_observations_are_the_targets_own_predictions() -> None:
    asked = requests()
    drafter = ScriptedDrafter(decoys(asked), observation_width=WIDTH)
    decoder = Decoder(tiny("llama"), slots=3, length_max=64, nodes_max=25, drafter=drafter)
    outputs = decode_all(decoder, asked)
    rejected_rows = 0
    for request in asked:
        told = drafter.told[request.sequence_id]
        whole = [*request.prompt.tolist(), *outputs.tokens[request.sequence_id]]
        assert told.tokens == whole
        prefill, first, *steps = told.rows
        assert prefill is not None
        assert first is None
        assert prefill.at.tolist() == list(range(len(request.prompt)))
        check_rows(prefill, whole, None)
        root = len(request.prompt)
        for rows, tree in zip(steps, told.tree_of_rows[2:], strict=True):
            assert rows is not None
            committed = [at for at in rows.at.tolist() if at >= 0]
            assert committed == list(range(root, root + len(committed)))
            assert len(rows) - len(committed) <= REJECTED_ROWS_MAX
            rejected_rows += len(rows) - len(committed)
            # A rejected node's path begins behind the root, the last token committed before.
            for at in rows.at.tolist():
                row = rows.at == at
                part = Rows(rows.at[row], rows.tokens[row], rows.logprobs[row])
                check_rows(part, whole if at >= 0 else whole[: root + 1], tree)
            root += len(committed)
        assert root + 1 >= len(whole)
    assert rejected_rows > 20


def test_a_plain_request_is_kept_from_the_drafter() -> None:
    asked = requests()
    plain = Request("secret", asked[0].prompt, 8, plain=True)
    drafter = ScriptedDrafter(random_plan(0, VOCAB_SIZE))
    decoder = Decoder(tiny("llama"), slots=4, length_max=64, nodes_max=16, drafter=drafter)
    outputs = decode_all(decoder, [*asked, plain])
    assert set(drafter.told) == {"0", "1", "2"}
    assert outputs.tokens["secret"] == outputs.tokens["0"][:8]
    assert outputs.figures["secret"].drafted == 0


@pytest.mark.parametrize(
    "calls",
    [{"draft"}, {"open", "commit", "draft", "finish"}, {"finish"}],
    ids=lambda calls: "+".join(sorted(calls)),
)
def test_a_drafter_that_raises_changes_no_token(calls: set[str]) -> None:
    asked = requests()
    drafter = FailingDrafter(random_plan(1, VOCAB_SIZE), calls)
    decoder = Decoder(tiny("llama"), slots=2, length_max=64, nodes_max=16, drafter=drafter)
    assert decode_all(decoder, asked).tokens == plain_outputs(asked)


def test_a_drafter_that_answers_nonsense_changes_no_token() -> None:
    generator = np.random.default_rng(0)
    nonsense: list[object] = [
        None,
        "tree",
        tree_of([VOCAB_SIZE], [-1]),
        tree_of([-1], [-1]),
        msgspec.structs.replace(tree_of([3, 4], [-1, 0]), parent=int32s([-1])),
        tree_of([3, 4], [1, -1]),
        tree_of([3, 4], [-2, -1]),
        tree_of([3, 3], [-1, -1]),
        tree_of([[3], [4]], [[-1], [0]]),
        msgspec.structs.replace(tree_of([3, 4], [-1, 0]), token=np.array([3.5, float("nan")])),
        msgspec.structs.replace(tree_of([3], [-1]), probability=np.ones(2, np.float32)),
        random_tree(generator, 60, VOCAB_SIZE),  # more nodes than were asked for
        ConnectionResetError("hung up"),
        EMPTY,
    ]
    asked = requests(tokens_max=len(nonsense) + 3)
    drafter = NonsenseDrafter(nonsense)
    decoder = Decoder(tiny("llama"), slots=3, length_max=64, nodes_max=16, drafter=drafter)
    outputs = decode_all(decoder, asked)
    assert outputs.tokens == plain_outputs(asked)
    assert all(figures.drafted == 0 for figures in outputs.figures.values())
    assert drafter.asked >= len(nonsense)


def test_a_callback_that_raises_changes_no_token() -> None:
    def onlooker(*_: object) -> None:
        raise RuntimeError("looked away")

    asked = requests()
    drafter = ScriptedDrafter(decoys(asked))
    decoder = Decoder(
        tiny("llama"), slots=2, length_max=64, nodes_max=25, drafter=drafter, on_step=onlooker
    )
    assert decode_all(decoder, asked).tokens == plain_outputs(asked)


def test_every_drafted_step_is_shown_with_its_accepted_path() -> None:
    asked = requests()
    shown: dict[str, list[int]] = {one.sequence_id: [] for one in asked}

    def onlooker(sequence_id: str, tree: DraftTree, path: object, tokens: Int32Array) -> None:
        assert isinstance(path, tuple)
        shown[sequence_id].extend(tokens.tolist())
        assert tree.token[list(path)].tolist() == tokens[: len(path)].tolist()
        assert list(path) == path_to(tree, path[-1]) if path else True

    drafter = ScriptedDrafter(decoys(asked))
    decoder = Decoder(
        tiny("llama"), slots=3, length_max=64, nodes_max=25, drafter=drafter, on_step=onlooker
    )
    outputs = decode_all(decoder, asked)
    for sequence_id, tokens in outputs.tokens.items():
        # The last token may come without a tree: with one remaining, none is asked for.
        assert tokens[1 : 1 + len(shown[sequence_id])] == shown[sequence_id]
        assert len(shown[sequence_id]) >= len(tokens) - 2


def test_drafts_never_pass_the_slot_or_tokens_max() -> None:
    model = tiny("gpt2")  # learned positions: one beyond the context would raise
    prompt = int32s(np.arange(3, 43))
    length_max = model.context_tokens_max
    prompt = int32s(np.resize(prompt, length_max - 20))
    expected = generated(model, prompt, 20)
    drafter = ScriptedDrafter(lambda _: chain([5] * 64))
    decoder = Decoder(model, slots=2, length_max=length_max, nodes_max=64, drafter=drafter)
    asked = [Request(str(i), prompt, 20, ignore_end=False) for i in range(2)]
    assert decode_all(decoder, asked).tokens == {"0": expected, "1": expected}


def test_an_end_token_on_the_accepted_path_ends_the_sequence_there() -> None:
    model = tiny("llama")
    prompt = prompts(1, seed=8)[0]
    free = decode_all(
        Decoder(model, slots=1, length_max=64), [Request("x", prompt, 20, ignore_end=True)]
    ).tokens["x"]
    end = free[7]
    at = free.index(end)
    drafter = ScriptedDrafter(lambda tokens: chain(free[len(tokens) - len(prompt) :]))
    ending = Decoder(
        dataclasses.replace(model, end_tokens=(END_TOKEN, end)),
        slots=1,
        length_max=64,
        drafter=drafter,
    )
    outputs = decode_all(ending, [Request("x", prompt, 20)])
    assert outputs.tokens["x"] == free[: at + 1]
    assert outputs.finish["x"] is Finish.END
    assert outputs.figures["x"].accepted == at  # the first token comes from prefill
    assert outputs.figures["x"].steps == 1


def test_requests_outside_the_limits_are_refused_and_hurt_no_other() -> None:
    decoder = Decoder(tiny("llama"), slots=2, length_max=32)
    running = Request("running", int32s([3, 4, 5]), 8)
    decoder.admit(running)
    bad = {
        "prompt": [
            Request("a", int32s([]), 4),
            Request("b", int32s([3, VOCAB_SIZE]), 4),
            Request("c", int32s([-1]), 4),
        ],
        "tokens_max": [
            Request("d", int32s([3] * 30), 3),
            Request("e", int32s([3] * 40), 1),
            Request("f", int32s([3]), 0),
        ],
    }
    for field, those in bad.items():
        for request in those:
            with pytest.raises(InvalidInput) as refused:
                decoder.admit(request)
            assert refused.value.field == field
    with pytest.raises(AlreadyExists):
        decoder.admit(running)
    decoder.admit(Request("second", int32s([3, 4]), 30))
    with pytest.raises(ResourceExhausted):
        decoder.admit(Request("third", int32s([3, 4]), 2))
    assert decoder.active == 2


def test_cancelling_frees_the_slot_and_leaves_the_others_as_they_are() -> None:
    asked = requests(4, tokens_max=20)
    expected = plain_outputs(asked)
    drafter = ScriptedDrafter(decoys(asked), observation_width=WIDTH)
    decoder = Decoder(tiny("llama"), slots=3, length_max=64, nodes_max=25, drafter=drafter)
    outputs: dict[str, list[int]] = {}
    for request in asked[:3]:
        outputs[request.sequence_id] = decoder.admit(request).tokens.tolist()
    for committed in decoder.step():
        outputs[committed.sequence_id] += committed.tokens.tolist()
    gone = decoder.cancel("0")  # the first: another must move into its slot
    assert gone.finish is Finish.CANCELLED
    assert len(gone.tokens) == 0
    assert gone.figures.output_tokens == len(outputs["0"])
    assert drafter.told["0"].is_finished
    with pytest.raises(NotFound):
        decoder.cancel("0")
    outputs["3"] = decoder.admit(asked[3]).tokens.tolist()
    while decoder.active:
        for committed in decoder.step():
            outputs[committed.sequence_id] += committed.tokens.tolist()
    assert outputs["0"] == expected["0"][: len(outputs["0"])]
    assert [outputs[i] for i in "123"] == [expected[i] for i in "123"]


def test_a_long_prompt_is_prefilled_in_chunks_to_the_same_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = int32s(np.random.default_rng(0).integers(3, VOCAB_SIZE, 100))
    for family in ("llama", "mistral"):
        model = tiny(family)
        whole = decode_all(Decoder(model, slots=1), [Request("x", prompt, 12)]).tokens
        monkeypatch.setattr("retrieval_draft.gpu.runner.PREFILL_TOKENS_MAX", 7)
        drafter = ScriptedDrafter(random_plan(0, VOCAB_SIZE), observation_width=WIDTH)
        chunked = Decoder(model, slots=1, nodes_max=16, drafter=drafter)
        assert decode_all(chunked, [Request("x", prompt, 12)]).tokens == whole
        rows = drafter.told["x"].rows[0]
        assert rows is not None
        assert rows.at.tolist() == list(range(100))
        monkeypatch.undo()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_cuda_gives_the_same_tokens_with_and_without_drafts() -> None:
    module = copy.deepcopy(tiny("llama").module)
    torch.nn.Module.to(module, torch.device("cuda"))
    model = adopt_model(module)
    asked = requests()
    plain = decode_all(Decoder(model, slots=1, length_max=64), asked).tokens
    drafter = ScriptedDrafter(random_plan(1, VOCAB_SIZE), observation_width=WIDTH)
    decoder = Decoder(model, slots=3, length_max=64, nodes_max=16, drafter=drafter)
    assert decode_all(decoder, asked).tokens == plain
