"""The real llama-cpp-python over the demo model: `make test-llama` runs this, with its library in place."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrieval_draft.adapters.llama_cpp import LlamaDrafter
from retrieval_draft.adapters.serving import ServedModel, ServingDrafter
from retrieval_draft.adapters.settings import CostRule, Settings
from retrieval_draft.client import GrpcClient
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.tokenizer import demo_folder
from tests.engine.driving import wait_for
from tests.server.sidecars import running_sidecar

llama_cpp: Any = pytest.importorskip("llama_cpp", reason="make test-llama has llama-cpp-python")

TEXT = "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = y\n\n"
TOKENS = 60
WAIT = Settings(namespace="demo", cost=CostRule.NONE, step_ms_max=10_000.0)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    from tests.stacks.tiny_gguf import write_demo

    write_demo(path)
    return path


def loaded(path: Path, drafter: Any = None) -> Any:
    return llama_cpp.Llama(
        str(path), n_ctx=256, n_threads=1, seed=1, verbose=False, draft_model=drafter
    )


def decoded(llama: Any, prompt: list[int], **more: Any) -> tuple[list[int], int]:
    """Tokens after the prompt, and how many evaluations they took."""
    evaluations = 0
    real = llama.eval

    def counted(tokens: Any) -> None:
        nonlocal evaluations
        evaluations += 1
        real(tokens)

    llama.eval = counted
    llama.reset()
    llama.set_seed(3)
    tokens: list[int] = []
    for token in llama.generate(prompt, **{"temp": 0.0, **more}):
        tokens.append(token)
        if len(tokens) == TOKENS:
            break
    llama.eval = real
    return tokens, evaluations


def prompt_of(llama: Any) -> list[int]:
    tokens: list[int] = llama.tokenize(TEXT.encode(), add_bos=False)
    return tokens


def test_the_file_is_the_demo_model(gguf_file: Path) -> None:
    """Or nothing below would say anything about the demo model."""
    tokenizer = AutoTokenizer.from_pretrained(demo_folder())
    model: Any = AutoModelForCausalLM.from_pretrained(demo_folder(), dtype=torch.float32)
    llama = loaded(gguf_file)
    prompt = prompt_of(llama)
    assert llama.detokenize(prompt).decode() == TEXT
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    expected = model.generate(ids, max_new_tokens=30, do_sample=False, pad_token_id=0)
    tokens, _ = decoded(llama, ids[0].tolist())
    assert tokens[:30] == expected[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("transport", ["in-process", "sidecar"])
def test_greedy_output_is_the_same_from_fewer_evaluations(gguf_file: Path, transport: str) -> None:
    plain, evaluations = decoded(plain_llama := loaded(gguf_file), prompt_of(plain_llama))
    assert evaluations == TOKENS
    with running_sidecar() as sidecar:
        in_process = transport == "in-process"
        client = EngineClient.in_memory() if in_process else GrpcClient(sidecar.targets[0])
        served = ServingDrafter(client, ServedModel("demo", 4096, (0,)), WAIT)
        drafter = LlamaDrafter(drafter=served)
        llama = loaded(gguf_file, drafter)
        drafter.bind(llama)
        tokens, first = decoded(llama, prompt_of(llama))
        assert tokens == plain
        drafter.finish()
        wait_for(lambda: client.stats("demo").namespaces[0].learned_tokens > 0)
        tokens, second = decoded(llama, prompt_of(llama))
        assert tokens == plain
        assert first < 0.8 * TOKENS
        assert second < 0.4 * TOKENS
        assert served.served.errors == 0
        drafter.close()


def test_sampling_runs_with_drafts(gguf_file: Path) -> None:
    served = ServingDrafter(EngineClient.in_memory(), ServedModel("demo", 4096, (0,)), WAIT)
    drafter = LlamaDrafter(drafter=served)
    llama = loaded(gguf_file, drafter)
    drafter.bind(llama)
    for _ in range(2):
        tokens, _ = decoded(llama, prompt_of(llama), temp=0.7)
        assert len(tokens) == TOKENS
    assert served.served.accepted_tokens > 0
    drafter.close()


def test_completions_run_to_the_end_of_the_context(gguf_file: Path) -> None:
    served = ServingDrafter(EngineClient.in_memory(), ServedModel("demo", 4096, (0,)), WAIT)
    drafter = LlamaDrafter(drafter=served)
    llama = loaded(gguf_file, drafter)
    drafter.bind(llama)
    texts = [
        llama.create_completion(TEXT, max_tokens=-1, temperature=0.0)["choices"][0]["text"]
        for _ in range(2)
    ]
    plain = loaded(gguf_file)
    expected = plain.create_completion(TEXT, max_tokens=-1, temperature=0.0)["choices"][0]["text"]
    assert texts == [expected, expected]
    assert served.served.errors == 0
    drafter.close()


def test_the_drafter_is_called_as_the_library_says() -> None:
    base = llama_cpp.llama_speculative.LlamaDraftModel
    assert base.__abstractmethods__ == {"__call__"}
    assert not len(LlamaDrafter()(np.array([1, 2], np.intc)))


@pytest.fixture
def server(gguf_file: Path) -> Iterator[tuple[str, Path]]:
    """Its OpenAI server with our drafts, in-process, as a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = gguf_file.parent / "server.log"
    settings = {"RETRIEVAL_DRAFT_TRANSPORT": "in-process", "RETRIEVAL_DRAFT_STEP_MS_MAX": "10000"}
    module = "retrieval_draft.adapters.llama_cpp_server"
    options = ["--model", str(gguf_file), "--port", str(port), "--n_ctx", "256"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *options, "--n_threads", "1"],
            env={**os.environ, **settings},
            stdout=out,
            stderr=out,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: process.poll() is not None or "Uvicorn running" in log.read_text())
        assert process.poll() is None, log.read_text()
        yield url, log
    finally:
        process.terminate()
        process.wait(30)


def test_the_openai_server_drafts(server: tuple[str, Path]) -> None:
    url, log = server

    def complete() -> str:
        body = {"prompt": TEXT, "max_tokens": 80, "temperature": 0.0}
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            text: str = json.load(answer)["choices"][0]["text"]
        return text

    first = complete()

    def drafted() -> bool:
        """The library prints each request's evaluations of one token; those of drafts have more."""
        assert complete() == first
        single = re.findall(r" eval time =.*?/\s+(\d+) runs", log.read_text())
        return min(map(int, single)) < 40

    deadline = monotonic() + 240  # the server's kernels may have to be compiled
    while not drafted():
        assert monotonic() < deadline, log.read_text()
    assert "Traceback" not in log.read_text()
