"""One step with all that a message can hold."""

from retrieval_draft.step import DraftOptions, SequenceStart, StepRequest, VerifyCost
from retrieval_draft.tree import DraftTree, int32s
from retrieval_draft.v1 import draft_pb2
from retrieval_draft.wire import encode_request
from tests.engine.driving import NAMESPACE, part, rows


def full_step(step_id: int = 1) -> draft_pb2.DraftRequest:
    """A message in which every field is set."""
    tree = DraftTree(int32s([5, 6]), int32s([-1, 0]))
    first = part(
        "s",
        0,
        [1, 2, 3, 1, 2],
        prompt=3,
        start=SequenceStart(0, temperature=0.5, length_max=99, end_tokens=(7,)),
        nodes_max=9,
        rows=rows([0, -1], [[4, 5, 6], [7, 8, 9]]),
        verified_step=1,
        accepted=1,
        verified_tree=tree,
    )
    second = part("t", 0, [9, 9], prompt=2, finished=True)
    cost = VerifyCost(int32s([0, 9]), rows([0], [[1, 2]]).logprobs[0] + 3)
    options = DraftOptions(8, 4, 3, method="mix", batch_nodes_max=9, verify_cost=cost, seed=7)
    return encode_request(StepRequest(step_id, NAMESPACE, "fuzz", [first, second], options))
