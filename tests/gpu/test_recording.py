"""A recording holds what the model says: the same outputs, and its own predictions of them."""

import numpy as np
import pytest
import torch

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.recording import Prompt, Recorder
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.replay.recording import RecordedSample
from retrieval_draft.tree import int32s
from tests.gpu.driving import decode_all
from tests.gpu.models import FAMILIES, tiny

WIDTH = 4
SAMPLING = SamplingOptions(temperature=0.9, seed=11)
PROMPTS = [Prompt(int32s([5, 9, 9, 7]), "a"), Prompt(int32s([8, 6]), "b")]


def record(model: TargetModel, *, has_hidden: bool = False) -> list[RecordedSample]:
    recorder = Recorder(model, slots=3, length_max=64, width=WIDTH, has_hidden=has_hidden)
    return recorder.record(PROMPTS, SAMPLING, samples=2, tokens_max=20)


def test_outputs_are_those_of_the_decoder_with_these_seeds() -> None:
    model = tiny("llama")
    done = record(model)
    assert [(one.group, one.seed) for one in done] == [("a", 11), ("a", 12), ("b", 13), ("b", 14)]
    for one in done:
        sampling = SamplingOptions(temperature=0.9, seed=one.seed)
        request = Request("x", one.recorded.prompt, 20, sampling)
        alone = decode_all(Decoder(model, slots=1, length_max=64, nodes_max=0), [request])
        assert one.recorded.output.tolist() == alone.tokens["x"]
    assert done[0].recorded.output.tolist() != done[1].recorded.output.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_the_models_predictions_of_every_position(family: str) -> None:
    model = tiny(family)
    for one in record(model, has_hidden=True):
        sequence = np.concatenate([one.recorded.prompt, one.recorded.output])
        with torch.inference_mode():
            tokens = torch.from_numpy(sequence.astype(np.int64))[None]
            answer = model.module(input_ids=tokens, output_hidden_states=True)
            expected = answer.logits[0, :-1].log_softmax(-1).topk(WIDTH)
        rows = one.recorded.rows
        assert rows is not None
        assert rows.at.tolist() == list(range(len(sequence) - 1))
        np.testing.assert_allclose(rows.logprobs, expected.values.numpy(), atol=2e-4)
        assert np.mean(rows.tokens == expected.indices.numpy()) > 0.99
        assert one.hidden is not None
        assert one.hidden.dtype == np.float16
        states = answer.hidden_states[-1][0, :-1].numpy()
        np.testing.assert_allclose(one.hidden, states, atol=0.01, rtol=0.01)


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_decoded() -> None:
    recorder = Recorder(tiny("llama"), slots=1, length_max=16, width=WIDTH)
    with pytest.raises(InvalidInput, match="tokens_max"):
        recorder.record(PROMPTS, SAMPLING, samples=1, tokens_max=14)
