"""How a worker finds its drafts: the namespace of its model, and a conversation priced for it."""

from dataclasses import replace

from tokenizers import Tokenizer

from retrieval_draft.client import Client
from retrieval_draft.config import STEP_MS_MAX
from retrieval_draft.conversation import Conversation
from retrieval_draft.gpu.live_cost import LiveCosts
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.gpu.width import best_width, first_nodes
from retrieval_draft.step import DraftOptions, VerifyCost
from retrieval_draft.tokenizer import fingerprint
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1.store_pb2 import CreateNamespaceRequest


def converse(
    client: Client,
    model: TargetModel,
    namespace: str,
    options: DraftOptions,
    *,
    tokenizer: Tokenizer | None = None,
    cost: VerifyCost | LiveCosts | None = None,
    step_ms_max: float = STEP_MS_MAX,
) -> Conversation:
    """A conversation in the model's namespace, which is made when the drafter first answers."""
    create = CreateNamespaceRequest(
        namespace=namespace,
        vocab_size=model.vocab_size,
        tokenizer_fingerprint=fingerprint(tokenizer) if tokenizer is not None else "",
        end_tokens=int32s(model.end_tokens).tobytes(),
    )
    if isinstance(cost, LiveCosts):
        talk = PricedConversation(
            client, namespace, model.vocab_size, options, step_ms_max=step_ms_max, create=create
        )
        talk.costs = cost
        return talk
    return Conversation(
        client,
        namespace,
        model.vocab_size,
        replace(options, verify_cost=cost),
        step_ms_max=step_ms_max,
        create=create,
    )


class PricedConversation(Conversation):
    """A conversation that prices every step by how many sequences it has, and how long they are.

    The drafter takes a batch's nodes to be shared evenly. What comes is therefore cut once more, where
    several sequences are filled up to the largest tree.
    """

    costs: LiveCosts
    _sequences = 0
    _context_tokens = 0.0

    def ask(
        self,
        nodes_max: dict[str, int],
        model_trees: dict[str, DraftTree] | None = None,
        spent_ms: float = 0.0,
    ) -> None:
        lengths = [self._open[name].length for name in nodes_max if name in self._open]
        self._sequences = len(lengths)
        if lengths:
            self._context_tokens = sum(lengths) / len(lengths)
            self.price(self.costs.at(len(lengths), self._context_tokens))
        super().ask(nodes_max, model_trees, spent_ms)

    def take(self, *, waits: bool = True) -> dict[str, DraftTree] | None:
        trees = super().take(waits=waits)
        if not trees or self._sequences < 2:
            return trees
        cost = self.costs.by_width(self._sequences, self._context_tokens)
        width = best_width(trees.values(), self._sequences, cost)
        return {name: first_nodes(tree, width) for name, tree in trees.items()}
