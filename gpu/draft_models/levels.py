"""The tree of a draft model as it grows: dynamic expansion by cumulative probability.

Per level the `width` most probable nodes are expanded, by `width` children each; at the end the most
probable nodes of all levels are kept (EAGLE-2: Li et al., EMNLP 2024, arXiv 2406.16858). All sequences of
a batch grow alike, in arrays of one shape; what a sequence lacks is filled with nodes of no probability.
"""

import numpy as np

from retrieval_draft.tree import SOURCES, BoolArray, DraftTree, Float64Array, Int64Array, int32s

MODEL_SOURCE = 1 << SOURCES["model"]
NEVER = -np.inf
PROBABILITY_MIN = 1e-30
"""Less is no probability on the wire."""

Frontier = tuple[float, list[int]]
"""The probability of a node, and the tokens that lead to it."""


class Levels:
    """`token`, `parent` (node, -1 = root), `logprob` of the path and `said` [B, nodes] of all that was
    offered; `entry_token`, `entry_parent` [B, entries] and `sees` bool[B, entries, entries] of the nodes
    that were expanded.
    """

    def __init__(self, batch: int, width: int, end_tokens: list[frozenset[int]]) -> None:
        self.batch, self.width = batch, width
        self._ends = [np.array(sorted(ends), np.int64) for ends in end_tokens]
        self.token = np.zeros((batch, 0), np.int64)
        self.parent = np.zeros((batch, 0), np.int64)
        self.logprob: Float64Array = np.zeros((batch, 0), np.float64)
        self.said: Float64Array = np.zeros((batch, 0), np.float64)
        self.entry_token = np.zeros((batch, 0), np.int64)
        self.entry_parent = np.zeros((batch, 0), np.int64)
        self.sees: BoolArray = np.zeros((batch, 0, 0), np.bool_)
        self._entry_of = np.zeros((batch, 0), np.int64)
        self._newest = 0

    def offer(
        self, above: Int64Array, tokens: Int64Array, logprobs: Float64Array, said: Float64Array
    ) -> None:
        """A level: [B, r, width] children of the nodes `above` [B, r], with their conditional logprobs,
        and those that the model `said` before they were corrected.
        """
        batch = self.batch
        worth = np.zeros(above.shape)
        for b in range(batch):
            inner = above[b] >= 0
            worth[b, inner] = self.logprob[b, above[b, inner]]
            # Nothing follows an end token.
            worth[b, inner & np.isin(self._tokens(b, above[b]), self._ends[b])] = NEVER
        self._newest = self.token.shape[1]
        logprob = np.minimum(logprobs, 0.0) + worth[:, :, None]
        parent = np.repeat(above[:, :, None], tokens.shape[2], axis=2)
        self.token = np.hstack([self.token, tokens.reshape(batch, -1)])
        self.parent = np.hstack([self.parent, parent.reshape(batch, -1)])
        self.logprob = np.hstack([self.logprob, logprob.reshape(batch, -1)])
        self.said = np.hstack([self.said, said.reshape(batch, -1)])
        self._entry_of = np.hstack([self._entry_of, np.full((batch, parent[0].size), -1)])

    def forbid(self, b: int) -> None:
        """What sequence `b` was offered last goes too deep."""
        self.logprob[b, self._newest :] = NEVER

    def gains(self, b: int, nodes_max: int) -> bool:
        """Whether a further level could change the best `nodes_max` nodes of sequence `b`."""
        newest = self.logprob[b, self._newest :]
        if not len(newest) or newest.max() == NEVER:
            return False
        if self.logprob.shape[1] < nodes_max:
            return True
        least = np.partition(self.logprob[b], -nodes_max)[-nodes_max]
        return bool(newest.max() > least)

    def frontier(self, b: int) -> list[Frontier]:
        """What a further level would expand of sequence `b`: each node's probability and path."""
        newest = self.logprob[b, self._newest :]
        nodes = self._newest + np.argsort(-newest, kind="stable")[: self.width]
        token, parent = self.token[b].tolist(), self.parent[b].tolist()
        found: list[Frontier] = []
        for node in nodes.tolist():
            path, at = [], node
            while at >= 0:
                path.append(token[at])
                at = parent[at]
            found.append((float(np.exp(self.logprob[b, node])), path[::-1]))
        return found

    def expand(self) -> tuple[Int64Array, Int64Array, BoolArray]:
        """The newest level's best nodes [B, r] become entries: their numbers, tokens, and whom they see."""
        newest = self.logprob[:, self._newest :]
        count = min(self.width, newest.shape[1])
        nodes = self._newest + np.argsort(-newest, axis=1, kind="stable")[:, :count]
        tokens = np.take_along_axis(self.token, nodes, 1)
        above = np.take_along_axis(self.parent, nodes, 1)
        older = self.entry_token.shape[1]
        sees = np.zeros((self.batch, older + count, older + count), np.bool_)
        sees[:, :older, :older] = self.sees
        entry_above = np.full_like(above, -1)
        for b in range(self.batch):
            inner = above[b] >= 0
            entry_above[b, inner] = self._entry_of[b, above[b, inner]]
            sees[b, older:][inner] = sees[b][entry_above[b, inner]]
            sees[b, older:, older:] = np.eye(count, dtype=np.bool_)
            self._entry_of[b, nodes[b]] = older + np.arange(count)
        self.sees = sees
        self.entry_token = np.hstack([self.entry_token, tokens])
        self.entry_parent = np.hstack([self.entry_parent, entry_above])
        return nodes, tokens, sees[:, older:]

    def tree(self, b: int, nodes_max: int) -> DraftTree:
        """The most probable nodes of sequence `b`; a node's parent is never less probable, nor behind it."""
        order = np.argsort(-self.logprob[b], kind="stable")[:nodes_max]
        nodes = np.sort(order[self.logprob[b, order] > NEVER])
        place = np.full(self.token.shape[1] + 1, -1, np.int64)
        place[nodes] = np.arange(len(nodes))
        probability = np.exp(self.logprob[b, nodes]).clip(PROBABILITY_MIN, 1.0)
        return DraftTree(
            int32s(self.token[b, nodes]),
            int32s(place[self.parent[b, nodes]]),
            probability.astype(np.float32),
            np.full(len(nodes), MODEL_SOURCE, np.uint32),
        )

    def _tokens(self, b: int, nodes: Int64Array) -> Int64Array:
        return np.where(nodes >= 0, self.token[b, nodes], -1) if self.token.shape[1] else nodes
