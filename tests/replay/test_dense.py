"""Replaying with dense retrieval: an ablation of the same run, the same figures twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from retrieval_draft.cli.bench_dense import dense
from retrieval_draft.cli.replay import densely
from retrieval_draft.errors import InvalidInput
from retrieval_draft.replay.dense_bench import bench
from retrieval_draft.replay.recording import Meaning, RecordedSample, write_recording
from retrieval_draft.replay.run import Plan, replay
from retrieval_draft.replay.sequences import read
from tests.replay.texts import VOCAB, recorded, repetitive

ARMS = ("mix", "mix+tokens")


def test_mix_is_replayed_once_with_every_kind_that_is_named() -> None:
    assert densely(("mix", "suffix"), "off,tokens") == ("mix", "mix+tokens", "suffix")
    assert densely(("suffix", "mix"), "hidden") == ("suffix", "mix+hidden")
    assert densely(("mix",), "off") == ("mix",)
    with pytest.raises(InvalidInput, match="--dense is 'no'"):
        densely(("mix",), "no")


def test_the_same_replay_gives_the_same_figures_and_says_what_dense_took() -> None:
    file = repetitive(3, 6)
    plan = Plan(ARMS, (8,))
    one, two = replay([file], plan), replay([file], plan)
    assert [run.figures.mat for run in one.runs] == [run.figures.mat for run in two.runs]
    plain, similar = one.runs
    assert (plain.method, plain.dense) == ("mix", None)
    assert similar.dense is not None
    assert similar.dense.us > 0
    assert file.output_tokens <= similar.dense.contexts <= file.output_tokens + len(file.sequences)
    assert similar.dense.nbytes == similar.dense.contexts * 132
    kinds = {run.method: {s.name for s in run.figures.by_source if s.drafted} for run in one.runs}
    assert "dense" in kinds["mix+tokens"] - kinds["mix"]
    best = max(one.runs, key=lambda run: run.figures.mat)
    shown = "--method mix --dense tokens" if best is similar else "--method mix"
    assert one.best[0].settings == f"{shown} --nodes-max 8"


def test_recorded_hidden_states_reach_the_index(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    samples = []
    for i in range(12):
        one = recorded([1, 2], random.integers(0, VOCAB, 120).tolist(), has_rows=True)
        assert one.rows is not None
        states = random.normal(size=(len(one.rows), 8)).astype(np.float16)
        samples.append(RecordedSample(one, i, "p", states))
    write_recording(tmp_path / "rec", Meaning("m", VOCAB), samples)
    file = read(tmp_path / "rec", with_hidden=True)
    for written, got in zip(samples, file.sequences, strict=True):
        assert got.rows is not None
        np.testing.assert_array_equal(got.rows.hidden, written.hidden)
    done = replay([file], Plan(("mix+hidden",), (8,)))
    assert done.runs[0].dense is not None
    # Learned from where the projection was fitted on.
    assert 200 < done.runs[0].dense.contexts < file.output_tokens
    # Left out unless they are wanted: they are most of a recording.
    plain = read(tmp_path / "rec").sequences[0].rows
    assert plain is not None
    assert plain.hidden is None


def test_indexes_are_held_against_the_exact_one() -> None:
    flat, ivf = bench(3000, ("flat", "ivf"))
    assert flat.recall > 0.99
    assert flat.index_bytes_per_context > ivf.index_bytes_per_context > 0
    assert 0.3 < ivf.recall <= 1
    assert 0 < flat.query_us_p50 <= flat.query_us_p99


def test_the_bench_ends_with_one_line_of_json_and_names_what_is_wrong() -> None:
    shown = CliRunner().invoke(dense, ["--contexts", "1000", "--kinds", "flat"])
    assert shown.exit_code == 0, shown.output
    (row,) = json.loads(shown.stdout.splitlines()[-1])
    assert (row["kind"], row["contexts"]) == ("flat", 1000)
    for words in (["--contexts", "999"], ["--kinds", "flat,lsh"]):
        refused = CliRunner().invoke(dense, words)
        assert isinstance(refused.exception, InvalidInput)
