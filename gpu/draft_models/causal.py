"""Any causal language model of the target's vocabulary as a draft model.

It reads what was committed into a cache of its own and grows one tree a sequence, level by level, all
sequences in one forward. What it computed of the path that was then accepted stays in the cache; the rest
is forgotten. A long prompt is read in chunks, one a step: until it is through there are no drafts.
"""

from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.drafter import Opening
from retrieval_draft.gpu.draft_models.draft_model import GoesOn
from retrieval_draft.gpu.draft_models.level_runner import CHUNK_TOKENS_MAX, LevelRunner
from retrieval_draft.gpu.draft_models.levels import Levels
from retrieval_draft.gpu.draft_models.shares import Shares
from retrieval_draft.gpu.slot_cache import Move
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.step import Rows
from retrieval_draft.tree import DraftTree, Float32Array, Float64Array, Int32Array, Int64Array

DEPTH_DEFAULT = 5
CHILDREN_DEFAULT = 4
FAILURES_MAX = 3
"""In a row, until it is asked no more; a new sequence gives it one more try."""
BACKLOG_MAX = 32
"""Tokens that the model has not read and that go with the root; more are read apart."""


@dataclass(slots=True)
class _Followed:
    """A sequence: its committed tokens, how many of them are cached, and the entries behind those."""

    sequence_id: str
    tokens: list[int]
    end_tokens: frozenset[int]
    temperature: float | None
    """None: greedy."""
    cached: int = 0
    entry_token: list[int] = field(default_factory=list[int])
    entry_parent: list[int] = field(default_factory=list[int])
    offered: "_Offered | None" = None

    @property
    def kind(self) -> int:
        return int(self.temperature is not None)

    def forget(self) -> None:
        """Whatever the cache holds now, it is read again."""
        self.cached = 0
        self.entry_token, self.entry_parent = [], []

    def kept(self) -> list[int]:
        """The entries of the path that was committed since, in order."""
        path: list[int] = []
        above = -1
        edges = list(zip(self.entry_parent, self.entry_token, strict=True))
        for token in self.tokens[self.cached :]:
            if (above, token) not in edges:
                break
            above = edges.index((above, token))
            path.append(above)
        return path


@dataclass(frozen=True, slots=True, eq=False)
class _Offered:
    """All nodes of the newest tree that the model looked at, with what it said of each."""

    token: Int64Array
    parent: Int64Array
    said: Float64Array


class CausalDrafts:
    """Trees of up to `depth_max` levels; `children_max` nodes a level are expanded, by as many children.

    Implements DraftModel. Memory: keys and values of `slots` sequences of `length_max` positions. With
    `shares` probabilities are what the model's have been worth.
    """

    observation_width = hidden_width = 0

    def __init__(
        self,
        model: TargetModel,
        *,
        slots: int,
        length_max: int,
        depth_max: int = DEPTH_DEFAULT,
        children_max: int = CHILDREN_DEFAULT,
        shares: Shares | None = None,
    ) -> None:
        self.model, self.shares = model, shares
        self.depth_max = depth_max
        self.children_max = min(children_max, model.vocab_size)
        self.length_max = min(length_max, model.context_tokens_max)
        self._scratch = max(BACKLOG_MAX, depth_max * self.children_max)
        self._runner = LevelRunner(model, slots, self.length_max + self._scratch)
        self._followed: list[_Followed] = []
        self._slot_of: dict[str, int] = {}
        self._first: dict[str, Tensor] = {}
        self._failures = 0

    def open(self, sequence_id: str, tokens: Int32Array, **opening: Unpack[Opening]) -> None:
        temperature = opening["temperature"] or None
        self._failures = min(self._failures, FAILURES_MAX - 1)
        ends = frozenset(opening["end_tokens"])
        self._slot_of[sequence_id] = len(self._followed)
        self._followed.append(_Followed(sequence_id, tokens.tolist(), ends, temperature))

    def commit(
        self, sequence_id: str, tokens: Int32Array, accepted: int, rows: Rows | None
    ) -> None:
        followed = self._followed[self._slot_of[sequence_id]]
        followed.tokens += tokens.tolist()
        offered, followed.offered = followed.offered, None
        if offered is not None and self.shares is not None:
            _teach(self.shares, followed.kind, offered, tokens.tolist())

    def unread(self, sequence_id: str) -> int:
        followed = self._followed[self._slot_of[sequence_id]]
        return len(followed.tokens) - followed.cached

    def scramble(self) -> None:
        """Noise in every slot, as if each were full: for measurements without text."""
        self._runner.scramble()

    def skip_to(self, unread: int) -> None:
        """All that is open counts as read but for so many tokens: for measurements too."""
        for followed in self._followed:
            followed.cached = len(followed.tokens) - unread

    def draft(
        self, nodes_max: dict[str, int], goes_on: GoesOn | None = None
    ) -> dict[str, DraftTree]:
        if self._failures >= FAILURES_MAX:
            return {}
        try:
            with torch.inference_mode():
                trees = self._draft(nodes_max, goes_on)
        except Exception:
            self._failures += 1
            for followed in self._followed:
                followed.forget()
            raise
        self._failures = 0
        return trees

    def expects(self, sequence_id: str, tokens: Int32Array) -> Float32Array:
        logprobs = self._first[sequence_id]
        at = torch.from_numpy(tokens.astype(np.int64)).to(logprobs.device)
        expected: Float32Array = logprobs[at].exp().cpu().numpy()
        return expected

    def finish(self, sequence_id: str) -> None:
        self._first.pop(sequence_id, None)
        slot = self._slot_of.pop(sequence_id)
        last = self._followed.pop()
        if slot == len(self._followed):
            return
        self._followed[slot] = last
        self._slot_of[last.sequence_id] = slot
        length = min(last.cached + len(last.entry_token), self.length_max + self._scratch)
        try:
            with torch.inference_mode():
                self._runner.copy_slot(len(self._followed), slot, length)
        except Exception:
            last.forget()
            raise

    def _draft(
        self, nodes_max: dict[str, int], goes_on: GoesOn | None = None
    ) -> dict[str, DraftTree]:
        self._settle()
        self._first.clear()
        ready = {
            slot: nodes_max[followed.sequence_id]
            for slot, followed in enumerate(self._followed)
            if nodes_max.get(followed.sequence_id, 0) > 0 and self._has_read(slot, followed)
        }
        if not ready:
            return {}
        # Slots are dense: those between that draft nothing go along as filler.
        batch = self._followed[: max(ready) + 1]
        logits = self._roots(batch, ready)
        # Greedy targets are surer than any temperature says: what is likeliest stays so.
        warmth = torch.tensor([f.temperature or 1.0 for f in batch], device=logits.device)
        warmth = warmth[:, None, None]
        logprobs = (logits.float()[:, None] / warmth).log_softmax(-1)
        for slot in ready:
            self._first[batch[slot].sequence_id] = logprobs[slot, 0]
        levels = self._grown(batch, ready, logprobs, warmth, goes_on)
        for slot in ready:
            batch[slot].entry_token = levels.entry_token[slot].tolist()
            batch[slot].entry_parent = levels.entry_parent[slot].tolist()
            batch[slot].offered = _Offered(
                levels.token[slot], levels.parent[slot], levels.said[slot]
            )
        return {batch[slot].sequence_id: levels.tree(slot, most) for slot, most in ready.items()}

    def _settle(self) -> None:
        """Entries of the paths that were accepted join the committed ones; others are forgotten."""
        moves: list[Move] = []
        for slot, followed in enumerate(self._followed):
            path = followed.kept()
            first = next((i for i, entry in enumerate(path) if entry != i), None)
            if first is not None:
                sources = [followed.cached + entry for entry in path[first:]]
                moves.append(Move(slot, sources, followed.cached + first))
            followed.cached += len(path)
            followed.entry_token, followed.entry_parent = [], []
            if followed.cached == len(followed.tokens):
                # What follows the last token is asked of it again.
                followed.cached -= 1
        self._runner.keep(moves)

    def _has_read(self, slot: int, followed: _Followed) -> bool:
        """Read a chunk if much is unread; whether the rest may go with the root, and there is room."""
        unread = len(followed.tokens) - followed.cached
        if len(followed.tokens) >= self.length_max:
            return False
        if unread > BACKLOG_MAX:
            part = followed.tokens[
                : min(followed.cached + CHUNK_TOKENS_MAX, len(followed.tokens) - 1)
            ]
            followed.cached = self._runner.read(slot, part, followed.cached)
            unread = len(followed.tokens) - followed.cached
        return unread <= BACKLOG_MAX

    def _roots(self, batch: list[_Followed], ready: dict[int, int]) -> Tensor:
        """Logits [B, V] after each sequence's last token; whoever is ready has all its tokens cached."""
        cached = np.array([f.cached for f in batch], np.int64)
        unread = [f.tokens[f.cached :] if slot in ready else [] for slot, f in enumerate(batch)]
        n = max(map(len, unread))
        tokens = np.zeros((len(batch), n), np.int64)
        for slot, some in enumerate(unread):
            tokens[slot, : len(some)] = some
        sees = np.broadcast_to(np.tri(n, dtype=np.bool_), (len(batch), n, n))
        logits = self._runner.extend(cached, tokens, self._positions(cached, np.arange(n)), sees)
        for slot in ready:
            batch[slot].cached += len(unread[slot])
        newest = torch.tensor([max(0, len(some) - 1) for some in unread], device=logits.device)
        return logits[torch.arange(len(batch), device=logits.device), newest]

    def _grown(
        self,
        batch: list[_Followed],
        ready: dict[int, int],
        logprobs: Tensor,
        warmth: Tensor,
        goes_on: GoesOn | None,
    ) -> Levels:
        levels = Levels(len(batch), self.children_max, [f.end_tokens for f in batch])
        cached = np.array([f.cached for f in batch], np.int64)
        rooms = {slot: self.length_max - len(batch[slot].tokens) for slot in ready}
        kinds = np.array([f.kind for f in batch])
        above = np.full((len(batch), 1), -1, np.int64)
        depths = np.zeros(0, np.int64)
        for depth in range(1, self.depth_max + 1):
            values, tokens = logprobs.topk(self.children_max)
            said = values.cpu().numpy().astype(np.float64)
            worth = said if self.shares is None else self.shares.worth(said, kinds)
            levels.offer(above, tokens.cpu().numpy(), worth, said)
            for slot in range(len(batch)):
                if rooms.get(slot, 0) < depth:
                    levels.forbid(slot)
            if depth == self.depth_max or not any(
                levels.gains(slot, most) for slot, most in ready.items()
            ):
                break
            if goes_on is not None and not goes_on(
                depth, {batch[slot].sequence_id: levels.frontier(slot) for slot in ready}
            ):
                break
            above, new, sees = levels.expand()
            depths = np.append(depths, np.full(new.shape[1], depth - 1))
            logits = self._runner.extend(cached, new, self._positions(cached, depths), sees)
            logprobs = (logits.float() / warmth).log_softmax(-1)
        return levels

    def _positions(self, cached: Int64Array, depths: Int64Array) -> Int64Array:
        """int64[B, m]; those of filler stay where the model has positions."""
        positions: Int64Array = np.minimum(
            cached[:, None] + depths, self.model.context_tokens_max - 1
        )
        return positions


def _teach(shares: Shares, kind: int, offered: _Offered, committed: list[int]) -> None:
    """What was said at every node that the committed tokens reached, as far as it was offered children."""
    node = -1
    for token in committed:
        children = np.flatnonzero(offered.parent == node)
        if not len(children):
            return
        followed = np.flatnonzero(offered.token[children] == token)
        place = int(followed[0]) if len(followed) else None
        shares.teach(kind, offered.said[children], place)
        if place is None:
            return
        node = int(children[place])
