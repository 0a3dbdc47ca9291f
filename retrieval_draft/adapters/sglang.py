"""Draft trees in SGLang: `--speculative-algorithm RETRIEVAL_DRAFT`. Experimental.

Registered through SGLang's plugins (entry point `sglang.srt.plugins`), as an algorithm that goes the way
of its NGRAM: drafts are made on the host, verified as trees, and kept in no cache. Its worker is NGRAM's
with another source of drafts.
"""

import logging
import os
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from retrieval_draft.adapters.opening import serving_drafter
from retrieval_draft.adapters.serving import ServedModel, ServingDrafter
from retrieval_draft.adapters.sglang_batch import Batches, padded
from retrieval_draft.errors import NotServed
from retrieval_draft.step import TreeShape
from retrieval_draft.tree import BoolArray, Int64Array

NAME = "RETRIEVAL_DRAFT"
ERRORS_LOGGED_MAX = 10
_SPECULATIVE = "sglang.srt.speculative"

log = logging.getLogger(__name__)


def register() -> None:
    """Make the algorithm known; SGLang calls it in each of its processes."""
    info: Any = import_module(f"{_SPECULATIVE}.spec_info")
    ngram = info.SpeculativeAlgorithm.NGRAM

    class RetrievalDraft(info.CustomSpecAlgo):  # type: ignore[misc]
        """NGRAM but for its name and its worker."""

        def is_ngram(self) -> bool:
            return True

        def has_draft_kv(self) -> bool:
            return False

        def handle_server_args(self, server_args: Any) -> None:
            ngram.handle_server_args(server_args)

        def __getattr__(self, name: str) -> Any:
            # What built-in algorithms have and plugins need not: as NGRAM has it.
            return getattr(ngram, name)

    registered: Any = info.SpeculativeAlgorithm.register(
        NAME,
        supports_overlap=True,
        validate_server_args=check_server_args,
        spec_class=RetrievalDraft,
    )
    registered(lambda server_args: worker_class())


def check_server_args(server_args: Any) -> None:
    """Raises ValueError for what cannot be served: each stage of a pipeline would draft for itself."""
    if (stages := getattr(server_args, "pp_size", 1)) > 1:
        raise ValueError(f"--pp-size is {stages}, the limit is 1 with {NAME}")


def worker_class() -> type:
    """NGRAM's worker, drafting by us."""
    ngram: Any = import_module(f"{_SPECULATIVE}.ngram_worker")

    class RetrievalDraftWorker(ngram.NGRAMWorker):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            # The corpus of its own would be compiled, and take memory, for nothing.
            real, ngram.NgramCorpus = ngram.NgramCorpus, NoCorpus
            try:
                super().__init__(*arguments, **more)
            finally:
                ngram.NgramCorpus = real
            group = import_module("sglang.srt.distributed").get_tp_group()
            drafter = self._drafter() if group.rank_in_group == 0 else None
            self.drafts = RankedDrafts(drafter, self.draft_token_num, group)

        def _drafter(self) -> ServingDrafter | None:
            try:
                config = self.target_worker.model_config
                ends = tuple(sorted(config.hf_eos_token_id or ()))
                model = ServedModel(config.model_path, config.vocab_size, ends)
            except Exception:
                log.exception("no drafts, SGLang's model is not as expected")
                return None
            return serving_drafter(model, None, os.environ, TreeShape.TREE)

        def _prepare_draft_tokens(self, batch: Any) -> tuple[Int64Array, BoolArray]:
            late = None
            if self.enable_overlap and not batch.grammar_needs_sync():
                # The newest tokens are not with their requests yet.
                late = (batch.spec_info.accept_tokens, batch.spec_info.accept_lens)
            return self.drafts.draft(batch.reqs, late)

        def _update_ngram_corpus(self, batch: Any) -> None:
            """Nothing: what was committed is learned with the next step."""

    return RetrievalDraftWorker


class RankedDrafts:
    """Drafts of a step that all ranks of a tensor-parallel group agree on: rank 0's."""

    def __init__(self, drafter: ServingDrafter | None, nodes: int, group: Any) -> None:
        """`nodes` of every tree, its root among them; `group` as SGLang's GroupCoordinator."""
        self._nodes, self._group = nodes, group
        self._errors = 0
        self._batches = Batches(drafter, nodes) if drafter is not None else None

    def draft(
        self, requests: list[Any], late: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[Int64Array, BoolArray]:
        """int64[B * n] tokens and bool[B * n * n] ancestors; the root is the last committed token.

        `late` are the tokens that were accepted last, int[B * n], and how many of each request's.
        """
        if self._group.rank_in_group == 0:
            committed = _late_tokens(late, len(requests), self._nodes)
            drafted = self._own(requests, committed)
        else:
            drafted = padded([], [0] * len(requests), self._nodes)
        return drafted if self._group.world_size == 1 else self._broadcast(*drafted)

    def _own(self, requests: list[Any], late: list[list[int]]) -> tuple[Int64Array, BoolArray]:
        if self._batches is not None:
            try:
                return self._batches.draft(requests, late)
            except Exception:
                # The scheduler dies of what its drafter raises, and the other ranks wait for ours.
                self._errors += 1
                if self._errors <= ERRORS_LOGGED_MAX:
                    log.exception("drafting failed")
        return padded([], [_last(*one) for one in zip(requests, late, strict=True)], self._nodes)

    def _broadcast(self, tokens: Int64Array, sees: BoolArray) -> tuple[Int64Array, BoolArray]:
        both = torch.from_numpy(np.concatenate([tokens.view(np.uint8), sees.view(np.uint8)]))
        group = self._group
        torch.distributed.broadcast(both, src=group.ranks[0], group=group.cpu_group)
        received = both.numpy()
        cut = tokens.nbytes
        return received[:cut].view(np.int64).copy(), received[cut:].view(np.bool_).copy()


class NoCorpus:
    """In place of NGRAM's corpus: nothing is in it. Corpora are warmed in our store instead."""

    def __init__(self, **_: object) -> None: ...

    def reset(self) -> None: ...

    def synchronize(self) -> None: ...

    def erase_match_state(self, request_ids: Iterable[str]) -> None: ...

    def list_external_corpora(self) -> dict[str, int]:
        return {}

    def remove_external_corpus(self, corpus_id: str) -> None: ...

    def commit_external_corpus_load(self, corpus_id: str, tokens: int) -> None: ...

    def load_external_corpus_named(self, corpus_id: str, chunks: object) -> int:
        raise NotServed("warm a corpus with `retrieval-draft warm`")


def _late_tokens(
    late: tuple[torch.Tensor, torch.Tensor] | None, batch: int, nodes: int
) -> list[list[int]]:
    if late is None:
        return [[] for _ in range(batch)]
    tokens, lengths = late[0].cpu().tolist(), late[1].cpu().tolist()
    return [tokens[b * nodes : b * nodes + lengths[b]] for b in range(batch)]


def _last(request: Any, late: list[int]) -> int:
    for tokens in (late, request.output_ids, request.origin_input_ids_unpadded):
        if len(tokens):
            return int(tokens[-1])
    return 0
