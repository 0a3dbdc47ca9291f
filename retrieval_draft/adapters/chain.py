"""A draft as a list of tokens, for stacks that verify no trees."""

from retrieval_draft.tree import DraftTree


def chain_of(tree: DraftTree, vocab_size: int, tokens_max: int) -> list[int]:
    """The most probable path from the root, as Python ints of the vocabulary, at most `tokens_max`.

    It ends before the first token that is none: engines die of ids that they cannot embed.
    """
    n = len(tree)
    if not n:
        return []
    token: list[int] = tree.token.tolist()
    parent: list[int] = tree.parent.tolist()
    if parent == list(range(-1, n - 1)) and min(token) >= 0 and max(token) < vocab_size:
        # Already one, as asked for.
        return token[:tokens_max]
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
