"""Drawn drafts end to end: the drafter draws, the wire of the process carries it, `recursive` verifies."""

from retrieval_draft.gpu.model import load_model
from retrieval_draft.gpu.rules_bench import compared
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import int32s


def test_both_rules_decode_and_accept_drawn_drafts() -> None:
    model = load_model(demo_folder(), dtype="float32", device="cpu", threads=1)
    prompt = int32s(load_tokenizer("demo").encode("def __init__(self, name):\n").ids)
    found = compared(model, [prompt], [0.7], samples=3, tokens_max=24, nodes_max=16)
    assert [one.rule for one in found] == ["match", "recursive"]
    for one in found:
        assert one.tokens > 3
        assert one.drafted > 1
        assert 0 < one.accepted < one.mat
