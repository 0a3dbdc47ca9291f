"""What drafts were drawn from, on the wire."""

import numpy as np
import pytest

from retrieval_draft.errors import InvalidInput
from retrieval_draft.tree import EMPTY, DraftTree, Proposals, int32s
from retrieval_draft.v1 import draft_pb2
from retrieval_draft.wire import decode_trees, encode_trees


def drawn(nodes: list[int], width: int) -> Proposals:
    rows = np.arange(len(nodes) * width).reshape(-1, width)
    return Proposals(int32s(nodes), int32s(rows), (1 / (1 + rows)).astype(np.float32))


def test_every_tree_gets_its_own_proposals_back() -> None:
    token, parent = int32s([5, 6, 7]), int32s([-1, 0, 0])
    trees = [
        DraftTree(token, parent, proposals=drawn([-1, 0], 2)),
        EMPTY,
        DraftTree(token, parent),
        DraftTree(token, parent, proposals=drawn([-1, 0], 3)),
    ]
    message = draft_pb2.Trees.FromString(encode_trees(trees).SerializeToString())
    back = decode_trees(message, "trees", 4)
    assert [tree.proposals is None for tree in back] == [False, True, True, False]
    for sent, got, width in ((trees[0], back[0], 2), (trees[3], back[3], 3)):
        assert sent.proposals is not None
        assert got.proposals is not None
        assert got.proposals.nodes.tolist() == [-1, 0]
        assert got.proposals.tokens[:, :width].tolist() == sent.proposals.tokens.tolist()
        probabilities = got.proposals.probabilities[:, :width]
        assert probabilities.tolist() == sent.proposals.probabilities.tolist()
    assert back[0].proposals is not None
    assert back[0].proposals.tokens[:, 2].tolist() == [-1, -1]
    assert back[0].proposals.probabilities[:, 2].tolist() == [0, 0]


def test_deterministic_trees_carry_nothing() -> None:
    assert not encode_trees([DraftTree(int32s([5]), int32s([-1]))]).HasField("proposals")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"nodes": int32s([1]).tobytes()}, "nodes"),
        ({"nodes": int32s([-2]).tobytes()}, "nodes"),
        ({"tokens": b""}, "tokens"),
        ({"probabilities": b"\0"}, "probabilities"),
        ({"width": 7}, "tokens"),
    ],
)
def test_proposals_that_do_not_fit_are_refused(change: dict[str, object], field: str) -> None:
    tree = DraftTree(int32s([5]), int32s([-1]), proposals=drawn([-1], 2))
    message = encode_trees([tree])
    for name, value in change.items():
        setattr(message.proposals, name, value)
    with pytest.raises(InvalidInput, match=f"trees.proposals.{field}"):
        decode_trees(message, "trees", 1)


@pytest.mark.parametrize(
    ("nodes", "token", "said"),
    [
        ([-1, 1], 9, None),
        ([-1, 2], 9, "of a node outside -1 to 1"),
        ([-2, 0], 9, "of a node outside -1 to 1"),
        ([-1, 0], 10, "of a token outside the vocabulary of 10"),
        ([-1, 0], -1, None),
        ([-1, 0], -2, "of a token outside the vocabulary of 10"),
    ],
)
def test_a_tree_with_proposals_beyond_nodes_or_vocabulary_is_refused(
    nodes: list[int], token: int, said: str | None
) -> None:
    table = int32s([[1, 2], [3, token]])
    proposals = Proposals(int32s(nodes), table, np.ones_like(table, dtype=np.float32))
    tree = DraftTree(int32s([1, 2]), int32s([-1, 0]), proposals=proposals)
    problem = tree.problem(10, 2)
    assert problem is None if said is None else said in str(problem)
