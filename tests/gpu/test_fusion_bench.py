"""The comparison of drafters at equal nodes, end to end on the demo models."""

from click.testing import CliRunner

from retrieval_draft.cli.bench_worker import worker
from retrieval_draft.gpu.bench.arms import FUSIONS, MODEL, PLAIN, Task
from retrieval_draft.gpu.bench.run import Plan, measured
from retrieval_draft.gpu.draft_models.causal import CausalDrafts
from retrieval_draft.gpu.draft_models.opening import open_draft_model
from retrieval_draft.gpu.fusion_bench import ARMS, compared
from retrieval_draft.gpu.model import load_model
from retrieval_draft.tokenizer import demo_folder, load_tokenizer
from retrieval_draft.tree import int32s


def test_every_arm_decodes_the_same_and_drafts_within_its_nodes() -> None:
    target = load_model(demo_folder(), dtype="float32", device="cpu", threads=1)
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


def test_the_workers_benchmark_has_arms_with_a_draft_model() -> None:
    target = load_model(demo_folder(), dtype="float32", device="cpu", threads=1)
    prompt = int32s(load_tokenizer("demo").encode("def __init__(self, name):\n").ids)
    tasks = [Task("s", prompt, 12)]
    arms = (PLAIN, MODEL, *FUSIONS)
    plan = Plan(arms, (1,), 1, 4, 0, step_ms_max=10_000, is_forced=False, draft_model="demo")
    rows = measured(target, [("prompts", tasks)], plan)
    assert [row.arm for row in rows] == list(arms)
    assert all(row.mat >= 1 for row in rows), "whether drafting pays is for the machine to say"
    assert all(row.differences is None or not row.differences.tokens for row in rows)


def test_a_draft_model_needs_real_weights() -> None:
    refused = CliRunner().invoke(worker, ["--arms", "plain,fused-rasd", "--shape", "smoke"])
    assert refused.exit_code != 0
    assert "it needs --model or --demo" in str(refused.output) + str(refused.exception)
