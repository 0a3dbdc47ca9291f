"""Decoding of many sequences at once, step by step: draft, one forward, verify, commit.

Sequences join between steps and leave when they finish. The running ones stand densely in slots
0..B-1: when one leaves, the last takes its slot. Without a drafter the same code runs with trees of
no nodes, and observes nothing. One thread at a time may call a decoder.
"""

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.drafter import Drafter
from retrieval_draft.errors import AlreadyExists, InvalidInput, NotFound, ResourceExhausted, shown
from retrieval_draft.gpu.guard import GuardedDrafter
from retrieval_draft.gpu.hidden import HiddenStates
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.observe import (
    Observed,
    joined,
    logprobs_of,
    observe_prompt,
    observe_step,
)
from retrieval_draft.gpu.request import Committed, Finish, Request
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.running import Prefill, Running
from retrieval_draft.gpu.sampling import GreedyDraws, SampledDraws, draw
from retrieval_draft.gpu.stages import StageClock
from retrieval_draft.gpu.step_cost import step_clock
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.verify import Draws, Rule, Verified, match
from retrieval_draft.step import Rows
from retrieval_draft.tree import EMPTY, DraftTree, Int32Array, Proposals, int32s

SLOTS_DEFAULT = 8
LENGTH_DEFAULT = 4096
NODES_DEFAULT = 64

# Sequence, its tree, the accepted nodes and the tokens committed, of every step that had a tree.
OnStep = Callable[[str, DraftTree, Sequence[int], Int32Array], None]

logger = logging.getLogger(__name__)


class Decoder:
    """Up to `slots` sequences of `length_max` positions, trees of up to `nodes_max` nodes each.

    Memory for all slots is taken at once. `rule` decides what verification keeps; `on_step` is
    shown every drafted step. The drafter may fail in any way: it costs drafts, never tokens.
    """

    def __init__(
        self,
        model: TargetModel,
        *,
        slots: int = SLOTS_DEFAULT,
        length_max: int | None = None,
        nodes_max: int = NODES_DEFAULT,
        drafter: Drafter | None = None,
        rule: Rule = match,
        on_step: OnStep | None = None,
        runner: Runner | None = None,
        costs: LiveCosts | None = None,
    ) -> None:
        """With a `runner` its slots are used: by one decoder at a time. Raises InvalidInput.

        `costs` are told what every step took beside its draft.
        """
        length_max = slot_length(model, length_max)
        self.model, self.slots = model, slots
        self.length_max, self.nodes_max = length_max, nodes_max
        self.rule, self.on_step = rule, on_step
        self.runner = runner or Runner(
            model, slots=slots, length_max=length_max, nodes_max=nodes_max
        )
        self.clock = StageClock()
        self._drafter = None if drafter is None else GuardedDrafter(drafter)
        self._hidden = HiddenStates(model)
        self._costs, self._now = costs, step_clock(model)
        self._running: list[Running] = []
        self._prefill: Prefill | None = None
        self._is_behind = False
        """Whether the device may still be reading a prompt when the next step begins."""

    @property
    def active(self) -> int:
        """Sequences in slots that `step` moves on."""
        return len(self._running)

    @property
    def is_prefilling(self) -> bool:
        """Whether a sequence has begun that has no token yet."""
        return self._prefill is not None

    def has_room(self) -> bool:
        """Whether a sequence may begin: a slot is free, and no other one is being prefilled."""
        return self._prefill is None and len(self._running) < self.slots

    def check(self, request: Request) -> None:
        """Raises InvalidInput if the request can never be decoded here."""
        prompt = request.prompt
        if len(prompt) == 0:
            raise InvalidInput("prompt", "of 0 tokens", "1 token or more")
        vocab_size = self.model.vocab_size
        outside = prompt[(prompt < 0) | (prompt >= vocab_size)]
        if len(outside):
            raise InvalidInput("prompt", int(outside[0]), f"token ids from 0 to {vocab_size - 1}")
        tokens_max = self.length_max - len(prompt)
        if not 1 <= request.tokens_max <= tokens_max:
            limit = f"1 to {tokens_max}"
            reason = f"a prompt of {len(prompt)} tokens in a slot of {self.length_max}"
            raise InvalidInput("tokens_max", request.tokens_max, limit, reason)

    def admit(self, request: Request) -> Committed:
        """Prefill a sequence into a free slot; its first token. Raises as `begin`."""
        self.begin(request)
        while (committed := self.prefill()) is None:
            pass
        return committed

    def begin(self, request: Request) -> None:
        """Give a sequence a free slot; `prefill` works its prompt off in chunks, between steps.

        Raises InvalidInput, AlreadyExists, or ResourceExhausted if no slot is free.
        """
        self.check(request)
        if self._slot(request.sequence_id) is not None:
            raise AlreadyExists(f"sequence {shown(request.sequence_id)} is being decoded")
        if not self.has_room():
            raise ResourceExhausted(f"all {self.slots} slots are taken")
        # Running sequences only leave meanwhile, so the slot behind them stays free.
        sequence = Running(
            request,
            end_tokens=frozenset(() if request.ignore_end else self.model.end_tokens),
            is_drafting=self._drafter is not None and not request.plain,
            started=time.perf_counter(),
            cached=len(request.prompt),
        )
        self._prefill = Prefill(sequence, len(self._running))

    def prefill(self) -> Committed | None:
        """One chunk of the prompt that has begun; the first token when it is through.

        If it raises, that sequence is given up, and no other.
        """
        if (begun := self._prefill) is None:
            return None
        sequence, request, self._prefill = begun.sequence, begun.sequence.request, None
        with torch.inference_mode():
            logits = self._prefill_chunk(begun)
            if begun.at < len(request.prompt):
                self._prefill, self._is_behind = begun, self.model.device.type != "cpu"
                return None
            if begun.slot != len(self._running):
                self.runner.copy_slot(begun.slot, len(self._running), sequence.cached)
            tokens = sequence.take(draw(logits, [len(request.prompt)], request.sampling))
            logprobs = None
            if request.logprobs is not None:
                logprobs = logprobs_of(logits, tokens, request.logprobs)
        if self._drafter is not None and sequence.is_drafting:
            self._open(self._drafter, sequence, joined(begun.rows) if begun.rows else None)
            self._drafter.commit(request.sequence_id, tokens, -1, None)
        self._running.append(sequence)
        committed = sequence.committed(tokens, logprobs)
        if sequence.finish is not None:
            self._leave(len(self._running) - 1)
        return committed

    def step(self) -> list[Committed]:
        """One forward for all running sequences; what each gained, one token at least."""
        if not self._running:
            return []
        clock = self.clock
        clock.start()
        trees = self._draft()
        clock.lap("draft")
        began = self._now()
        cached = [sequence.cached for sequence in self._running]
        with torch.inference_mode():
            roots = [sequence.last for sequence in self._running]
            inputs = self.runner.prepare(cached, roots, trees)
            clock.lap("transfer")
            logits = self.runner.forward(inputs)
            clock.lap("forward")
            draws = self._draws(logits, trees)
            verified = [self.rule(tree, one) for tree, one in zip(trees, draws, strict=True)]
            clock.lap("verify")
            rows = self._observe(logits, trees, verified)
            clock.lap("observe")
            self.runner.keep(cached, [one.path for one in verified])
            committed = [
                self._commit(*parts)
                for parts in zip(self._running, trees, verified, rows, logits, strict=True)
            ]
        for slot in range(len(self._running) - 1, -1, -1):
            if self._running[slot].finish is not None:
                self._leave(slot)
        clock.lap("commit")
        # A step that had to wait for something else, or to be recorded, says nothing of the next ones.
        is_usual, self._is_behind = not (self._is_behind or self.runner.is_first), False
        if self._costs is not None and is_usual:
            milliseconds = 1e3 * (self._now() - began)
            context_tokens = sum(cached) / len(cached)
            self._costs.took(len(cached), max(map(len, trees)), context_tokens, milliseconds)
        return committed

    def cancel(self, sequence_id: str, finish: Finish = Finish.CANCELLED) -> Committed:
        """End a sequence now and free its slot. Raises NotFound if it is not running."""
        begun = self._prefill
        if begun is not None and begun.sequence.request.sequence_id == sequence_id:
            self._prefill, begun.sequence.finish = None, finish
            return begun.sequence.committed(int32s([]))
        slot = self._slot(sequence_id)
        if slot is None:
            raise NotFound(f"sequence {shown(sequence_id)} is not being decoded")
        sequence = self._running[slot]
        sequence.finish = finish
        self._leave(slot)
        return sequence.committed(int32s([]))

    def _slot(self, sequence_id: str) -> int | None:
        for slot, sequence in enumerate(self._running):
            if sequence.request.sequence_id == sequence_id:
                return slot
        return None

    def _prefill_chunk(self, begun: Prefill) -> Tensor:
        drafter, prompt = self._drafter, begun.sequence.request.prompt
        width = drafter.observation_width if drafter and begun.sequence.is_drafting else 0

        def observe(chunk: Tensor, start: int) -> None:
            begun.rows.append(observe_prompt(chunk, start, width))

        logits, begun.at = self.runner.prefill_chunk(
            begun.slot, prompt, begun.at, observe if width > 0 else None
        )
        return logits

    def _open(self, drafter: GuardedDrafter, sequence: Running, rows: Rows | None) -> None:
        request = sequence.request
        drafter.open(
            request.sequence_id,
            request.prompt,
            rows=rows,
            temperature=request.sampling.temperature,
            length_max=len(request.prompt) + request.tokens_max,
            end_tokens=tuple(sorted(sequence.end_tokens)),
            learning=request.learning,
            corpora=request.corpora,
        )

    def _draft(self) -> list[DraftTree]:
        """A tree per running sequence, EMPTY where there is none that may be verified."""
        trees = [EMPTY] * len(self._running)
        if self._drafter is None:
            return trees
        # The step itself gains one token, so with one remaining nothing can be accepted.
        nodes_max = {
            sequence.request.sequence_id: self.nodes_max if sequence.remaining > 1 else 0
            for sequence in self._running
            if sequence.is_drafting
        }
        if not any(nodes_max.values()):
            return trees
        drafted = self._drafter.draft(nodes_max)
        for slot, sequence in enumerate(self._running):
            sequence_id = sequence.request.sequence_id
            tree = drafted.get(sequence_id)
            if tree is None or not nodes_max.get(sequence_id):
                continue
            if self._drafter.usable(tree, self.model.vocab_size, self.nodes_max):
                trees[slot] = _shallower(tree, sequence.remaining - 1)
        return trees

    def _draws(self, logits: Tensor, trees: Sequence[DraftTree]) -> list[Draws]:
        """Of every running sequence; off the CPU greedy ones share one argmax and one transfer."""
        is_greedy = [sequence.request.sampling.temperature == 0 for sequence in self._running]
        best: list[list[int]] | None = None
        if logits.device.type != "cpu" and any(is_greedy):
            best = logits.argmax(-1).tolist()
        draws: list[Draws] = []
        for slot, (sequence, tree) in enumerate(zip(self._running, trees, strict=True)):
            rows = logits[slot, : len(tree) + 1]
            if is_greedy[slot]:
                draws.append(GreedyDraws(rows, None if best is None else best[slot]))
            else:
                parents = tree.parent.tolist()
                sampling = sequence.request.sampling
                draws.append(SampledDraws(rows, sequence.cached, parents, sampling))
        return draws

    def _observe(
        self, logits: Tensor, trees: Sequence[DraftTree], verified: Sequence[Verified]
    ) -> list[Rows | None]:
        rows: list[Rows | None] = [None] * len(self._running)
        if self._drafter is None:
            return rows
        observed = [
            Observed(slot, sequence.cached, len(trees[slot]), verified[slot].path)
            for slot, sequence in enumerate(self._running)
            if sequence.is_drafting
        ]
        if not observed or (width := self._drafter.observation_width) <= 0:
            return rows
        found = observe_step(logits, observed, width, self._states(logits))
        for one, its in zip(observed, found, strict=True):
            rows[one.row] = its
        return rows

    def _states(self, logits: Tensor) -> Tensor | None:
        """The hidden states [B, n, width] behind a step's logits, if the drafter wants such."""
        most = 0 if self._drafter is None else self._drafter.hidden_width
        if most <= 0 or not self._hidden.watch():
            return None
        # The first time there are none: they are watched from here on.
        watched = self._hidden.take()
        states = watched if self.runner.states is None else self.runner.states
        if states is None or states.shape[:2] != logits.shape[:2] or states.shape[2] > most:
            return None
        return states

    def _commit(
        self,
        sequence: Running,
        tree: DraftTree,
        verified: Verified,
        rows: Rows | None,
        logits: Tensor,
    ) -> Committed:
        tokens = sequence.take(verified.tokens)
        accepted = min(len(verified.path), len(tokens))
        sequence.cached += 1 + len(verified.path)
        sequence.steps += 1
        if len(tree):
            sequence.drafted_steps += 1
            sequence.drafted += len(tree)
            sequence.accepted += accepted
            self._show(sequence.request.sequence_id, tree, verified.path[:accepted], tokens)
        if self._drafter is not None and sequence.is_drafting:
            kept = accepted if len(tree) else -1
            self._drafter.commit(sequence.request.sequence_id, tokens, kept, rows)
        logprobs = None
        if (width := sequence.request.logprobs) is not None:
            visited = [0, *(node + 1 for node in verified.path)]
            logprobs = logprobs_of(logits[visited], tokens, width)
        return sequence.committed(tokens, logprobs)

    def _show(
        self, sequence_id: str, tree: DraftTree, path: Sequence[int], tokens: Int32Array
    ) -> None:
        if self.on_step is None:
            return
        try:
            self.on_step(sequence_id, tree, path, tokens)
        except Exception:  # an onlooker must not end sequences
            logger.exception("on_step failed")

    def _leave(self, slot: int) -> None:
        """Take a sequence out; the last one moves into its slot, so that slots stay dense."""
        sequence = self._running[slot]
        last = self._running.pop()
        if last is not sequence:
            with torch.inference_mode():
                self.runner.copy_slot(len(self._running), slot, last.cached)
            self._running[slot] = last
        if self._drafter is not None and sequence.is_drafting:
            self._drafter.finish(sequence.request.sequence_id)


def slot_length(model: TargetModel, length_max: int | None) -> int:
    """Positions of a slot: as asked, or the model's up to a default. Raises InvalidInput."""
    if length_max is None:
        return min(model.context_tokens_max, LENGTH_DEFAULT)
    if not 2 <= length_max <= model.context_tokens_max:
        raise InvalidInput("length_max", length_max, f"2 to {model.context_tokens_max}")
    return length_max


def _shallower(tree: DraftTree, levels_max: int) -> DraftTree:
    """The tree's longest prefix of at most `levels_max` levels; nodes keep their numbers."""
    if len(tree) <= levels_max:
        return tree
    too_deep = (tree.depths() >= levels_max).nonzero()[0]
    if len(too_deep) == 0:
        return tree
    end = int(too_deep[0])
    proposals = tree.proposals
    if proposals is not None:
        rows = np.isin(proposals.nodes, tree.parent[:end])
        proposals = Proposals(
            proposals.nodes[rows], proposals.tokens[rows], proposals.probabilities[rows]
        )
    return DraftTree(
        tree.token[:end], tree.parent[:end], tree.probability[:end], tree.source[:end], proposals
    )
