"""Recording and what is made of it, as a user runs them one after the other."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import PROGRAM, SECONDS_MAX

PROMPTS = ("def read(self, size=-1):\n", "class Writer:\n    def __init__(self, file):\n")


def run(*words: str, returncode: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [*PROGRAM, *words], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert ended.returncode == returncode, ended.stderr
    return ended


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))
    words = ("--samples", "2", "--tokens-max", "40", "--temperature", "0.7", "--threads", "1")
    shown = run("record", str(prompts), "--out", str(folder / "rec"), *words, "--json")
    figures = json.loads(shown.stdout)
    assert figures["sequences"] == 4
    assert figures["rows"] > figures["output_tokens"]
    return folder / "rec"


def test_a_recording_names_seed_group_and_temperature_of_every_output(recording: Path) -> None:
    lines = [json.loads(line) for line in (recording / "recording.jsonl").read_text().splitlines()]
    assert [(line["group"], line["seed"]) for line in lines] == [
        ("1", 0),
        ("1", 1),
        ("2", 2),
        ("2", 3),
    ]
    assert {line["temperature"] for line in lines} == {0.7}
    assert lines[0]["output_tokens"] != lines[1]["output_tokens"]


def test_a_recording_is_never_written_over(recording: Path) -> None:
    shown = run("record", "--out", str(recording), returncode=2)
    assert "without a recording" in shown.stderr


def test_replay_gives_tables_json_and_a_page(recording: Path, tmp_path: Path) -> None:
    page = tmp_path / "replay.html"
    words = ("replay", str(recording), "--methods", "mix,lookup", "--nodes", "4,16")
    shown = run(*words, "--replicas", "2", "--goodput", "--json", "--report", str(page))
    done = json.loads(shown.stdout.splitlines()[-1])
    assert {(r["method"], r["nodes_max"]) for r in done["runs"]} == {
        (m, n) for m in ("mix", "lookup") for n in (4, 16)
    }
    assert done["files"][0]["has_rows"]
    assert len(done["goodput"]) == 8
    assert page.read_text().startswith("<!doctype html>")
    table = run(*words).stdout
    assert "Best settings" in table
    assert f"{done['runs'][0]['figures']['mat']:.3f}" in table


def test_calibrate_writes_a_prior(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "prior.npz"
    figures = json.loads(run("calibrate", str(recording), "--out", str(out), "--json").stdout)
    with np.load(out) as prior:
        assert {name: list(prior[name].shape) for name in prior.files} == figures["arrays"]


def test_tree_optimise_writes_a_tree(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "tree.json"
    words = ("--nodes", "12", "--wide-nodes", "60", "--depth", "6", "--json")
    figures = json.loads(run("tree", "optimise", str(recording), "--out", str(out), *words).stdout)
    tree = json.loads(out.read_text())
    assert len(tree["parents"]) == len(tree["ranks"]) == figures["nodes"] <= 12
    assert figures["depth"] <= 6


def test_bench_draft_ends_with_one_json_line(recording: Path) -> None:
    shown = run("bench", "draft", str(recording), "--nodes", "8", "--method", "suffix")
    done = json.loads(shown.stdout.splitlines()[-1])
    assert done["rows"][0]["ours"]["mat"] >= 1.0
    assert done["long"]["context_tokens"] == 32768
    assert "lookup" in shown.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("replay", "REC", "--methods", "nope"), "--methods"),
        (("replay", "REC", "--nodes", "8,x"), "--nodes"),
        (("replay", "REC", "--nodes", "4096"), "--nodes"),
        (("replay", "REC", "--replicas", "0"), "--replicas"),
        (("replay", "no/such/file"), "no/such/file"),
        (("tree", "optimise", "REC", "--out", "x.json", "--nodes", "700"), "--nodes"),
    ],
)
def test_wrong_input_is_named_and_exits_with_2(
    words: tuple[str, ...], named: str, recording: Path
) -> None:
    given = [str(recording) if word == "REC" else word for word in words]
    assert named in run(*given, returncode=2).stderr
