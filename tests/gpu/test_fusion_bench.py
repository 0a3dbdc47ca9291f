"""The comparison of drafters at equal nodes, end to end on the demo models."""

from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.draft_models.opening import open_draft_model
from retrieval_draft.gpu.fusion_bench import ARMS, compared
from retrieval_draft.gpu.model import load_model
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import int32s


def test_every_arm_decodes_the_same_and_drafts_within_its_nodes() -> None:
    target = load_model(demo_folder(), dtype="float32", threads=1)
    text = "def __init__(self, name):\n        self.name = name\n\n    def "
    prompt = int32s(load_tokenizer("demo").encode(text).ids)

    def new_model() -> CausalDrafts:
        return open_draft_model("demo", target, slots=1, length_max=128)

    found = compared(
        target, new_model, [prompt], temperatures=[0.0], nodes=[4], tokens_max=20, slots=1
    )
    assert [one.arm for one in found] == list(ARMS)
    assert all(one.identical and one.tokens == 20 for one in found)
    assert all(one.drafted <= 4 for one in found)
    mats = {one.arm: one.mat for one in found}
    assert mats["draft model"] > 1
    assert max(mats["fused, rasd"], mats["fused, mix"]) > 1
