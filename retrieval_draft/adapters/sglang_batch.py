"""A batch of SGLang's requests as rows of a drafter, and its trees as SGLang verifies them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from retrieval_draft.adapters.serving import Row, ServingDrafter
from retrieval_draft.tree import EMPTY, BoolArray, DraftTree, Int32Array, Int64Array


class Request(Protocol):
    """Of SGLang's Req what is read."""

    @property
    def rid(self) -> str: ...

    @property
    def origin_input_ids_unpadded(self) -> Sequence[int]: ...

    @property
    def output_ids(self) -> Sequence[int]: ...

    @property
    def lora_id(self) -> str | None: ...

    @property
    def cache_salt(self) -> str | None: ...

    @property
    def sampling_params(self) -> Any: ...

    def finished(self) -> bool: ...


class _Open:
    """A request's tokens so far: `output` of them are of its output."""

    def __init__(self, request: Request) -> None:
        self.request = request
        prompt = np.asarray(request.origin_input_ids_unpadded, np.int32)
        self.prompt_length = len(prompt)
        self._tokens = np.empty(2 * len(prompt) + 64, np.int32)
        self._tokens[: len(prompt)] = prompt
        self._length = len(prompt)

    @property
    def history(self) -> Int32Array:
        return self._tokens[: self._length]

    def take(self, request: Request, late: Sequence[int]) -> int:
        """What is new in its output; how many tokens that is."""
        self.request = request
        known = self._length - self.prompt_length
        output = request.output_ids
        fresh = [*output[known:], *late[max(0, known - len(output)) :]]
        if self._length + len(fresh) > len(self._tokens):
            grown = np.empty(2 * (self._length + len(fresh)), np.int32)
            grown[: self._length] = self.history
            self._tokens = grown
        self._tokens[self._length : self._length + len(fresh)] = fresh
        self._length += len(fresh)
        return len(fresh)


class Batches:
    """One rank's drafts. Absence from a batch is not the end of a request: SGLang says when it finished."""

    def __init__(self, drafter: ServingDrafter, nodes: int) -> None:
        self._drafter, self._nodes = drafter, nodes
        self._open: dict[str, _Open] = {}

    def draft(
        self, requests: Sequence[Request], late: Sequence[Sequence[int]]
    ) -> tuple[Int64Array, BoolArray]:
        """int64[B * n] and bool[B * n * n]; `late` tokens are not among a request's output yet."""
        self._finish({request.rid for request in requests})
        rows = [self._row(*one) for one in zip(requests, late, strict=True)]
        trees = self._drafter.step(rows)
        return padded(trees, [int(row.history[-1]) for row in rows], self._nodes)

    def _row(self, request: Request, late: Sequence[int], nodes_max: int | None = None) -> Row:
        known = self._open.get(request.rid)
        if known is None or known.prompt_length != len(request.origin_input_ids_unpadded):
            known = self._open[request.rid] = _Open(request)
        fresh = known.take(request, late)
        sampling = request.sampling_params
        output_max = getattr(sampling, "max_new_tokens", None)
        return Row(
            request.rid,
            known.history,
            fresh,
            self._nodes - 1 if nodes_max is None else nodes_max,
            length_max=known.prompt_length + output_max if output_max else 0,
            temperature=getattr(sampling, "temperature", None),
            adapter=request.lora_id or "",
            salt=request.cache_salt or "",
        )

    def _finish(self, present: set[str]) -> None:
        absent = [known.request for rid, known in self._open.items() if rid not in present]
        if not absent:
            return
        ended = [request for request in absent if request.finished()]
        if ended:
            self._drafter.step([self._row(request, (), 0) for request in ended])
            self._drafter.finish([request.rid for request in ended])
        # Requests that are dropped while they wait may never be said to have finished.
        kept = present.union(self._drafter.open_requests())
        for request in absent:
            if request.rid not in kept:
                del self._open[request.rid]


def padded(
    trees: Sequence[DraftTree], roots: Sequence[int], nodes: int
) -> tuple[Int64Array, BoolArray]:
    """Trees of exactly `nodes` nodes, root first: tokens, flat, and who sees whom, flat.

    SGLang verifies every node that there is, so what is missing is filled with children of the root that
    say token 0: where the target says that too, it is rightly accepted.
    """
    tokens = np.zeros((len(roots), nodes), np.int64)
    sees = np.zeros((len(roots), nodes, nodes), np.bool_)
    tokens[:, 0] = roots
    sees[:, :, 0] = True
    sees[:, np.arange(nodes), np.arange(nodes)] = True
    for b in range(len(roots)):
        tree = trees[b] if b < len(trees) else EMPTY
        n = min(len(tree), nodes - 1)
        if n:
            tokens[b, 1 : n + 1] = tree.token[:n]
            sees[b, 1 : n + 1, 1 : n + 1] = tree.ancestors()[:n, :n]
    return tokens.reshape(-1), sees.reshape(-1)
