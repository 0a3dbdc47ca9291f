"""Drafts for llama-cpp-python, called as its `generate` calls: whole histories, and no word of requests.

The real library is tested by `make test-llama`.
"""

import numpy as np
import pytest

from retrieval_draft.adapters.llama_cpp import LlamaDrafter
from retrieval_draft.adapters.serving import ServedModel, ServingDrafter
from retrieval_draft.adapters.settings import CostRule, Settings
from retrieval_draft.engine_client import EngineClient
from tests.engine.driving import wait_for

VOCAB = 100
TEXT = [n * n % 97 for n in range(200)]
WAIT = Settings(namespace="llama", cost=CostRule.NONE, step_ms_max=10_000.0)


class FakeModel:
    """What `bind` asks of llama_cpp.Llama."""

    model_path = "models/tiny.Q4_K_M.gguf"

    def n_vocab(self) -> int:
        return VOCAB

    def n_ctx(self) -> int:
        return 160

    def token_eos(self) -> int:
        return 99


@pytest.fixture
def drafter(in_memory: EngineClient) -> LlamaDrafter:
    served = ServingDrafter(in_memory, ServedModel("tiny", VOCAB, (99,)), WAIT)
    made = LlamaDrafter(drafter=served)
    made.bind(FakeModel())
    return made


def decode(drafter: LlamaDrafter, prompt: list[int], text: list[int]) -> int:
    """Decode `text` after `prompt` as Llama.generate does; how many evaluations it took."""
    history, evaluations, output = list(prompt), 0, 0
    draft: list[int] = []
    while output < len(text):
        evaluations += 1
        # One evaluation samples a token behind every drafted one, up to the first that differs.
        for guess in [*draft, None]:
            history.append(text[output])
            output += 1
            if output == len(text) or guess != history[-1]:
                break
        if output < len(text):
            # The library's array lives on and is overwritten: drafts must not hold on to it.
            array = np.array(history, np.intc)
            drafted = drafter(array)
            array[:] = -7
            assert drafted.dtype == np.intc
            assert len(drafted) <= 8
            assert not len(drafted) or 0 <= drafted.min() <= drafted.max() < VOCAB
            draft = drafted.tolist()
    return evaluations


def learned(client: EngineClient, tokens: int) -> bool:
    """Whether it has learned so many by now."""
    return client.stats("llama").namespaces[0].learned_tokens == tokens


def test_it_drafts_what_it_has_seen(drafter: LlamaDrafter, in_memory: EngineClient) -> None:
    first = decode(drafter, TEXT[:10], TEXT[10:90])
    drafter.finish()
    # The last token is never shown: nothing is drafted after it.
    wait_for(lambda: learned(in_memory, 79))
    second = decode(drafter, TEXT[:10], TEXT[10:90])
    assert first > 60, "nothing repeats within the first 97"
    assert second < 0.4 * first
    assert drafter.serving is not None
    assert drafter.serving.served.errors == 0


def test_a_request_ends_when_another_begins(drafter: LlamaDrafter) -> None:
    assert drafter.serving is not None
    decode(drafter, TEXT[:10], TEXT[10:60])
    (one,) = drafter.serving.open_requests()
    decode(drafter, TEXT[20:30], TEXT[30:60])
    (other,) = drafter.serving.open_requests()
    assert one != other
    drafter.finish()
    assert drafter.serving.open_requests() == []


def test_the_next_turn_of_a_chat_is_a_new_request(
    drafter: LlamaDrafter, in_memory: EngineClient
) -> None:
    """Its prompt begins with all of the last turn, and what the user said is not learned as output."""
    decode(drafter, TEXT[:10], TEXT[10:40])
    decode(drafter, [*TEXT[:40], *range(50, 70)], [71, 72, 73])
    drafter.finish()
    wait_for(lambda: learned(in_memory, 29 + 2))


def test_the_same_prompt_again_is_a_new_request(drafter: LlamaDrafter) -> None:
    assert drafter.serving is not None
    decode(drafter, TEXT[:10], TEXT[10:12])
    (one,) = drafter.serving.open_requests()
    decode(drafter, TEXT[:10], TEXT[10:12])
    (other,) = drafter.serving.open_requests()
    assert one != other


def test_drafts_end_with_the_context(drafter: LlamaDrafter) -> None:
    """Verification needs a place for a token of its own."""
    decode(drafter, TEXT[:10], TEXT[10:90])
    history = np.array(TEXT[:97] + TEXT[:60], np.intc)  # of 160
    assert len(drafter(history)) <= 2
    assert not len(drafter(np.array(TEXT[:97] + TEXT[:62], np.intc)))


def test_before_the_model_is_there_it_drafts_nothing() -> None:
    drafter = LlamaDrafter()
    assert not len(drafter(np.array([1, 2, 3], np.intc)))
    drafter.close()


def test_without_a_sidecar_it_drafts_nothing() -> None:
    drafter = LlamaDrafter({"sidecar": "unix:/nonexistent/sidecar.sock"})
    drafter.bind(FakeModel())
    assert drafter.serving is not None
    assert decode(drafter, TEXT[:10], TEXT[10:60]) == 50
    assert drafter.serving.served.errors == 0
    drafter.close()


def test_strange_histories_cost_drafts_alone(drafter: LlamaDrafter) -> None:
    assert drafter.serving is not None
    for tokens in ([], [5], [-1, 3], [VOCAB, 3], [2**31 - 1], [1, 2, 3]):
        assert len(drafter(np.array(tokens, np.intc))) <= 8
    assert drafter.serving.served.errors == 0
