"""The OpenAI-compatible API, spoken to by OpenAI's own client."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import numpy as np
import openai
import pytest

from retrieval_draft.chat_template import ChatTemplate
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.service import HttpOptions, Worker, serve_worker
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import int32s
from tests.gpu.drafters import ScriptedDrafter, random_plan
from tests.gpu.driving import decode_all

PROMPT = "def read(self, size):\n    "
SECONDS_MAX = 60.0


class Served:
    def __init__(self) -> None:
        self.model: TargetModel = load_model(
            demo_folder(), dtype="float32", device="cpu", threads=1
        )
        self.tokenizer = load_tokenizer("demo")
        drafter = ScriptedDrafter(random_plan(0, self.model.vocab_size), observation_width=4)
        self.decoder = Decoder(self.model, slots=4, length_max=2048, nodes_max=8, drafter=drafter)
        self.worker: Worker = serve_worker(
            self.decoder,
            tokenizer=self.tokenizer,
            listen=["127.0.0.1:0"],
            http=HttpOptions("127.0.0.1", 0, "demo", ChatTemplate.of("demo")),
        )
        self.url = self.worker.addresses[1]
        self.client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key="none", timeout=SECONDS_MAX, max_retries=0
        )

    def alone(self, prompt: str, tokens_max: int, sampling: SamplingOptions) -> str:
        """What plain decoding gives, without server and drafts."""
        decoder = Decoder(self.model, slots=1, length_max=256)
        tokens = int32s(self.tokenizer.encode(prompt).ids)
        outputs = decode_all(decoder, [Request("x", tokens, tokens_max, sampling)])
        return str(self.tokenizer.decode(outputs.tokens["x"]))

    def metric(self, name: str) -> float:
        text = httpx2.get(f"{self.url}/metrics").text
        found = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
        return float(found[0].rpartition(" ")[2])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.client.close()
    one.worker.stop(0)


def test_the_only_model_is_listed(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == ["demo"]
    assert served.client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError, match="no model"):
        served.client.models.retrieve("gpt-4")


def test_a_completion_is_what_plain_decoding_gives(served: Served) -> None:
    answer = served.client.completions.create(
        model="demo", prompt=PROMPT, max_tokens=20, temperature=0
    )
    assert answer.choices[0].text == served.alone(PROMPT, 20, SamplingOptions())
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(served.tokenizer.encode(PROMPT).ids)
    assert answer.usage.completion_tokens == 20


def test_several_seeded_choices_of_several_prompts_stand_in_order(served: Served) -> None:
    prompts = [PROMPT, "import os\n"]
    answer = served.client.completions.create(
        model="demo", prompt=prompts, n=2, seed=7, max_tokens=12, temperature=0.8, top_p=0.9
    )
    sampling = SamplingOptions(0.8, 0.9, 0, 7)
    want = [
        served.alone(prompt, 12, replace(sampling, seed=7 + i))
        for prompt in prompts
        for i in (0, 1)
    ]
    assert [choice.text for choice in answer.choices] == want
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


def test_a_stream_brings_the_same_text_in_pieces_and_the_usage_if_asked(served: Served) -> None:
    pieces = list(
        served.client.completions.create(
            model="demo",
            prompt=PROMPT,
            max_tokens=20,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(piece.choices[0].text for piece in pieces if piece.choices)
    assert text == served.alone(PROMPT, 20, SamplingOptions())
    assert pieces[-2].choices[0].finish_reason == "length"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 20


def test_a_stop_string_ends_the_text_before_it(served: Served) -> None:
    whole = served.alone(PROMPT, 30, SamplingOptions())
    stop = whole[8:12]
    answer = served.client.completions.create(
        model="demo", prompt=PROMPT, max_tokens=30, temperature=0, stop=[stop]
    )
    assert answer.choices[0].text == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_tokens_as_a_prompt_and_no_model_named(served: Served) -> None:
    tokens = served.tokenizer.encode(PROMPT).ids
    body = {"prompt": tokens, "max_tokens": 5, "temperature": 0}
    answer = httpx2.post(f"{served.url}/v1/completions", json=body, timeout=SECONDS_MAX).json()
    assert answer["choices"][0]["text"] == served.alone(PROMPT, 5, SamplingOptions())
    assert answer["model"] == "demo"


def test_logprobs_are_those_of_the_model(served: Served) -> None:
    answer = served.client.completions.create(
        model="demo", prompt=PROMPT, max_tokens=10, temperature=0, logprobs=3
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.token_logprobs is not None
    assert found.top_logprobs is not None
    assert "".join(found.tokens) == answer.choices[0].text
    for token, own, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
        # Greedy: the token is the most probable one. Two tokens may have one text.
        assert own == pytest.approx(max(top.values()), abs=1e-5)
        assert token in top
        assert sum(np.exp(list(top.values()))) <= 1 + 1e-6
    assert found.text_offset == [sum(map(len, found.tokens[:i])) for i in range(len(found.tokens))]


def test_chat_goes_through_the_models_template(served: Served) -> None:
    messages = [{"role": "user", "content": "read a file"}]
    template = ChatTemplate.of("demo")
    assert template is not None
    text = template.render(messages, add_generation_prompt=True)
    answer = served.client.chat.completions.create(
        model="demo",
        messages=messages,  # type: ignore[arg-type]
        max_completion_tokens=16,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == served.alone(text, 16, SamplingOptions())
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert all(len(one.top_logprobs) == 2 for one in answer.choices[0].logprobs.content)


def test_a_streamed_chat_opens_with_the_role(served: Served) -> None:
    pieces = list(
        served.client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "read a file"}],
            max_tokens=8,
            temperature=0,
            stream=True,
        )
    )
    assert pieces[0].choices[0].delta.role == "assistant"
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    whole = served.client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "read a file"}],
        max_tokens=8,
        temperature=0,
    )
    assert text == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason in ("length", "stop")


def test_drafting_is_told_and_switched_off_on_demand(served: Served) -> None:
    def draft(drafting: bool) -> dict[str, float]:
        answer = served.client.completions.create(
            model="demo",
            prompt=PROMPT,
            max_tokens=20,
            temperature=0,
            extra_body={"draft_stats": True, "drafting": drafting},
        )
        found: dict[str, float] = answer.model_dump()["draft"]
        return found

    drafted, plain = draft(True), draft(False)
    assert drafted["drafted"] > 0
    assert plain["drafted"] == plain["accepted"] == 0
    assert plain["mat"] == 1.0


def test_metrics_count_as_vllm_does(served: Served) -> None:
    before = [served.metric(name) for name in ("generation_tokens_total", "prompt_tokens_total")]
    answer = served.client.completions.create(
        model="demo", prompt=PROMPT, max_tokens=9, temperature=0, extra_body={"draft_stats": True}
    )
    assert answer.usage is not None
    after = [served.metric(name) for name in ("generation_tokens_total", "prompt_tokens_total")]
    gained = [b - a for a, b in zip(before, after, strict=True)]
    assert gained == [9, answer.usage.prompt_tokens]
    assert served.metric("spec_decode_num_draft_tokens_total") > 0
    assert served.metric("num_requests_running") == 0


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", {"prompt": PROMPT, "temperature": -1}, "temperature"),
        ("completions", {"prompt": PROMPT, "max_tokens": 0}, "max_tokens"),
        ("completions", {"prompt": PROMPT, "n": 1000}, "n"),
        ("completions", {"prompt": PROMPT, "top_p": 0}, "top_p"),
        ("completions", {"prompt": [10**9]}, "prompt"),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": PROMPT, "echo": True}, "echo"),
        ("completions", {"prompt": PROMPT, "presence_penalty": 0.5}, "presence_penalty"),
        ("completions", {"prompt": PROMPT, "stop": [""]}, "stop"),
        ("completions", {"max_tokens": 3}, "body"),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "tools": [1]},
            "tools",
        ),
    ],
)
def test_bad_requests_are_refused_in_openais_shape(
    served: Served, path: str, body: dict[str, object], param: str
) -> None:
    answer = httpx2.post(f"{served.url}/v1/{path}", json=body, timeout=SECONDS_MAX)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


def test_neither_nonsense_nor_another_route_is_an_internal_error(served: Served) -> None:
    broken = httpx2.post(f"{served.url}/v1/completions", content=b"\xff{")
    assert broken.status_code == 400
    assert httpx2.get(f"{served.url}/v1/embeddings").status_code == 404
    assert "error" in httpx2.get(f"{served.url}/v1/completions").json()
    wrong = {"prompt": PROMPT, "model": "gpt-4"}
    assert httpx2.post(f"{served.url}/v1/completions", json=wrong).status_code == 404


def test_a_client_that_goes_away_frees_its_slot(served: Served) -> None:
    body = {"prompt": PROMPT, "max_tokens": 1900, "temperature": 0, "ignore_eos": True}
    url = f"{served.url}/v1/completions"
    with httpx2.stream("POST", url, json=body | {"stream": True}) as answer:
        lines = answer.iter_lines()  # kept: when it goes, so does the connection
        next(lines)
        assert served.metric("num_requests_running") == 1
    with pytest.raises(httpx2.HTTPError):
        httpx2.post(url, json=body, timeout=0.05)
    deadline = threading.Event()
    for _ in range(2000):
        if served.decoder.active == 0 and served.metric("num_requests_running") == 0:
            break
        deadline.wait(0.01)
    assert served.decoder.active == 0


def test_many_clients_at_once_get_what_each_would_get_alone(served: Served) -> None:
    outputs: dict[int, str] = {}

    def ask(i: int) -> None:
        answer = served.client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=10 + i, temperature=0.7, seed=i, stream=True
        )
        outputs[i] = "".join(piece.choices[0].text for piece in answer)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(12):
        sampling = SamplingOptions(0.7, seed=i)
        assert outputs[i] == served.alone(PROMPT, 10 + i, sampling), i


def test_a_stream_ends_with_done_and_is_valid_json_throughout(served: Served) -> None:
    body = {"prompt": PROMPT, "max_tokens": 6, "stream": True}
    text = httpx2.post(f"{served.url}/v1/completions", json=body, timeout=SECONDS_MAX).text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert all(json.loads(event)["object"] == "text_completion" for event in events[:-1])
