"""Other drafters behind replay's four calls, for comparisons in the same run, process and thread.

ArcticInference's SuffixDecoding is used as it is installed; nothing of it is in this package. Prompt
lookup is a baseline of ours that drafts what transformers' drafts: the longest of the last 3, 2, 1
tokens' first occurrence in the sequence, and what followed there.
"""

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from retrieval_draft.step import Rows
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, int32s

ARCTIC_MODULE = "arctic_inference.suffix_decoding"
SUFFIX_DEPTH = 64
"""Of its trees, and the tokens of context it is asked with: its own default."""
LOOKUP_LENGTH_MAX = 3


@dataclass(frozen=True, slots=True)
class SuffixSetting:
    """Draft at most factor * match + offset nodes, none below probability_min."""

    factor: float
    offset: float
    probability_min: float

    def __str__(self) -> str:
        return f"factor {self.factor:g}, offset {self.offset:g}, p {self.probability_min:g}"


SUFFIX_SETTINGS = (
    SuffixSetting(1.0, 0.0, 0.1),
    SuffixSetting(4.0, 8.0, 0.0),
    SuffixSetting(1.0, 64.0, 0.001),
)
"""Its default, and the two looser ones that serve trees best; the best of the three counts."""


class SuffixDraft(Protocol):
    """What SuffixDecodingCache.speculate returns."""

    token_ids: Sequence[int]
    parents: Sequence[int]
    probs: Sequence[float]


class SuffixCache(Protocol):
    """The calls of SuffixDecodingCache that are made here."""

    def start_request(self, req_id: int, prompt_token_ids: Int32Array) -> None: ...

    def add_active_response(self, req_id: int, token_ids: Int32Array) -> None: ...

    def speculate(
        self,
        req_id: int,
        context: Int32Array,
        *,
        max_spec_tokens: int,
        max_spec_factor: float,
        max_spec_offset: float,
        min_token_prob: float,
        use_tree_spec: bool,
    ) -> SuffixDraft: ...

    def stop_request(self, req_id: int) -> None: ...


def new_suffix_cache() -> SuffixCache | None:
    """A cache of unbounded size, or None where ArcticInference is not installed."""
    try:
        module = importlib.import_module(ARCTIC_MODULE)
    except ImportError:
        return None
    return cast(SuffixCache, module.SuffixDecodingCache(SUFFIX_DEPTH, -1))


class SuffixPeer:
    """SuffixDecoding; what is timed is its speculate, and its update with what was committed before."""

    def __init__(
        self, cache: SuffixCache, setting: SuffixSetting, nodes_max: int, *, is_tree: bool
    ) -> None:
        self.seconds = self.answer_seconds = 0.0
        self._cache, self._setting = cache, setting
        self._nodes_max, self._is_tree = nodes_max, is_tree
        self._number = 0
        self._context = int32s([])
        self._learning = 0.0

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        self._number += 1
        self._cache.start_request(self._number, prompt)
        self._context = prompt[-SUFFIX_DEPTH:]
        self._learning = 0.0

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        tokens = np.ascontiguousarray(tokens)
        began = time.perf_counter()
        self._cache.add_active_response(self._number, tokens)
        self._learning = time.perf_counter() - began
        self._context = np.concatenate([self._context, tokens])[-SUFFIX_DEPTH:]

    def draft(self) -> DraftTree:
        setting = self._setting
        began = time.perf_counter()
        drafted = self._cache.speculate(
            self._number,
            self._context,
            max_spec_tokens=self._nodes_max,
            max_spec_factor=setting.factor,
            max_spec_offset=setting.offset,
            min_token_prob=setting.probability_min,
            use_tree_spec=self._is_tree,
        )
        # Its update comes before the next draft, in the caller's time.
        self.seconds = self.answer_seconds = time.perf_counter() - began + self._learning
        return DraftTree(
            int32s(drafted.token_ids),
            int32s(drafted.parents),
            np.array(drafted.probs, np.float32),
        )

    def close(self) -> None:
        self._cache.stop_request(self._number)


class LookupPeer:
    """Prompt lookup with an index of first occurrences, so that its time is not the rescan's."""

    def __init__(self, nodes_max: int) -> None:
        self.seconds = self.answer_seconds = 0.0
        self._nodes_max = nodes_max
        self._tokens: list[int] = []
        self._follows: dict[tuple[int, ...], int] = {}
        self._learning = 0.0

    def open(self, prompt: Int32Array, rows: Rows | None, temperature: float | None) -> None:
        self._tokens, self._follows = [], {}
        self._extend(prompt)

    def commit(self, tokens: Int32Array, accepted: int, rows: Rows | None) -> None:
        began = time.perf_counter()
        self._extend(tokens)
        self._learning = time.perf_counter() - began

    def draft(self) -> DraftTree:
        began = time.perf_counter()
        tree = self._drafted()
        self.seconds = self.answer_seconds = time.perf_counter() - began + self._learning
        return tree

    def close(self) -> None:
        self._tokens, self._follows = [], {}

    def _extend(self, tokens: Int32Array) -> None:
        """Note what follows every run of 1 to 3 tokens that is not a sequence's last."""
        for token in tokens.tolist():
            place = len(self._tokens)
            for length in range(1, min(LOOKUP_LENGTH_MAX, place) + 1):
                self._follows.setdefault(tuple(self._tokens[place - length :]), place)
            self._tokens.append(token)

    def _drafted(self) -> DraftTree:
        for length in range(min(LOOKUP_LENGTH_MAX, len(self._tokens)), 0, -1):
            place = self._follows.get(tuple(self._tokens[-length:]))
            if place is not None:
                chain = int32s(self._tokens[place : place + self._nodes_max])
                n = len(chain)
                parents = np.arange(-1, n - 1, dtype=np.int32)
                return DraftTree(chain, parents, np.ones(n, np.float32))
        return EMPTY
