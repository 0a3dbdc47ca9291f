"""STAND: stochastic adaptive n-gram drafting (Song et al., EMNLP 2025, arXiv 2506.04708).

A static tree is filled from the top: the longest known n-gram of 4 to 1 tokens before a node gives the
target's ten likeliest next tokens, with their mean probabilities over its visits; children are the
likeliest in their order. Asked with a seed at a temperature, they are drawn from these without
replacement by Gumbel-Top-K, with noise computed ahead, and the draft carries what they were drawn from.
The static tree is data-driven: a wide one drafted over recorded outputs, of which the nodes accepted
most often stay.
"""

from functools import lru_cache

import numpy as np

from retrieval_draft.drafting.kernels.grams import fill_grams
from retrieval_draft.drafting.sight import Draft, Limits, Sight, source_mask
from retrieval_draft.drafting.templates import Template
from retrieval_draft.store.kernels.stand import WIDTH
from retrieval_draft.tree import SOURCES, TIERS, DraftTree, Float32Array, Int32Array, Proposals

MASK = source_mask(TIERS["learned"], SOURCES["stand"])
CHAIN_NODES = 64
NOISE_POSITIONS = 16
"""Positions of a sequence that share one computation of noise."""
NO_NOISE = np.empty((0, WIDTH), np.float32)


class StandMethod:
    """Fills `template`, the tree that the package carries unless another one is given."""

    name = "stand"

    def __init__(self, template: Template | None = None) -> None:
        self.template = template or Template.shipped()
        self.chain = Template(tuple(range(-1, CHAIN_NODES - 1)), (0,) * CHAIN_NODES)

    def draft(self, sight: Sight, limits: Limits) -> Draft:
        """O(nodes) whatever has been learned."""
        return Draft(self.fill(sight, limits)[0])

    def fill(self, sight: Sight, limits: Limits) -> tuple[DraftTree, Int32Array]:
        """The tree, and int32[n]: which node of the template each of its nodes is."""
        template = self.chain if limits.chain else self.template
        most = min(limits.nodes_max, len(template))
        rows = template.inner
        token, parent = np.empty(most, np.int32), np.empty(most, np.int32)
        probability, index = np.empty(most, np.float32), np.empty(most, np.int32)
        node, known = np.empty(rows, np.int32), np.empty((rows, WIDTH), np.int32)
        chance, size = np.empty((rows, WIDTH), np.float32), np.empty(2, np.int32)
        # Who cannot verify drawn drafts gives no seed, and is better off with the likeliest.
        drawn = limits.temperature > 0 and limits.seed != 0
        stand = sight.stand.grams
        fill_grams(
            template.parent_array,
            template.rank_array,
            template.children_array,
            stand.keys,
            stand.tokens,
            stand.shares,
            sight.query,
            len(sight.recycling.successors),
            1 / limits.temperature if drawn else 0.0,
            noise_at(limits.seed, limits.draws, sight.context.stop, rows) if drawn else NO_NOISE,
            most,
            limits.depth_max,
            1 if limits.chain else limits.children_max,
            limits.end_tokens,
            token,
            parent,
            probability,
            index,
            node,
            known,
            chance,
            size,
        )
        n, groups = size.tolist()
        proposals = Proposals(node[:groups], known[:groups], chance[:groups]) if drawn else None
        source = np.full(n, MASK, np.uint32)
        tree = DraftTree(token[:n], parent[:n], probability[:n], source, proposals)
        return tree, index[:n]


def noise_at(seed: int, draws: int, position: int, rows: int) -> Float32Array:
    """float32[rows, 10] standard exponential noise of this position: the same when asked again.

    No two positions and no two sequences share noise: outputs that were verified with one noise depend
    on it, so that noise used twice would tie them together.
    """
    block, at = divmod(position, NOISE_POSITIONS)
    noise: Float32Array = _noise_block(seed, draws, block, rows)[at]
    return noise


@lru_cache(maxsize=128)
def _noise_block(seed: int, draws: int, block: int, rows: int) -> Float32Array:
    key = np.array([seed, draws], np.uint64)
    counted = np.random.Philox(key=key, counter=np.array([0, 0, rows, block], np.uint64))
    shape = (NOISE_POSITIONS, rows, WIDTH)
    return np.random.Generator(counted).standard_exponential(shape, np.float32)
