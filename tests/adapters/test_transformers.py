"""transformers' own `generate` over the demo model: the same tokens with drafts, from fewer forwards."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.generation.stopping_criteria import StoppingCriteriaList, StopStringCriteria

from retrieval_draft.adapters.serving import ServingDrafter
from retrieval_draft.adapters.settings import CostRule, Settings
from retrieval_draft.adapters.transformers import ChainGenerate, served_model
from retrieval_draft.adapters.transformers_trees import TreeGenerate
from retrieval_draft.client import Client, GrpcClient
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import TreeShape
from retrieval_draft.tokenizer import demo_folder
from tests.engine.driving import wait_for
from tests.gpu.models import built, config
from tests.server.sidecars import running_sidecar

TOKENS = 40
TEXT = """class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

class Circle:
    def __init__(self, x, y"""
Generate = TreeGenerate | ChainGenerate
WAIT = Settings(cost=CostRule.NONE, step_ms_max=10_000.0)  # never late, however busy the machine is

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        demo_folder(), dtype=torch.float32
    )
    return loaded


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    loaded = AutoTokenizer.from_pretrained(demo_folder())
    loaded.pad_token, loaded.padding_side = loaded.eos_token, "left"
    return loaded


def encoded(tokenizer: Any, *texts: str) -> dict[str, Any]:
    batch = tokenizer(list(texts), return_tensors="pt", padding=True)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@contextmanager
def clients(transport: str) -> Iterator[Client]:
    with ExitStack() as stack:
        client: Client
        if transport == "sidecar":
            client = GrpcClient(stack.enter_context(running_sidecar()).targets[0])
        else:
            client = EngineClient.in_memory()
        stack.callback(client.close)
        yield client


def drafting(model: PreTrainedModel, client: Client, kind: str) -> Generate:
    if kind == "trees":
        served = ServingDrafter(client, served_model(model), WAIT, TreeShape.TREE)
        return TreeGenerate(model, drafter=served)
    return ChainGenerate(
        model, drafter=ServingDrafter(client, served_model(model), WAIT, TreeShape.CHAIN)
    )


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """The widths of the model's forwards."""
    widths: list[int] = []

    def note(module: object, args: object, inputs: dict[str, Any]) -> None:
        widths.append(inputs["input_ids"].shape[1])

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield widths
    finally:
        hook.remove()


def generated(model: PreTrainedModel, inputs: dict[str, Any], **more: Any) -> list[list[int]]:
    torch.manual_seed(7)
    call: Callable[..., torch.Tensor] = model.generate  # type: ignore[assignment]
    settings = {"max_new_tokens": TOKENS, "pad_token_id": 0, "do_sample": False, **more}
    tokens: list[list[int]] = call(**inputs, **settings).tolist()
    return tokens


@pytest.mark.parametrize("kind", ["trees", "chains"])
@pytest.mark.parametrize("transport", ["in-process", "sidecar"])
def test_greedy_output_is_the_same_from_fewer_forwards(
    model: PreTrainedModel, tokenizer: Any, transport: str, kind: str
) -> None:
    inputs = encoded(tokenizer, TEXT)
    plain = generated(model, inputs)
    with clients(transport) as client:
        generate = drafting(model, client, kind)
        with counted(model) as first:
            assert generated(model, inputs, custom_generate=generate) == plain
        with counted(model) as second:
            assert generated(model, inputs, custom_generate=generate) == plain
    serving = generate.drafter.serving
    assert serving is not None
    assert serving.served.errors == serving.figures.failed == serving.figures.bad_trees == 0
    assert serving.open_requests() == []
    assert len(first) < 0.8 * TOKENS, "the prompt's own repetitions are drafted"
    assert len(second) < 0.5 * TOKENS, "and what the first call taught"
    assert serving.served.accepted_tokens >= 2 * (TOKENS - 1) - len(first) - len(second)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "temperature": 1.2, "top_p": 0.9, "top_k": 40},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 4},
    ],
    ids=["sampled", "processors"],
)
def test_trees_draw_and_process_as_plain_generate_does(
    model: PreTrainedModel, tokenizer: Any, settings: dict[str, Any]
) -> None:
    """Token for token, sampling included: the generator is drawn from once for every token, in order."""
    inputs = encoded(tokenizer, TEXT)
    plain = generated(model, inputs, **settings)
    with clients("in-process") as client:
        generate = drafting(model, client, "trees")
        for _ in range(2):
            assert generated(model, inputs, custom_generate=generate, **settings) == plain
        assert generate.drafter.serving is not None
        assert generate.drafter.serving.served.accepted_tokens > 0


def test_trees_stop_where_plain_generate_stops(model: PreTrainedModel, tokenizer: Any) -> None:
    """In the middle of an accepted path too; the criteria see one token more at a time."""
    inputs = encoded(tokenizer, TEXT)
    seen: list[int] = []

    class Stop(StopStringCriteria):
        def __call__(self, input_ids: torch.LongTensor, scores: Any, **more: Any) -> torch.Tensor:
            seen.append(input_ids.shape[1])
            stopped: torch.Tensor = super().__call__(input_ids, scores, **more)
            return stopped

    def stopping() -> StoppingCriteriaList:
        return StoppingCriteriaList([Stop(tokenizer, ["self.x = x\n        self.x"])])

    plain = generated(model, inputs, stopping_criteria=stopping())
    assert len(plain[0]) < inputs["input_ids"].shape[1] + TOKENS, "the text is there to be found"
    with clients("in-process") as client:
        generate = drafting(model, client, "trees")
        for _ in range(2):
            seen.clear()
            got = generated(model, inputs, custom_generate=generate, stopping_criteria=stopping())
            assert got == plain
            assert seen == list(range(seen[0], len(plain[0]) + 1))


def test_trees_decode_a_ragged_batch(model: PreTrainedModel, tokenizer: Any) -> None:
    texts = [TEXT, "import os", "for i in range(10):\n    print("]
    inputs = encoded(tokenizer, *texts)
    plain = generated(model, inputs, eos_token_id=tokenizer.encode("\n")[0])
    with clients("in-process") as client:
        generate = drafting(model, client, "trees")
        for _ in range(2):
            got = generated(
                model,
                inputs,
                custom_generate=generate,
                eos_token_id=tokenizer.encode("\n")[0],
            )
            assert got == plain
        assert len({row.index(0) if 0 in row else -1 for row in plain}) > 1, "rows end apart"
        assert generate.drafter.serving is not None
        assert generate.drafter.serving.open_requests() == []


def test_chains_sample_with_drafts(model: PreTrainedModel, tokenizer: Any) -> None:
    """Its law is transformers' own: candidates without logits are compared with what is drawn."""
    inputs = encoded(tokenizer, TEXT)
    with clients("in-process") as client:
        generate = drafting(model, client, "chains")
        for _ in range(2):
            (tokens,) = generated(
                model, inputs, custom_generate=generate, do_sample=True, temperature=0.7
            )
            assert len(tokens) <= inputs["input_ids"].shape[1] + TOKENS
        assert generate.drafter.serving is not None
        assert generate.drafter.serving.served.accepted_tokens > 0


@pytest.mark.parametrize("kind", [TreeGenerate, ChainGenerate])
def test_without_a_sidecar_it_decodes_plainly(
    model: PreTrainedModel, tokenizer: Any, kind: type[Generate]
) -> None:
    inputs = encoded(tokenizer, TEXT)
    generate = kind(model, {"sidecar": "unix:/nonexistent/sidecar.sock"})
    with counted(model) as forwards:
        got = generated(model, inputs, custom_generate=generate)
    assert TOKENS <= len(forwards) <= TOKENS + 1, "one may ask for the layers' shapes"
    generate.drafter.close()
    assert got == generated(model, inputs)


def test_wrong_settings_cost_drafts_alone(model: PreTrainedModel, tokenizer: Any) -> None:
    inputs = encoded(tokenizer, TEXT)
    generate = ChainGenerate(model, {"transport": "pigeon"})
    assert generate.drafter.serving is None
    assert generated(model, inputs, custom_generate=generate) == generated(model, inputs)


@pytest.mark.parametrize("kind", ["trees", "chains"])
def test_a_sidecar_that_stops_while_generating_costs_drafts_alone(
    model: PreTrainedModel, tokenizer: Any, kind: str
) -> None:
    inputs = encoded(tokenizer, TEXT)
    with running_sidecar() as sidecar:
        generate = drafting(model, GrpcClient(sidecar.targets[0]), kind)
        put: list[int] = []

        class Stopping:
            def put(self, value: torch.Tensor) -> None:
                put.extend(value.reshape(-1).tolist())
                if len(put) > inputs["input_ids"].shape[1] + 10:
                    sidecar.stop()

            def end(self) -> None:
                put.append(-1)

        got = generated(model, inputs, custom_generate=generate, token_streamer=Stopping())
    assert got == generated(model, inputs)
    assert put == [*got[0], -1], "the streamer heard the prompt, every token in order, and the end"
    assert generate.drafter.serving is not None
    assert generate.drafter.serving.figures.failed > 0


def test_settings_alone_lead_to_a_drafter(model: PreTrainedModel, tokenizer: Any) -> None:
    inputs = encoded(tokenizer, TEXT)
    generate = TreeGenerate(
        model, {"transport": "in-process", "namespace": "own", "step_ms_max": 10_000}
    )
    serving = generate.drafter.serving
    assert serving is not None

    def drafted() -> bool:
        generated(model, inputs, custom_generate=generate, max_new_tokens=8)
        return serving.served.drafts > 0

    wait_for(drafted)
    generate.drafter.close()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"num_beams": 2}, "num_beams"),
        ({"return_dict_in_generate": True, "output_scores": True}, "output_scores"),
    ],
)
def test_trees_refuse_what_they_would_leave_out(
    model: PreTrainedModel, tokenizer: Any, settings: dict[str, Any], name: str
) -> None:
    generate = TreeGenerate(model, {"off": True})
    with pytest.raises(InvalidInput, match=name):
        generated(model, encoded(tokenizer, TEXT), custom_generate=generate, **settings)


def test_trees_refuse_padding_within_a_prompt(model: PreTrainedModel, tokenizer: Any) -> None:
    inputs = encoded(tokenizer, TEXT)
    inputs["attention_mask"][0, 3] = 0
    with pytest.raises(InvalidInput, match="attention_mask"):
        generated(model, inputs, custom_generate=TreeGenerate(model, {"off": True}))


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "mistral"])
def test_trees_of_other_architectures_up_to_their_last_position(family: str) -> None:
    """Learned positions end where the context ends; windows hide what is far back."""
    torch.manual_seed(3)
    settings = config(family)
    settings.max_position_embeddings = 128
    module = built(settings).train(False)
    prompt = np.random.default_rng(1).integers(3, 64, 12)
    inputs = {
        "input_ids": torch.tensor([[*prompt, *prompt]]),
        "attention_mask": torch.ones((1, 24), dtype=torch.long),
    }
    more = {"max_new_tokens": 128 - 24, "eos_token_id": None}
    plain = generated(module, inputs, **more)
    with clients("in-process") as client:
        generate = drafting(module, client, "trees")
        for _ in range(2):
            assert generated(module, inputs, custom_generate=generate, **more) == plain
        assert generate.drafter.serving is not None
        assert generate.drafter.serving.served.accepted_tokens > 0
