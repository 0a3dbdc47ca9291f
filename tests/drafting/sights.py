"""Tiers filled by hand, as a method sees them."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from retrieval_draft.drafting.mix import Mix, fresh
from retrieval_draft.drafting.sight import Limits, Sight
from retrieval_draft.store.corpus import CorpusTier
from retrieval_draft.store.kernels import stand as kernels
from retrieval_draft.store.recycling import WIDTH, Recycling
from retrieval_draft.store.ring import TokenRing, boundary
from retrieval_draft.store.stand import Stand
from retrieval_draft.tree import DraftTree, Int32Array, int32s

VOCAB = 12
CAPACITY, BUCKETS = 256, 64


def ring_of(*texts: Sequence[int]) -> TokenRing:
    """Texts behind one another, with boundaries between them."""
    ring = TokenRing(CAPACITY, BUCKETS)
    for i, text in enumerate(texts):
        if i:
            ring.extend(boundary())
        ring.extend(int32s(text))
    return ring


def sight(
    context: Sequence[int],
    learned: Sequence[Sequence[int]] = (),
    corpora: Sequence[Sequence[Sequence[int]]] = (),
    follows: Mapping[int, Sequence[int]] | None = None,
    expected: Mapping[tuple[int, ...], Mapping[int, float]] | None = None,
) -> Sight:
    """A sequence's view after a prompt; `follows` are rows of the recycling matrix, without
    log-probabilities.

    `expected` are the probabilities that STAND's table holds after n-grams.
    """
    matrix = Recycling(VOCAB)
    for key, row in (follows or {}).items():
        tokens = int32s([[*row, *[-1] * (WIDTH - len(row))]])
        matrix.observe(int32s([key]), tokens, np.full((1, WIDTH), 255, np.uint8))
    tiers = [
        segment
        for corpus in corpora
        for segment in CorpusTier.of_documents([int32s(text) for text in corpus]).segments
    ]
    table = stand_of(expected or {})
    seen = Sight(ring_of(), ring_of(*learned), matrix, tiers, table)
    # A prompt teaches nothing: whose mixer follows makes no difference.
    return follow(Mix(fresh()), seen, context, teaching_from=len(context))


def follow(
    mix: Mix,
    seen: Sight,
    tokens: Sequence[int],
    teaching_from: int = 0,
    temperature: float = 0.0,
) -> Sight:
    """The sequence goes on with `tokens`, which teach `mix` from index `teaching_from` on."""
    seen.context.reserve(len(tokens))
    mix.follow(seen, int32s(tokens), teaching_from, temperature)
    # Searches are kept by the view that asked for them.
    return replace(seen)


def stand_of(expected: Mapping[tuple[int, ...], Mapping[int, float]]) -> Stand:
    """A table that holds these probabilities after these n-grams, and nothing else."""
    table = Stand(0)
    grams = table.grams
    for gram, row in expected.items():
        slot = kernels.claim(*grams, kernels.gram_key(int32s(gram), len(gram), len(gram)))
        for i, (token, p) in enumerate(sorted(row.items(), key=lambda item: -item[1])):
            grams.tokens[slot, i], grams.shares[slot, i] = token, round(p * kernels.ONE)
    return table


def ends(*tokens: int) -> Int32Array:
    return int32s(tokens)


def broken_limit(tree: DraftTree, limits: Limits, vocab_size: int) -> str:
    """Which promise of a draft this tree breaks, or nothing."""
    if problem := tree.problem(vocab_size, limits.nodes_max):
        return problem
    parent, token, p = tree.parent.tolist(), tree.token.tolist(), tree.probability.tolist()
    if limits.chain and parent != list(range(-1, len(tree) - 1)):
        return f"{parent} is no chain"
    if len(tree) and int(tree.depths().max()) >= limits.depth_max:
        return f"a node deeper than {limits.depth_max}"
    if any(parent.count(node) > limits.children_max for node in parent):
        return f"more than {limits.children_max} children"
    if any(above >= 0 and token[above] in limits.end_tokens for above in parent):
        return "something follows an end token"
    if any(p[i] > (p[above] if above >= 0 else 1.0) for i, above in enumerate(parent)):
        return "a child is more probable than its parent"
    if not all(0 < one <= 1 for one in p):
        return "a probability outside 0 to 1"
    if len(tree) and int(tree.source.min()) == 0:
        return "a node from nowhere"
    return broken_proposal(tree)


def broken_proposal(tree: DraftTree) -> str:
    """What the tree says of how it was drawn, and cannot be."""
    if tree.proposals is None:
        return ""
    drawn = tree.proposals
    for node, row, p in zip(drawn.nodes.tolist(), drawn.tokens, drawn.probabilities, strict=True):
        known = row[row >= 0].tolist()
        if len(set(known)) < len(known) or not np.isclose(p.sum(), 1, atol=1e-5):
            return f"node {node} was drawn from no distribution"
        children = tree.token[tree.parent == node].tolist()
        if not children or not set(children) <= set(known):
            return f"the children of node {node} were not drawn from its proposal"
    if sorted(drawn.nodes.tolist()) != sorted(set(tree.parent.tolist())):
        return "children without a proposal"
    return ""
