"""A batch of SGLang's requests and its trees, with objects that have what its Req has.

The released package is tested by `make test-sglang`.
"""

from array import array
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from retrieval_draft.adapters.serving import ServedModel, ServingDrafter
from retrieval_draft.adapters.settings import Settings
from retrieval_draft.adapters.sglang import RankedDrafts, check_server_args
from retrieval_draft.adapters.sglang_batch import Batches, padded
from retrieval_draft.engine_client import EngineClient
from retrieval_draft.step import TreeShape
from retrieval_draft.tree import DraftTree, int32s
from tests.client.scripted import Clock
from tests.engine.driving import wait_for

NODES, VOCAB = 8, 100
TEXT = [n * n % 97 for n in range(200)]
WAIT = Settings(namespace="sglang", step_ms_max=10_000.0)


@dataclass
class Req:
    rid: str
    origin_input_ids_unpadded: list[int]
    output_ids: Any = field(default_factory=lambda: array("i"))
    lora_id: str | None = None
    cache_salt: str | None = None
    is_finished: bool = False
    sampling_params: Any = field(
        default_factory=lambda: SimpleNamespace(max_new_tokens=150, temperature=0.0)
    )

    def finished(self) -> bool:
        return self.is_finished


@pytest.fixture
def drafter(in_memory: EngineClient) -> ServingDrafter:
    return ServingDrafter(in_memory, ServedModel("m", VOCAB), WAIT, TreeShape.TREE)


def alone(rank: int = 0) -> Any:
    return SimpleNamespace(rank_in_group=rank, world_size=1, ranks=[0], cpu_group=None)


def test_a_tree_by_hand() -> None:
    """7 -> (5 -> 6, 8): the root, three nodes, and a filler below the root."""
    tree = DraftTree(int32s([5, 8, 6]), int32s([-1, -1, 0]))
    tokens, sees = padded([tree], [7], 5)
    assert tokens.dtype == np.int64
    assert sees.dtype == np.bool_
    assert tokens.tolist() == [7, 5, 8, 6, 0]
    assert sees.reshape(5, 5).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 0, 0, 0, 1],
    ]


def test_without_trees_the_whole_batch_is_filler() -> None:
    tokens, sees = padded([], [3, 4], 3)
    assert tokens.tolist() == [3, 0, 0, 4, 0, 0]
    assert sees.sum() == 2 * 5


def verified(tokens: np.ndarray[Any, Any], sees: np.ndarray[Any, Any], text: list[int]) -> int:
    """How many nodes of one padded tree agree with `text`, as SGLang walks it: by parents from the mask."""
    mask = sees.reshape(NODES, NODES)
    node, kept = 0, 0
    while True:
        children = [
            i for i in range(1, NODES) if mask[i, node] and mask[i].sum() == mask[node].sum() + 1
        ]
        found = [i for i in children if tokens[i] == text[kept]]
        if not found:
            return kept
        node, kept = found[0], kept + 1


def decode(drafts: RankedDrafts, request: Req, text: list[int], overlap: bool) -> int:
    """Decode as SGLang's scheduler does: with overlap, `output_ids` lag a step behind."""
    request.output_ids.append(text[0])  # of the prefill
    committed, steps, late = 1, 0, [text[0]]
    if overlap:
        del request.output_ids[:]
    while committed < len(text) - NODES:
        steps += 1
        staged = None
        if overlap:
            flat = torch.tensor([*late, *[-1] * (NODES - len(late))])
            staged = (flat, torch.tensor([len(late)]))
        tokens, sees = drafts.draft([request], staged)
        assert tokens[0] == text[committed - 1], "the root is the last committed token"
        kept = verified(tokens, sees, text[committed:])
        if overlap:
            request.output_ids.extend(late)
        late = text[committed : committed + kept + 1]
        if not overlap:
            request.output_ids.extend(late)
        committed += kept + 1
    if overlap:
        request.output_ids.extend(late)
    return steps


def test_no_fault_of_ours_reaches_the_scheduler(
    drafter: ServingDrafter, caplog: pytest.LogCaptureFixture
) -> None:
    drafts = RankedDrafts(drafter, 3, alone())
    # Of a version that says no salt, or calls it otherwise.
    odd: Any = SimpleNamespace(**vars(Req("r", [1, 2, 7])))
    del odd.cache_salt
    tokens, sees = drafts.draft([odd, Req("s", [4, 5])], None)
    assert tokens.tolist() == [7, 0, 0, 5, 0, 0]
    assert sees.sum() == 2 * 5
    assert "drafting failed" in caplog.text


def test_requests_that_never_say_they_finished_are_forgotten(in_memory: EngineClient) -> None:
    clock = Clock()
    drafter = ServingDrafter(in_memory, ServedModel("m", VOCAB), WAIT, clock=clock)
    batches = Batches(drafter, NODES)
    batches.draft([Req("lost", [1, 2])], [[3]])
    for _ in range(3):
        clock.now += WAIT.idle_seconds_max
        batches.draft([Req("other", [1, 2])], [[3]])
    assert list(batches._open) == ["other"]


@pytest.mark.parametrize("overlap", [False, True])
def test_what_a_request_taught_is_drafted_for_the_next(
    drafter: ServingDrafter, in_memory: EngineClient, overlap: bool
) -> None:
    drafts = RankedDrafts(drafter, NODES, alone())
    one, other = Req("one", TEXT[:10]), Req("other", TEXT[:10])
    text = TEXT[10:100]
    first = decode(drafts, one, text, overlap)
    # It has left the batch; only when it says so has it ended.
    tokens, _ = drafts.draft([Req("else", [1, 2, 3])], None)
    assert "one" in drafter.open_requests()
    one.is_finished = True
    tokens, _ = drafts.draft([Req("else", [1, 2, 3])], None)
    assert tokens[0] == 3
    assert drafter.open_requests() == ["else"]
    wait_for(lambda: in_memory.stats("sglang").namespaces[0].learned_tokens >= len(one.output_ids))
    second = decode(drafts, other, text, overlap)
    assert first > 60
    assert second < 0.4 * first
    assert drafter.served.errors == 0


def test_without_a_drafter_it_still_speculates(drafter: ServingDrafter) -> None:
    """SGLang verifies a tree for every request in every step, whatever there is to draft."""
    drafts = RankedDrafts(None, NODES, alone())
    tokens, sees = drafts.draft([Req("a", [5]), Req("b", [6], array("i", [9]))], None)
    assert tokens.reshape(2, NODES)[:, 0].tolist() == [5, 9]
    assert len(sees) == 2 * NODES * NODES


def test_ranks_agree_on_the_drafts_of_the_first(drafter: ServingDrafter) -> None:
    """Rank 1 has no drafter and other bytes; it verifies what rank 0 sent."""
    sent: list[torch.Tensor] = []

    def broadcast(tensor: torch.Tensor, src: int, group: Any) -> None:
        assert (src, group) == (4, "cpu")
        if sent:
            tensor.copy_(sent[0])
        else:
            sent.append(tensor.clone())

    ranks = [
        SimpleNamespace(rank_in_group=rank, world_size=2, ranks=[4, 5], cpu_group="cpu")
        for rank in (0, 1)
    ]
    request = Req("a", TEXT[:97] + TEXT[:20])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "broadcast", broadcast)
        first = RankedDrafts(drafter, NODES, ranks[0]).draft([request], None)
        second = RankedDrafts(None, NODES, ranks[1]).draft([request], None)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[1].sum() > NODES, "there is a draft among them"


def test_adapters_and_salts_do_not_share(drafter: ServingDrafter) -> None:
    batches = Batches(drafter, NODES)
    row = batches._row(Req("a", [1, 2], lora_id="french", cache_salt="tenant"), [])
    assert (row.adapter, row.salt, row.nodes_max, row.length_max) == ("french", "tenant", 7, 152)


def test_pipelines_are_refused() -> None:
    check_server_args(SimpleNamespace(pp_size=1))
    with pytest.raises(ValueError, match="--pp-size is 2"):
        check_server_args(SimpleNamespace(pp_size=2))
