"""A draft as a list of tokens, for stacks that verify no trees."""

from retrieval_draft.tree import DraftTree


def chain_of(tree: DraftTree, vocab_size: int, tokens_max: int) -> list[int]:
    """The most probable path from the root, as Python ints of the vocabulary, at most `tokens_max`.

    It ends before the first token that is none: engines die of ids that they cannot embed.
    """
    token, parent = tree.token.tolist(), tree.parent.tolist()
    probability = tree.probability.tolist()
    best: dict[int, int] = {}
    for node, above in enumerate(parent):
        if above not in best or probability[node] > probability[best[above]]:
            best[above] = node
    chain: list[int] = []
    node = best.get(-1, -1)
    while node >= 0 and len(chain) < tokens_max and 0 <= token[node] < vocab_size:
        chain.append(int(token[node]))
        node = best.get(node, -1)
    return chain
