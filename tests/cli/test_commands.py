"""Every command as a user runs it: data on standard output, all else on standard error, exit codes."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from retrieval_draft import __version__
from retrieval_draft.cli import VERBS
from tests.cli.conftest import PROGRAM, Run

DEMO = ("--namespace", "cli", "--tokenizer", "demo")
CODE = "def read(self, size=-1):\n    return self._buffer.read(size)\n"


def plain(*words: str) -> subprocess.CompletedProcess[str]:
    """A command that takes no --data."""
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", VERBS)
def test_help_tells_what_a_verb_does_and_exits_with_0(verb: str) -> None:
    shown = plain(verb, "--help")
    assert shown.returncode == 0
    assert "Usage: retrieval-draft" in shown.stdout
    assert shown.stderr == ""


def test_the_group_help_lists_every_verb_and_the_exit_codes() -> None:
    text = plain("--help").stdout
    assert all(verb in text for verb in VERBS)
    assert "3 unreachable" in text


def test_version_as_text_and_as_json() -> None:
    assert plain("version").stdout.strip() == f"retrieval-draft {__version__}"
    assert json.loads(plain("version", "--json").stdout)["version"] == __version__


def test_an_unknown_verb_is_wrong_usage() -> None:
    assert plain("drat").returncode == 2


@pytest.mark.parametrize("verb", ["stats", "draft"])
def test_without_a_sidecar_a_command_says_so_and_exits_with_3(verb: str, tmp_path: Path) -> None:
    words = {"stats": ["stats"], "draft": ["draft", "x", *DEMO]}[verb]
    shown = plain(*words, "--data", str(tmp_path))
    assert shown.returncode == 3
    assert shown.stdout == ""
    assert "retrieval-draft serve" in shown.stderr


def test_generate_without_a_worker_exits_with_3(tmp_path: Path) -> None:
    shown = plain("generate", "x", "--data", str(tmp_path))
    assert shown.returncode == 3
    assert "retrieval-draft worker" in shown.stderr


def test_warming_twice_stores_once(sidecar: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    (tmp_path / "b.py").write_text(CODE.replace("read", "write"))
    first = json.loads(run("warm", *DEMO, str(tmp_path), "--json").stdout)
    again = json.loads(run("warm", *DEMO, str(tmp_path), "--json").stdout)
    assert (first["documents"], first["documents_known"]) == (2, 0)
    assert (again["documents"], again["documents_known"]) == (2, 2)
    assert first["corpus_tokens"] == again["corpus_tokens"] > 0
    assert first["durability"] == "MEMORY"


def test_warming_takes_json_lines_and_standard_input(
    sidecar: Path, run: Run, tmp_path: Path
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"answer": f"print({i})"}) + "\n" for i in range(3)))
    words = ("warm", *DEMO, "--corpus", "lines", "--json")
    assert json.loads(run(*words, "--field", "answer", str(lines)).stdout)["documents"] == 3
    assert json.loads(run(*words, "-", stdin=CODE).stdout)["corpus_documents"] == 4


def test_a_missing_field_names_the_line(sidecar: Path, run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "a"}\n{"txt": "b"}\n')
    shown = run("warm", *DEMO, str(lines))
    assert shown.returncode == 0
    assert "lines.jsonl:2" in shown.stderr
    assert "lines.jsonl:1" not in shown.stderr
    assert run("warm", *DEMO, "--field", "body", str(lines)).returncode == 1


def test_a_file_that_is_no_text_is_listed_and_not_fatal(
    sidecar: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "bad.bin").write_bytes(b"\xff\xfe\x00\x80")
    shown = run("warm", *DEMO, "--corpus", "mixed", str(tmp_path))
    assert shown.returncode == 0
    assert "bad.bin" in shown.stderr
    assert "1 documents" in shown.stdout


def test_a_missing_source_is_wrong_input(sidecar: Path, run: Run) -> None:
    shown = run("warm", *DEMO, "/nowhere")
    assert shown.returncode == 2
    assert "/nowhere" in shown.stderr


def test_draft_draws_the_tree_with_probabilities_and_sources(
    sidecar: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.py").write_text(CODE * 3)
    run("warm", *DEMO, "--corpus", "drawn", str(tmp_path))
    drawn = run("draft", "def read(self,", *DEMO)
    assert drawn.returncode == 0
    assert re.search(r"size .*0\.\d\d .*corpus", drawn.stdout)
    data = json.loads(run("draft", "def read(self,", *DEMO, "--json", "--chain").stdout)
    assert [node["parent"] for node in data["nodes"]] == list(range(-1, len(data["nodes"]) - 1))
    assert data["nodes"][0]["text"].strip() == "size"


def test_draft_in_an_unknown_namespace_names_it(sidecar: Path, run: Run) -> None:
    shown = run("draft", "x", "--namespace", "nobody", "--tokenizer", "demo")
    assert shown.returncode == 1
    assert "'nobody'" in shown.stderr


def test_generate_gives_the_same_text_with_drafts_and_without(worker: Path, run: Run) -> None:
    words = ("generate", CODE, "--tokens-max", "48", "--temperature", "0.7", "--json")
    drafted = json.loads(run(*words, "--seed", "3").stdout)
    plainly = json.loads(run(*words, "--seed", "3", "--plain").stdout)
    other = json.loads(run(*words, "--seed", "4").stdout)
    assert drafted["text"] == plainly["text"] != other["text"]
    assert plainly["drafted"] == 0 < drafted["drafted"]
    assert drafted["output_tokens"] == 48


def test_generate_streams_text_to_stdout_and_figures_to_stderr(worker: Path, run: Run) -> None:
    shown = run("generate", "import os\nimport ", "--tokens-max", "8")
    assert shown.returncode == 0
    assert "MAT" in shown.stderr
    assert "MAT" not in shown.stdout


def test_a_prompt_that_does_not_fit_is_wrong_input(worker: Path, run: Run) -> None:
    shown = run("generate", "x", "--tokens-max", "5000")
    assert shown.returncode == 2
    assert "tokens_max" in shown.stderr


def test_a_worker_drafts_from_what_was_warmed_under_its_name(worker: Path, run: Run) -> None:
    assert (
        run("warm", "--namespace", "demo", "--tokenizer", "demo", "-", stdin=CODE * 9).returncode
        == 0
    )
    data = json.loads(run("generate", CODE, "--tokens-max", "32", "--json").stdout)
    assert data["drafted"] > 0


def test_stats_show_hit_rates_per_tier_and_method(worker: Path, run: Run) -> None:
    run("generate", CODE * 4, "--tokens-max", "48")
    text = run("stats").stdout
    assert all(word in text for word in ("context", "learned", "corpus", "mix", "hit rate"))
    data = json.loads(run("stats", "--json").stdout)
    demo = next(one for one in data["namespaces"] if one["namespace"] == "demo")
    assert int(demo["steps"]) > 0
    assert {tier["name"] for tier in demo["tiers"]} == {"context", "learned", "corpus"}


def test_doctor_finds_nothing_broken_and_sees_the_sidecar(sidecar: Path, run: Run) -> None:
    shown = run("doctor", "--json")
    findings = {one["check"]: one for one in json.loads(shown.stdout)}
    assert shown.returncode == 0
    assert findings["sidecar"]["state"] == "ok"
    assert findings["kernels"]["state"] == "ok"
    assert not [one for one in findings.values() if one["state"] == "fail"]


def test_doctor_fails_on_a_redis_that_does_not_answer(run: Run, tmp_path: Path) -> None:
    shown = run("doctor", "--redis", f"unix://{tmp_path}/none.sock", "--json")
    assert shown.returncode == 1
    findings = {one["check"]: one["state"] for one in json.loads(shown.stdout)}
    assert findings["redis"] == "fail"
