"""Keys and values of all sequences, preallocated: a slot per sequence, a tensor per shape.

A slot's entries 0..P-1 belong to its P cached tokens; a forward of a tree writes its nodes behind
them, and `keep` moves those of the accepted path to the front. What lies further back is stale and
hidden by the mask. Lengths are the caller's: this file knows no sequence, only slots and positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Heads and widths of one layer's keys and values."""

    heads: int
    key_width: int
    value_width: int


@dataclass(frozen=True, slots=True)
class Move:
    """In `slot`, the entries at `sources` (ascending) go to target, target + 1, ..."""

    slot: int
    sources: Sequence[int]
    target: int


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's window on the pools, aimed anew before every forward by `SlotCache`.

    `key_index` is None when one slot is active: its new entries then go to the view `key_target`.
    Otherwise they are scattered to the rows `key_index` of `key_target` [entries, width].
    """

    is_croppable = False
    supports_early_init = False

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self.length = length
        self.seen = 0
        self.key_target = self.value_target = torch.empty(0)
        self.key_index: Tensor | None = None
        self.value_index: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store [B, H, n, D] states; keys and values that the mask covers come back as views."""
        if torch.compiler.is_compiling():
            key_found = self._stored(self.key_target, self.key_index, key_states)
            return key_found, self._stored(self.value_target, self.value_index, value_states)
        if self.key_index is None or self.value_index is None:
            self.key_target.copy_(key_states)
            self.value_target.copy_(value_states)
        else:
            self.key_target.index_put_((self.key_index,), key_states)
            self.value_target.index_put_((self.value_index,), value_states)
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def _stored(self, target: Tensor, index: Tensor | None, states: Tensor) -> Tensor:
        """For compilers: to write to one tensor and read another one of the same memory copies all of it."""
        assert index is not None, "of static steps alone"
        target.index_put_((index,), states)
        batch, heads, n, width = states.shape
        return target.view(-1, heads, self.length, width)[:batch, :, : self.seen + n]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the pools exist from the start."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return self.length


@dataclass(frozen=True, slots=True)
class _Pool:
    """All key or value tensors of one shape: [members, slots, heads, length, width]."""

    store: Tensor
    members: tuple[tuple[int, bool], ...]  # (layer, whether it is the keys)


class SlotCache(Cache):
    """A transformers cache over `slots` slots of `length` entries each.

    Memory: 2 x layers x slots x heads x length x width elements, allocated at once. Before each
    forward call `aim_one` or `aim_many`; after it, `keep`.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        slots: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.slot_layers = [SlotLayer(length) for _ in shapes]
        super().__init__(layers=list(self.slot_layers))
        self.slots, self.length = slots, length
        groups: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        for i, shape in enumerate(shapes):
            groups.setdefault((shape.heads, shape.key_width), []).append((i, True))
            groups.setdefault((shape.heads, shape.value_width), []).append((i, False))
        # Zeros, not empty: a stale NaN would pass any additive mask.
        self._pools = [
            _Pool(
                torch.zeros(
                    (len(members), slots, heads, length, width), dtype=dtype, device=device
                ),
                tuple(members),
            )
            for (heads, width), members in groups.items()
        ]

    def aim_one(self, slot: int, cached: int, nodes: int) -> None:
        """The next forward appends `nodes` entries to the `cached` ones of one slot. No copies."""
        for pool in self._pools:
            row = pool.store.narrow(1, slot, 1)
            targets = row.narrow(3, cached, nodes).unbind(0)
            used = row.narrow(3, 0, cached + nodes).unbind(0)
            for (layer, is_key), target, view in zip(pool.members, targets, used, strict=True):
                self._aim(self.slot_layers[layer], is_key, target, view, None)
        for slot_layer in self.slot_layers:
            slot_layer.seen = cached

    def aim_many(self, rows: int, cached: Tensor, nodes: int, used_length: int) -> None:
        """The next forward appends `nodes` entries to each of slots 0..rows-1.

        `cached` int64[rows]: entries that each slot holds; `used_length` >= max(cached) + nodes is
        what attention sees. Active slots are kept dense (`copy_slot`), so this gathers nothing.
        """
        entries = cached[:, None] + torch.arange(nodes, device=cached.device)
        self.aim_entries(rows, entries, used_length)

    def aim_entries(self, rows: int, entries: Tensor, used_length: int) -> None:
        """The same with the entries named: int64[rows, nodes], where each slot's new ones go."""
        device, nodes = entries.device, entries.shape[1]
        for pool in self._pools:
            _, _, heads, length, width = pool.store.shape
            row = torch.arange(rows * heads, device=device).view(rows, heads, 1)
            index = row * length + entries[:, None]
            active = pool.store.narrow(1, 0, rows)
            used = active.narrow(3, 0, used_length).unbind(0)
            for (layer, is_key), store, view in zip(
                pool.members, pool.store.unbind(0), used, strict=True
            ):
                self._aim(self.slot_layers[layer], is_key, store.view(-1, width), view, index)
        for slot_layer in self.slot_layers:
            slot_layer.seen = used_length - nodes

    def keep(self, moves: Sequence[Move]) -> None:
        """Make accepted paths contiguous; two operations per pool, whatever the number of moves."""
        if not moves:
            return
        if len(moves) == 1:
            self._keep_one(moves[0])
            return
        slots = [move.slot for move in moves for _ in move.sources]
        sources = [source for move in moves for source in move.sources]
        targets = [move.target + i for move in moves for i in range(len(move.sources))]
        device = self._pools[0].store.device
        slot, source, target = torch.tensor([slots, sources, targets], device=device).unbind(0)
        for pool in self._pools:
            # Indexing copies before the write, so sources and targets may overlap.
            pool.store[:, slot, :, target] = pool.store[:, slot, :, source]

    def copy_slot(self, source: int, target: int, cached: int) -> None:
        """Give slot `target` the first `cached` entries of slot `source`."""
        for pool in self._pools:
            pool.store[:, target, :, :cached] = pool.store[:, source, :, :cached]

    def scramble(self) -> None:
        """Noise in every slot, for measurements: untouched memory is read faster than used memory."""
        # A generator of its own: a recording that failed leaves the device's in disorder.
        generator = torch.Generator(self._pools[0].store.device)
        for pool in self._pools:
            pool.store.normal_(generator=generator)

    def _keep_one(self, move: Move) -> None:
        for pool in self._pools:
            row = pool.store.select(1, move.slot)
            source = torch.tensor(move.sources, device=row.device)
            row.narrow(2, move.target, len(move.sources)).copy_(row.index_select(2, source))

    @staticmethod
    def _aim(
        layer: SlotLayer, is_key: bool, target: Tensor, view: Tensor, index: Tensor | None
    ) -> None:
        if is_key:
            layer.key_target, layer.keys, layer.key_index = target, view, index
        else:
            layer.value_target, layer.values, layer.value_index = target, view, index
