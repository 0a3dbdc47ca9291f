"""Steps at fixed shapes: trees filled up to a bucket, in memory that stays where it is.

What changes from step to step (tokens, positions, where keys go, who sees whom) is one small array, copied
to the device at once; everything else is a function of it that never looks back at the host. So a step can
be recorded (`graphs`) and compiled, and a longer context asks for nothing new. A step that cannot be done so
is left to the ragged path: this one only saves time.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from retrieval_draft.gpu.attention.kinds import Kind, TreeMasks, tree_masks
from retrieval_draft.gpu.attention.tree_view import NODES_MAX
from retrieval_draft.gpu.buckets import ROWS_MAX, Bucket, Buckets
from retrieval_draft.gpu.graphs import Graphs
from retrieval_draft.gpu.hidden import HiddenStates
from retrieval_draft.gpu.slot_cache import SlotCache
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.tree_mask import lineages
from retrieval_draft.tree import DraftTree, Int64Array

TOKEN, POSITION, ENTRY, SEES = range(4)
FIELDS = 4
OWN_BITS = np.array([0, *(1 << i for i in range(NODES_MAX))], np.uint64).view(np.int64)

Forward = Callable[[Tensor, Tensor, TreeMasks, SlotCache], Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class StaticInputs:
    """Of one step: its bucket, and what it was made of, should it have to be made otherwise."""

    bucket: Bucket
    cached: Sequence[int]
    roots: Sequence[int]
    trees: Sequence[DraftTree]


class StaticSteps:
    """Over the slots of a runner. `kind_of` says how a bucket attends; change it before the first step.

    Takes the memory of one step's logits, of as many rows as the largest bucket has.
    """

    def __init__(
        self,
        model: TargetModel,
        cache: SlotCache,
        graphs: Graphs,
        *,
        length_max: int,
        nodes_max: int,
        forward: Forward,
    ) -> None:
        self.model, self.cache, self.graphs = model, cache, graphs
        self.buckets = Buckets(cache.slots, nodes_max, cache.length)
        self.kind_of: Callable[[Bucket], Kind] = lambda bucket: "sdpa"
        self._model_forward = forward
        self._scratch = length_max
        self._failed: set[Bucket] = set()
        self._seen: set[tuple[Bucket, Kind]] = set()
        self.is_first = False
        """Whether the newest step was the first of its shape: recorded and compiled, it took far longer."""
        self.states: Tensor | None = None
        """Hidden states [B, n, width] behind the newest logits, as long valid; None of some models."""
        # A recorded step calls no hook: where its hidden states lie is known from the recording.
        self._hidden = HiddenStates(model)
        self._states: dict[tuple[Bucket, Kind], Tensor | None] = {}
        rows = min(ROWS_MAX, self.buckets.batches[-1] * self.buckets.nodes[-1])
        pinned = model.device.type == "cuda"
        self._host = torch.zeros(FIELDS * rows, dtype=torch.int64, pin_memory=pinned)
        self._fields = self._host.to(model.device, copy=True)
        self._logits = torch.empty(rows * model.vocab_size, dtype=model.dtype, device=model.device)
        self._columns = torch.arange(cache.length, device=model.device)

    def prepare(
        self, cached: Sequence[int], roots: Sequence[int], trees: Sequence[DraftTree]
    ) -> StaticInputs | None:
        """Copy a step's inputs to where `forward` reads them; None if no bucket serves."""
        nodes = 1 + max(len(tree) for tree in trees)
        bucket = self.buckets.of(len(cached), nodes, max(cached) + nodes)
        if bucket is None or bucket in self._failed:
            return None
        size = FIELDS * bucket.batch * bucket.nodes
        fields = self._host[:size].numpy().reshape(FIELDS, bucket.batch, bucket.nodes)
        fill(fields, cached, roots, trees, self._scratch)
        # The last step's tokens were read, so the device is through with what stood there.
        self._fields[:size].copy_(self._host[:size], non_blocking=True)
        return StaticInputs(bucket, cached, roots, trees)

    def forward(self, inputs: StaticInputs) -> Tensor | None:
        """Logits [B, n, V] of the newest inputs, valid until the next call; None if it cannot be done."""
        bucket = inputs.bucket
        kind = self.kind_of(bucket)
        if kind != "sdpa":  # the others read lengths on the device: one shape for every context
            bucket = Bucket(bucket.batch, bucket.nodes, self.cache.length)
        self.is_first = (bucket, kind) not in self._seen
        self._seen.add((bucket, kind))
        try:
            self.graphs.run((bucket, kind), partial(self._run, bucket, kind))
        except Exception as error:
            # Whatever a recording or a compiler raises, there is another path.
            self._failed.add(inputs.bucket)
            logger.warning("static step failed %s %s: %s", bucket, kind, first_line(error))
            return None
        batch, nodes = len(inputs.cached), 1 + max(len(tree) for tree in inputs.trees)
        states = self._states.get((bucket, kind))
        self.states = None if states is None else states[:batch, :nodes]
        return self._logits_of(bucket)[:batch, :nodes]

    def aim(self, bucket: Bucket, kind: Kind) -> tuple[Tensor, Tensor, TreeMasks]:
        """Tokens, positions and masks of what stands in the inputs; the cache aimed at them."""
        size = FIELDS * bucket.batch * bucket.nodes
        fields = self._fields[:size].view(FIELDS, bucket.batch, bucket.nodes)
        tokens, positions, entries, sees = fields.unbind(0)
        self.cache.aim_entries(bucket.batch, entries, bucket.length)
        columns = self._columns[: bucket.length]
        return tokens, positions, tree_masks(kind, self.model, positions, sees, columns)

    def _run(self, bucket: Bucket, kind: Kind) -> None:
        tokens, positions, masks = self.aim(bucket, kind)
        with closing(self._hidden):
            self._hidden.watch()
            logits = self._model_forward(tokens, positions, masks, self.cache)
            self._states[bucket, kind] = self._hidden.take()
        self._logits_of(bucket).copy_(logits)

    def _logits_of(self, bucket: Bucket) -> Tensor:
        shape = (bucket.batch, bucket.nodes, self.model.vocab_size)
        return self._logits[: bucket.batch * bucket.nodes * self.model.vocab_size].view(shape)


def fill(
    fields: Int64Array,
    cached: Sequence[int],
    roots: Sequence[int],
    trees: Sequence[DraftTree],
    scratch: int,
) -> None:
    """Write a step into `fields` int64[FIELDS, B, n], filled up with nodes and sequences of no account.

    They see themselves. A sequence too many stands in a slot that is free, or whose prompt is being read:
    what it writes goes to the entries from `scratch` on, which only trees use.
    """
    real, n = len(cached), fields.shape[2]
    lengths = np.array(cached, np.int64)[:, None]
    columns = np.arange(n)
    fields[TOKEN], fields[POSITION] = 0, 0
    fields[SEES] = OWN_BITS[:n]
    fields[ENTRY] = scratch + columns
    fields[ENTRY, :real] = lengths + columns
    fields[POSITION, :real] = lengths
    fields[TOKEN, :real, 0] = roots
    for b, tree in enumerate(trees):
        if m := len(tree):
            words, depths = ancestors(tree)
            fields[TOKEN, b, 1 : m + 1] = tree.token
            fields[SEES, b, 1 : m + 1] = words
            fields[POSITION, b, 1 : m + 1] += depths


def ancestors(tree: DraftTree) -> tuple[Int64Array, Int64Array]:
    """Of every node: the word of itself and its ancestors, node i's bit i, and its depth below the root."""
    bits, depths = lineages(tree)
    # Without the root's bit, as everyone sees the root.
    words = np.array([row >> 1 for row in bits[1:]], np.uint64)
    return words.view(np.int64), np.array(depths[1:], np.int64)


def first_line(error: Exception) -> str:
    """For the log: compilers tell whole stories."""
    told = str(error).strip().splitlines()
    return f"{type(error).__name__}: {told[0] if told else ''}"
