"""`retrieval-draft corpus`, against a running sidecar."""

import json
from pathlib import Path

from tests.cli.conftest import Run

DEMO = ("--namespace", "shelf")


def test_a_corpus_is_listed_shown_compacted_and_deleted(
    sidecar: Path, run: Run, tmp_path: Path
) -> None:
    for number in range(2):
        source = tmp_path / f"{number}.txt"
        source.write_text(f"print({number})\n" * (9 * number + 1))
        warmed = run("warm", *DEMO, "--tokenizer", "demo", "--corpus", "texts", str(source))
        assert warmed.returncode == 0, warmed.stderr
    (listed,) = json.loads(run("corpus", "list", *DEMO, "--json").stdout)
    assert (listed["corpus"], listed["documents"], listed["segments"]) == ("texts", 2, 2)
    assert "texts" in run("corpus", "show", "texts", *DEMO).stdout
    compacted = json.loads(run("corpus", "compact", "texts", *DEMO, "--json").stdout)
    assert compacted["segments"] == 1
    assert (compacted["documents"], compacted["tokens"]) == (2, listed["tokens"])
    assert "deleted corpus texts" in run("corpus", "delete", "texts", *DEMO).stdout
    assert json.loads(run("corpus", "list", *DEMO, "--json").stdout) == []
    for verb in ("show", "delete", "compact"):
        gone = run("corpus", verb, "texts", *DEMO)
        assert gone.returncode != 0
        assert "there is no corpus texts" in gone.stderr
