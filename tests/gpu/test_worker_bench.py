"""The worker's benchmark: forced outputs, what is counted, and where time goes."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from retrieval_draft.cli.bench_worker import worker
from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.bench.arms import LOOKUP, MIX_HERE, PLAIN, Arm, Task, new_arm
from retrieval_draft.gpu.bench.differences import differences
from retrieval_draft.gpu.bench.overhead import STEPS, step_overhead
from retrieval_draft.gpu.bench.run import COLD, WARM, Plan, measured, random_tasks
from retrieval_draft.gpu.bench.shapes import SHAPES, noise_model
from retrieval_draft.gpu.runner import Runner
from retrieval_draft.gpu.stages import OVERHEAD, STAGES, StageClock
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.tree import int32s
from tests.gpu.drafters import ScriptedDrafter, decoy_plan
from tests.gpu.models import VOCAB_SIZE, prompts, tiny

PLAN = Plan((PLAIN, LOOKUP, MIX_HERE), (2,), rounds=2, nodes_max=8, warm_tokens=20)


@pytest.fixture(scope="module")
def smoke() -> TargetModel:
    return noise_model("smoke", dtype="float32", threads=1)


def forced(model: TargetModel, count: int) -> list[Task]:
    """Recorded outputs that have nothing to do with what the model would say."""
    return [
        Task(f"{i}", prompt, 12, int32s([(7 * i + j) % 5 + 3 for j in range(20)]))
        for i, prompt in enumerate(prompts(count, vocab_size=model.vocab_size))
    ]


def test_outputs_are_the_recorded_ones_with_and_without_drafts(smoke: TargetModel) -> None:
    tasks = forced(smoke, 3)
    runner = Runner(smoke, slots=3, length_max=64, nodes_max=10)
    recorded = {
        task.sequence_id: task.output.tolist()[:12] for task in tasks if task.output is not None
    }
    plain, lookup = (new_arm(name, runner, None, is_forced=True) for name in (PLAIN, LOOKUP))
    for arm in (plain, lookup):
        arm.decode(tasks)
        assert arm.outputs == recorded
    assert plain.total.mat == 1.0
    assert plain.total.drafted == 0
    # The outputs repeat after five tokens: lookup drafts them, and is believed where it is right.
    assert lookup.total.mat > 1.5
    assert lookup.rounds[0].tokens == plain.rounds[0].tokens == 3 * 11


def test_arms_share_their_sequences_and_phases_their_warmth(smoke: TargetModel) -> None:
    tasks = forced(smoke, 8)
    rows = measured(smoke, [("file", tasks)], PLAN)
    assert [(row.phase, row.arm) for row in rows] == [
        (phase, arm) for phase in (COLD, WARM) for arm in PLAN.arms
    ]
    assert {row.tokens for row in rows} == {2 * 2 * 11}
    by_name = {(row.phase, row.arm): row for row in rows}
    for row in rows:
        assert row.shares.keys() == set(STAGES)
        assert sum(row.shares.values()) == pytest.approx(1.0)
        assert row.lookup_ratio is not None
        assert row.differences is None
    assert by_name[COLD, PLAIN].ratio == 1.0
    assert by_name[COLD, PLAIN].shares["draft"] < by_name[COLD, MIX_HERE].shares["draft"]
    # What came before in the file is of the same kind: only the warm store knows it from the start.
    assert by_name[WARM, MIX_HERE].mat >= by_name[COLD, MIX_HERE].mat


def test_too_few_sequences_are_refused(smoke: TargetModel) -> None:
    with pytest.raises(InvalidInput, match="sequences for 2 rounds of 2"):
        measured(smoke, [("file", forced(smoke, 3))], replace(PLAN, warm_tokens=0))


def test_real_weights_are_compared_token_by_token() -> None:
    model = tiny("llama")
    tasks = [Task(f"{i}", prompt, 8) for i, prompt in enumerate(prompts(2, seed=6))]
    runner = Runner(model, slots=1, length_max=64, nodes_max=8)
    plain = Arm(PLAIN, runner, None, is_forced=False)
    for task in tasks:
        plain.decode([task])
    plan = decoy_plan(
        {tuple(task.prompt.tolist()): plain.outputs[task.sequence_id] for task in tasks}, VOCAB_SIZE
    )
    drafted = Arm("drafted", runner, ScriptedDrafter(plan), is_forced=False)
    for task in tasks:
        drafted.decode([task])
    same = differences(drafted.decoder, tasks, plain.outputs, drafted.outputs)
    assert (same.compared, same.tokens, same.sequences) == (16, 0, 0)
    changed = {name: list(tokens) for name, tokens in drafted.outputs.items()}
    other = (changed["1"][3] + 1) % VOCAB_SIZE
    changed["1"][3] = other
    off = differences(drafted.decoder, tasks, plain.outputs, changed)
    assert (off.tokens, off.sequences) == (1, 1)
    whole = np.concatenate([tasks[1].prompt, int32s(plain.outputs["1"][:3])])
    with torch.inference_mode():
        logits = runner.prefill(0, int32s(whole))[0]
    assert off.margin_max == pytest.approx(float(logits.max() - logits[other]), rel=1e-3)


def test_the_clock_gives_all_of_a_step_to_its_stages(smoke: TargetModel) -> None:
    runner = Runner(smoke, slots=1, length_max=64, nodes_max=10)
    arm = new_arm(LOOKUP, runner, None, is_forced=True)
    arm.decode(forced(smoke, 1))
    clock = arm.decoder.clock
    assert clock.steps == arm.figures[0].steps
    assert all(clock.seconds[stage] > 0 for stage in STAGES)
    assert clock.overhead_ms == pytest.approx(
        1e3 * sum(clock.seconds[stage] for stage in OVERHEAD) / clock.steps
    )
    # Nothing is outside the stages but the round's own loop.
    assert clock.total <= arm.rounds[0].seconds


def test_shapes_have_the_published_number_of_weights() -> None:
    def weights(name: str) -> int:
        shape = SHAPES[name]
        queries, keys = shape.heads * shape.head_width, shape.key_heads * shape.head_width
        layer = shape.hidden * (2 * queries + 2 * keys + 3 * shape.intermediate)
        return shape.layers * layer + shape.vocab_size * shape.hidden * (2 - shape.is_tied)

    assert weights("qwen3-0.6b") == pytest.approx(596e6, rel=0.001)
    assert weights("llama-3.1-8b") == pytest.approx(8.03e9, rel=0.001)


def test_overhead_is_measured_with_full_trees_whose_paths_move() -> None:
    found = step_overhead("float32", 1)
    assert found.steps == STEPS  # so every step kept its whole path
    assert found.cpu_ms.keys() == set(OVERHEAD)
    assert 0 < found.total_cpu_ms == pytest.approx(sum(found.cpu_ms.values()))


def test_random_text_repeats_nothing() -> None:
    tasks = random_tasks(1000, 3, 50)
    outputs = [task.output for task in tasks if task.output is not None]
    assert [len(output) for output in outputs] == [50, 50, 50]
    assert all(output.min() >= 0 and output.max() < 1000 for output in outputs)
    assert not np.array_equal(outputs[0], outputs[1])


def test_the_command_labels_what_is_forced_and_ends_with_json() -> None:
    command = ["--shape", "smoke", "--random", "--generate"]
    few = ["--rounds", "1", "--output-max", "6", "--arms", "plain,lookup", "--threads", "1"]
    done = CliRunner().invoke(worker, [*command, *few])
    assert done.exit_code == 0, done.output
    assert "trace-forced: smoke" in done.output
    document = json.loads(done.output.splitlines()[-1])
    assert document["kind"] == "trace-forced"
    assert [row["arm"] for row in document["rows"]] == ["plain", "lookup"]
    assert {row["steps"] for row in document["rows"]} == {"ragged"}
    assert document["generate"][2] > 0
    refused = CliRunner().invoke(worker, ["--arms", "magic"])
    assert refused.exit_code != 0


def test_a_clock_that_waits_does_so_before_it_reads_what_a_forward_took() -> None:
    clock = StageClock(lambda: time.sleep(0.02))
    clock.start()
    for stage in STAGES:
        clock.lap(stage)
    assert clock.seconds["forward"] >= 0.02
