"""What attention must know of a batch of trees, small enough to travel with every step.

No mask over the context: a node sees every token of its sequence from its horizon on, the root, itself and
its ancestors. So positions, horizons and a word of ancestors per node say it all, whatever the context.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NODES_MAX = 64
"""Beside the root: the bits of a word."""


@dataclass(frozen=True, slots=True, eq=False)
class TreeView:
    """Of B sequences with n nodes each, the root first; node j's keys are entry P + j of its slot.

    `positions` int64[B, n]: a root's is P, the number of tokens cached before it. `sees` int64[B, n]: bit
    j - 1 of a node's word is set if it sees node j, as it must see itself; everyone sees the root.
    `horizons` int64[B, n]: the first position that a node sees; 0 or less for all of them.
    """

    positions: Tensor
    sees: Tensor
    horizons: Tensor

    def packed(self) -> Tensor:
        """int64[1, 3, B, n]: in the place of a 4D mask, which models hand on to attention as it is."""
        return torch.stack((self.positions, self.sees, self.horizons))[None]

    @staticmethod
    def of(packed: Tensor) -> "TreeView":
        return TreeView(packed[0, 0], packed[0, 1], packed[0, 2])

    def additive(self, columns: Tensor, dtype: torch.dtype) -> Tensor:
        """The same as a mask [B, 1, n, K] for SDPA over K entries: 0, or the dtype's lowest.

        `columns` is arange(K), on this device. Nothing waits for the device: a graph may hold it.
        """
        n = self.positions.shape[1]
        node = (
            columns - self.positions[:, :1]
        )  # [B, K]: which node stands at an entry; < 0: a token
        bit = (node - 1).clamp(0, NODES_MAX - 1)[:, None]
        is_seen = ((self.sees[:, :, None] >> bit) & 1).bool() & (node < n)[:, None]
        is_seen |= (node <= 0)[:, None]
        of_node = self.positions.gather(1, node.clamp(0, n - 1))
        position = torch.where(node >= 0, of_node, columns)
        is_seen &= position[:, None] >= self.horizons[:, :, None]
        mask = torch.zeros(is_seen.shape, dtype=dtype, device=columns.device)
        return mask.masked_fill_(~is_seen, torch.finfo(dtype).min)[:, None]
