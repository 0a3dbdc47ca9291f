"""--pad-drafts: sizes of answers are powers of two, and nothing else changes."""

import pytest

from retrieval_draft.config import MESSAGE_BYTES_MAX, Config
from retrieval_draft.server.padding import BYTES_MIN, EMPTY_BYTES, pad
from retrieval_draft.step import DraftOptions, StepRequest
from retrieval_draft.v1 import draft_pb2
from retrieval_draft.wire import encode_request
from tests.engine.driving import NAMESPACE, Caller, listed, part
from tests.server.sidecars import DRAFT, RawCalls, connected, running_sidecar


def is_power_of_two(size: int) -> bool:
    return size >= BYTES_MIN and not size & (size - 1)


@pytest.mark.parametrize("first", [0, 200, 300, 450, 16_250, 16_384, 32_600, 2_097_000])
def test_a_message_of_any_size_becomes_a_power_of_two_and_says_the_same(first: int) -> None:
    sizes = [0]
    for size in range(first, first + 300 if first < 20_000 else first + 20):
        message = draft_pb2.DraftResponse(step_id=7, statuses=b"x" * size)
        before = message.ByteSize()
        sent = pad(message).SerializeToString()
        assert is_power_of_two(len(sent))
        assert len(sent) == BYTES_MIN or before + EMPTY_BYTES <= len(sent) < 2 * (
            before + EMPTY_BYTES
        )
        assert len(sent) >= sizes[-1], "no size stands out"
        sizes.append(len(sent))
        back = draft_pb2.DraftResponse.FromString(sent)
        assert (back.step_id, back.statuses) == (7, b"x" * size)


def test_a_message_too_large_to_double_stays_as_it_is() -> None:
    message = draft_pb2.DraftResponse(statuses=bytes(MESSAGE_BYTES_MAX - 2))
    before = message.SerializeToString()
    assert pad(message).SerializeToString() == before


def test_answers_of_few_and_of_many_nodes_have_one_size_and_the_same_trees() -> None:
    text = [1, 2, 3, 4, 5, 6] * 4
    trees = []
    for pads in (False, True):
        with (
            running_sidecar(Config(learned_bytes_max=1 << 20), pad_drafts=pads) as sidecar,
            connected(sidecar.targets[0]) as client,
        ):
            asked = part("s", 0, text, prompt=len(text))
            trees.append(listed(Caller(client).tree(asked, method="lookup", nodes_max=8)))
            raw = RawCalls(sidecar.targets[0])
            sizes = []
            for nodes in range(1, 9):
                options = DraftOptions(nodes_max=nodes, method="lookup")
                request = StepRequest(1, NAMESPACE, f"{nodes}", [asked], options)
                for call in (raw.unary, raw.stream):
                    method = "Draft" if call == raw.unary else "DraftStream"
                    data = encode_request(request).SerializeToString()
                    sizes.append(len(call(DRAFT, method, data).data[0]))
            raw.close()
            assert (set(sizes) == {BYTES_MIN}) == pads
            assert len(set(sizes)) == 1 if pads else len(set(sizes)) >= 8
    assert trees[0] == trees[1]
    assert len(trees[0]) == 8
