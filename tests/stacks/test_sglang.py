"""The released SGLang, with its kernels left out: `make test-sglang` runs this, with the package in place."""

import inspect
import random
import re
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from retrieval_draft.adapters.sglang import NAME, NoCorpus, RankedDrafts, register, worker_class
from retrieval_draft.adapters.sglang_batch import padded
from retrieval_draft.errors import NotServed
from retrieval_draft.tree import DraftTree, int32s
from tests.stacks.stubs import SGLANG, stand_in

if find_spec("sglang") is None:
    pytest.skip("make test-sglang has SGLang", allow_module_level=True)
stand_in(*SGLANG)
info: Any = import_module("sglang.srt.speculative.spec_info")
ngram: Any = import_module("sglang.srt.speculative.ngram_worker")
NGRAM = info.SpeculativeAlgorithm.NGRAM
NODES = 8


@pytest.fixture(scope="module")
def algorithm() -> Any:
    register()
    return info.SpeculativeAlgorithm.from_string(NAME.lower())


def random_tree(dice: random.Random) -> DraftTree:
    """Up to one node fewer than are verified: the root is one of them."""
    n = dice.randint(0, NODES - 1)
    edges: list[tuple[int, int]] = []
    while len(edges) < n:
        edge = (dice.randint(-1, len(edges) - 1), dice.randint(1, 90))
        if edge not in edges:
            edges.append(edge)
    return DraftTree(int32s([t for _, t in edges]), int32s([p for p, _ in edges]))


def test_the_algorithm_is_ngram_but_for_its_name(algorithm: Any) -> None:
    assert algorithm.name == NAME
    assert algorithm.supports_overlap
    for name in vars(info.SpeculativeAlgorithm):
        if name.startswith(("is_", "supports_", "has_", "carries_", "need_")):
            ours, theirs = getattr(algorithm, name), getattr(NGRAM, name)
            # `supports_overlap` is a flag here and not there.
            if callable(ours) and callable(theirs):
                assert ours() == theirs(), name
    assert callable(algorithm.create_future_map)


def test_its_worker_overrides_what_there_is() -> None:
    """A method that was renamed would leave NGRAM's own drafts in place."""
    worker = worker_class()
    assert issubclass(worker, ngram.NGRAMWorker)
    for name in ("_prepare_draft_tokens", "_update_ngram_corpus"):
        theirs, ours = getattr(ngram.NGRAMWorker, name), getattr(worker, name)
        assert theirs is not ours
        assert list(inspect.signature(theirs).parameters) == list(
            inspect.signature(ours).parameters
        )
    assert "grammar_needs_sync" in inspect.getsource(ngram.NGRAMWorker._prepare_draft_tokens)


def test_no_corpus_has_what_is_asked_of_a_corpus() -> None:
    source = inspect.getsource(ngram.NGRAMWorker)
    asked = set(re.findall(r"self\.ngram_corpus\.(\w+)", source)) - {"batch_get", "batch_put"}
    assert len(asked) >= 4
    assert asked <= set(dir(NoCorpus))
    with pytest.raises(NotServed, match="warm"):
        NoCorpus().load_external_corpus_named("a", [])


@pytest.mark.parametrize("seed", range(20))
def test_its_links_are_those_of_our_trees(seed: int) -> None:
    """SGLang derives who comes first below a node and who stands beside it, from the mask alone."""
    dice = random.Random(seed)  # noqa: S311 - test data
    trees = [random_tree(dice) for _ in range(4)]
    _, sees = padded(trees, [3] * len(trees), NODES)
    first, beside = ngram._derive_tree_links(sees, len(trees), NODES)
    for b, tree in enumerate(trees):
        fillers = NODES - 1 - len(tree)
        parents = [-1, *(p + 1 for p in tree.parent.tolist()), *[0] * fillers]
        for node in range(NODES):
            children = [i for i in range(NODES) if parents[i] == node]
            assert first[b, node] == (children[0] if children else -1)
            for one, other in pairwise([*children, -1] if children else []):
                assert beside[b, one] == other


def test_a_worker_is_made_and_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what its base reads of the running server; its corpus is not built."""
    spec = dict.fromkeys(re.findall(r"get_spec\(\)\.(\w+)", inspect.getsource(ngram)))
    spec |= {"speculative_num_draft_tokens": NODES}
    schedule = SimpleNamespace(disable_overlap_schedule=True, page_size=1)
    monkeypatch.setattr(ngram, "get_spec", lambda: SimpleNamespace(**spec))
    monkeypatch.setattr(ngram, "get_schedule", lambda: schedule)
    monkeypatch.setattr(ngram, "get_device", lambda: SimpleNamespace(device="cpu"))
    group = SimpleNamespace(rank_in_group=0, world_size=1)
    distributed = import_module("sglang.srt.distributed")
    monkeypatch.setattr(distributed, "get_tp_group", lambda: group)
    monkeypatch.setenv("RETRIEVAL_DRAFT_SIDECAR", "unix:/nonexistent/s.sock")
    config = SimpleNamespace(model_path="a/b", vocab_size=100, hf_eos_token_id={2})
    target = SimpleNamespace(model_config=config, model_runner=SimpleNamespace())
    real = ngram.NgramCorpus
    worker = worker_class()(None, 0, 0, target)
    assert ngram.NgramCorpus is real
    assert isinstance(worker.ngram_corpus, NoCorpus)
    assert isinstance(worker.drafts, RankedDrafts)
    request = SimpleNamespace(
        rid="a",
        origin_input_ids_unpadded=[1, 2],
        output_ids=[3],
        lora_id=None,
        cache_salt=None,
        sampling_params=SimpleNamespace(max_new_tokens=9, temperature=0.0),
        finished=lambda: False,
    )
    batch = SimpleNamespace(reqs=[request], grammar_needs_sync=lambda: False)
    tokens, sees = worker._prepare_draft_tokens(batch)
    assert (tokens.dtype, tokens.shape) == (np.int64, (NODES,))
    assert (sees.dtype, sees.shape) == (np.bool_, (NODES * NODES,))
    assert tokens[0] == 3
    assert torch.from_numpy(sees).sum() == 2 * NODES - 1
    worker._update_ngram_corpus(batch)
    worker.clear_cache_pool()


def test_its_requests_have_what_is_read_of_them() -> None:
    source = inspect.getsource(import_module("sglang.srt.managers.schedule_batch").Req)
    for name in ("rid", "origin_input_ids_unpadded", "output_ids", "lora_id", "cache_salt"):
        assert f"self.{name}" in source, name
    assert "def finished(self)" in source
