"""Observe only: plain decoding outside, and inside the figures of a worker that verifies."""

from contextlib import closing

from retrieval_draft.engine_client import EngineClient
from retrieval_draft.gpu.decoder import Decoder
from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.request import Request
from retrieval_draft.gpu.sampling import SamplingOptions
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.observing import ObservingDrafter
from retrieval_draft.step import DraftOptions, Learning
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import DraftTree, int32s
from tests.gpu.drafters import ScriptedDrafter, tree_of
from tests.gpu.driving import decode_all

STEP_MS_MAX = 1000.0


def test_it_counts_what_a_verifying_worker_counts() -> None:
    model = load_model(demo_folder(), dtype="float32", device="cpu", threads=1)
    prompt = int32s(load_tokenizer("demo").encode("def __init__(self, name):\n").ids)
    requests = [Request(str(i), prompt, 60, SamplingOptions(0.4, seed=i)) for i in range(3)]
    found = []
    for observes in (False, True):
        with closing(EngineClient.in_memory()) as client:
            options = DraftOptions(nodes_max=8)
            inner = converse(client, model, "x", options, step_ms_max=STEP_MS_MAX)
            drafter = ObservingDrafter(inner) if observes else inner
            decoder = Decoder(model, slots=1, length_max=256, nodes_max=8, drafter=drafter)
            outputs = decode_all(decoder, requests)
            stats = client.stats("x").namespaces[0]
            figures = list(outputs.figures.values())
            found.append((outputs.tokens, stats.drafted, stats.accepted, stats.steps))
            assert (sum(one.drafted for one in figures) == 0) == observes
    (tokens, drafted, accepted, steps), (tokens_observed, *observed) = found
    assert tokens_observed == tokens
    assert accepted > 0
    # The newest records come back through the journal a little later or earlier.
    for here, there in zip((drafted, accepted, steps), observed, strict=True):
        assert abs(here - there) <= 0.25 * here


def test_a_draft_is_asked_for_when_the_one_before_is_used_up() -> None:
    asked: list[int] = []

    def plan(tokens: list[int]) -> DraftTree:
        asked.append(len(tokens))
        return tree_of([7, 8], [-1, 0])

    inner = ScriptedDrafter(plan)
    drafter = ObservingDrafter(inner)
    drafter.open(
        "a",
        int32s([1, 2]),
        rows=None,
        temperature=0.0,
        length_max=0,
        end_tokens=(),
        learning=Learning.UNSPECIFIED,
        corpora=(),
    )
    drafter.commit("a", int32s([3]), -1, None)
    for token in (7, 8, 9, 4):
        assert drafter.draft({"a": 8}) == {}
        drafter.commit("a", int32s([token]), -1, None)
    # 7 and 8 agree with the tree, 9 is the bonus; then 4 does not agree.
    assert asked == [3, 6]
    assert inner.told["a"].tokens == [1, 2, 3, 7, 8, 9, 4]
