"""Many streaming clients at once, of whom some go away: no error, no slot lost, every text its own.

One request a client here; `make soak` keeps them asking for SOAK_CLIENT_SECONDS.
"""

import asyncio
import json
import os
import secrets
import time
from dataclasses import dataclass

import httpx2
import numpy as np

from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.service import HttpOptions, serve_worker
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import int32s
from tests.gpu.drafters import ScriptedDrafter, random_plan
from tests.gpu.driving import decode_all

CLIENTS = 64
SECONDS = float(os.environ.get("SOAK_CLIENT_SECONDS", "0"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or secrets.randbits(31)
SLOTS = 8
TOKENS_MAX = 12
PROMPTS = ("def read(self, size):\n    ", "import os\n", "class Node:\n", "    return ")
ANSWER_SECONDS_MAX = 300.0


@dataclass(frozen=True)
class Job:
    """What a client asks for, and what plain decoding alone answers."""

    body: dict[str, object]
    text: str


@dataclass
class Count:
    whole: int = 0
    cut: int = 0


def jobs(decoder: Decoder) -> list[Job]:
    tokenizer = load_tokenizer("demo")
    requests, bodies = [], []
    for i, prompt in enumerate(PROMPTS * 3):
        temperature = 0.8 if i % 2 else 0.0
        tokens_max = TOKENS_MAX // 2 + i % (TOKENS_MAX // 2)
        tokens = int32s(tokenizer.encode(prompt).ids)
        sampling = SamplingOptions(temperature, seed=i)
        requests.append(Request(str(i), tokens, tokens_max, sampling, ignore_end=True))
        bodies.append(
            {
                "prompt": prompt,
                "max_tokens": tokens_max,
                "temperature": temperature,
                "seed": i,
                "ignore_eos": True,
                "stream": True,
            }
        )
    outputs = [decode_all(decoder, [one]).tokens[one.sequence_id] for one in requests]
    return [
        Job(body, tokenizer.decode(tokens)) for body, tokens in zip(bodies, outputs, strict=True)
    ]


async def client(url: str, asked: list[Job], number: int, until: float, count: Count) -> None:
    """Streams one job after the other until the time is over; every third is left in the middle."""
    generator = np.random.default_rng((SEED, number))
    async with httpx2.AsyncClient(timeout=ANSWER_SECONDS_MAX) as http:
        while True:
            job = asked[generator.integers(len(asked))]
            pieces_max = int(generator.integers(1, 6)) if generator.random() < 1 / 3 else 0
            text, is_whole = await stream(http, url, job.body, pieces_max)
            if is_whole:
                assert text == job.text, job.body
            else:
                assert job.text.startswith(text), job.body
            count.whole += is_whole
            count.cut += not is_whole
            if time.monotonic() >= until:
                return


async def stream(
    http: httpx2.AsyncClient, url: str, body: dict[str, object], pieces_max: int
) -> tuple[str, bool]:
    """The text that came, and whether it came to its end; with `pieces_max` it is left before."""
    text, pieces = "", 0
    async with http.stream("POST", f"{url}/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if not line:
                continue
            if line == "data: [DONE]":
                return text, True
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            text += event["choices"][0]["text"]
            pieces += 1
            if pieces == pieces_max:
                return text, False
    raise AssertionError("the stream broke off")


async def drive(url: str, asked: list[Job], clients: int, seconds: float) -> Count:
    count = Count()
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(url, asked, i, until, count) for i in range(clients)))
    return count


def test_streaming_clients_that_come_and_go_get_their_own_text_and_leave_no_slot_taken() -> None:
    print(f"SOAK_SEED={SEED}")
    model = load_model(demo_folder(), dtype="float32", device="cpu", threads=1)
    asked = jobs(Decoder(model, slots=1, length_max=128))
    drafter = ScriptedDrafter(random_plan(0, model.vocab_size), observation_width=2)
    decoder = Decoder(model, slots=SLOTS, length_max=128, nodes_max=4, drafter=drafter)
    worker = serve_worker(
        decoder,
        tokenizer=load_tokenizer("demo"),
        listen=["127.0.0.1:0"],
        http=HttpOptions("127.0.0.1", 0, "demo"),
    )
    try:
        url = worker.addresses[1]
        count = asyncio.run(drive(url, asked, CLIENTS, SECONDS))
        print(f"{count.whole} streams to the end, {count.cut} left in the middle")
        assert count.whole >= 1
        assert count.cut >= 1
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while (decoder.active or decoder.is_prefilling) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (decoder.active, decoder.is_prefilling) == (0, False)
        metrics = httpx2.get(f"{url}/metrics").text
        for gauge in ("num_requests_running", "num_requests_waiting"):
            assert f'vllm:{gauge}{{model_name="demo"}} 0.0' in metrics
        # Every slot still serves.
        again = asyncio.run(drive(url, asked, SLOTS, 0))
        assert again.whole + again.cut == SLOTS
    finally:
        worker.stop(0)
