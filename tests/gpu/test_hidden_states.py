"""Hidden states of what was decoded, for drafters that want them, and for no others."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from retrieval_draft.config import Config
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.step import DraftOptions, Rows, StepRequest
from tests.engine.driving import running_engine
from tests.gpu.drafters import ScriptedDrafter, random_plan
from tests.gpu.driving import decode_all
from tests.gpu.models import VOCAB_SIZE, prompts, tiny

HIDDEN_WIDTH = 32
"""Of the tiny models."""


def requests() -> list[Request]:
    return [Request(f"{i}", prompt, 16, ignore_end=True) for i, prompt in enumerate(prompts(3))]


def is_watched() -> bool:
    layer = tiny("llama").module.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(layer, torch.nn.Module)
    return bool(layer._forward_pre_hooks)


def decoded(hidden_width: int) -> dict[str, tuple[list[int], list[Rows]]]:
    """Every sequence's tokens, and the rows of its steps."""
    drafter = ScriptedDrafter(random_plan(0, VOCAB_SIZE), observation_width=4)
    drafter.hidden_width = hidden_width
    decoder = Decoder(tiny("llama"), slots=3, length_max=64, nodes_max=12, drafter=drafter)
    with closing(decoder._hidden):
        decode_all(decoder, requests())
        assert is_watched() == (hidden_width > 0)
    return {
        name: (told.tokens, [rows for rows in told.rows[1:] if rows is not None])
        for name, told in drafter.told.items()
    }


def test_states_are_the_targets_own_after_every_committed_token() -> None:
    seen = 0
    for tokens, steps in decoded(HIDDEN_WIDTH).values():
        with torch.inference_mode():
            answer = tiny("llama").module(
                input_ids=torch.tensor([tokens]), output_hidden_states=True
            )
        states = answer.hidden_states[-1][0].numpy()
        for rows in steps:
            if rows.hidden is None:
                continue
            assert rows.hidden.dtype == np.float16
            assert rows.hidden.shape == (len(rows), HIDDEN_WIDTH)
            along = rows.at >= 0
            expected = states[rows.at[along]]
            np.testing.assert_allclose(rows.hidden[along], expected, atol=0.01, rtol=0.01)
            seen += int(along.sum())
    assert seen > 20


def test_nobody_gets_states_that_did_not_ask_or_cannot_take_them() -> None:
    for width in (0, HIDDEN_WIDTH - 1):
        for _, steps in decoded(width).values():
            assert steps
            assert all(rows.hidden is None for rows in steps)


class Watching(EngineClient):
    sent: list[StepRequest]

    def send(self, request: StepRequest) -> None:
        self.sent.append(request)
        super().send(request)


def sent_with(dense: str) -> tuple[list[list[int]], list[Rows]]:
    """What is decoded, and the rows that a sidecar of this kind of dense retrieval gets."""
    with running_engine(Config(dense=dense), spec=None) as engine:
        client = Watching(engine)
        client.sent = []
        options = DraftOptions(nodes_max=8)
        talk = converse(client, tiny("llama"), "states", options, step_ms_max=10_000)
        decoder = Decoder(tiny("llama"), slots=3, length_max=64, nodes_max=8, drafter=talk)
        with closing(decoder._hidden):
            outputs = decode_all(decoder, [replace(one, sequence_id="s") for one in requests()[:1]])
            assert is_watched() == (dense == "hidden")
    rows = [part.rows for step in client.sent for part in step.sequences if part.rows]
    return list(outputs.tokens.values()), rows


def test_a_sidecar_gets_states_where_it_asks_for_them() -> None:
    plain, without = sent_with("off")
    wanted, rows = sent_with("hidden")
    assert wanted == plain
    assert all(one.hidden is None for one in without)
    with_states = [one.hidden for one in rows if one.hidden is not None]
    assert len(with_states) > 3
    assert all(states.shape[1] == HIDDEN_WIDTH for states in with_states)
