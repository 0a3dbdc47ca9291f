"""A sidecar that is killed and started again in the middle of a generation changes no token."""

from pathlib import Path

import retrieval_draft.gpu
from retrieval_draft.client import GrpcClient
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.step import DraftOptions
from retrieval_draft.tokenizer import load_tokenizer
from retrieval_draft.tree import int32s
from tests.engine.driving import wait_for
from tests.gpu.driving import decode_all
from tests.server.sidecars import serving, short_folder

DEMO = Path(retrieval_draft.gpu.__file__).resolve().parent / "demo" / "model"
PROMPT = "def read(self, size=-1):\n    return self._read(size)\n\ndef write(self, data):\n"
TOKENS = 96


def request(name: str) -> Request:
    tokens = int32s(load_tokenizer(DEMO).encode(PROMPT).ids)
    return Request(name, tokens, TOKENS, SamplingOptions(0.7, seed=5), ignore_end=True)


def test_a_sidecar_killed_and_restarted_in_mid_generation_changes_no_token() -> None:
    model = load_model(DEMO, device="cpu", threads=1)
    plain = decode_all(Decoder(model, slots=1, length_max=256), [request("s")]).tokens["s"]
    with short_folder() as folder:
        with serving(folder / "d") as first:
            client = GrpcClient(first.target)
            talk = converse(client, model, "n", DraftOptions(nodes_max=8), step_ms_max=2000)
            decoder = Decoder(model, slots=1, length_max=256, nodes_max=8, drafter=talk)
            tokens = decoder.admit(request("s")).tokens.tolist()
            while len(tokens) < TOKENS // 3:
                tokens += decoder.step()[0].tokens.tolist()
            steps_before = talk.figures.steps
            assert steps_before > 0
            first.kill()
        while len(tokens) < TOKENS // 2:
            tokens += decoder.step()[0].tokens.tolist()
        with serving(folder / "d"):
            # The breaker tries again by itself; until then steps go on without drafts.
            wait_for(lambda: bool(talk.draft({"s": 8})) or talk.figures.resyncs > 0)
            while decoder.active:
                tokens += decoder.step()[0].tokens.tolist()
        client.close()
    assert talk.figures.failed > 0
    assert talk.figures.resyncs == 1
    assert tokens == plain
