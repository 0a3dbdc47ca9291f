"""What sharing and restarts are worth on made-up files, and its cost on a real Redis."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from retrieval_draft.cli import cli
from retrieval_draft.errors import DraftError, InvalidInput
from retrieval_draft.replay import redis_cost
from retrieval_draft.replay.drafter import Setting
from retrieval_draft.replay.restart import restart
from retrieval_draft.replay.share import passes, share
from retrieval_draft.step import DraftOptions
from retrieval_draft.store.server_binary import installed_servers
from tests.replay.texts import file_of, recorded, repetitive

SETTING = Setting(DraftOptions(nodes_max=16, method="suffix"))


def test_a_restart_keeps_what_the_journal_holds() -> None:
    text = list(range(10, 40))
    again = file_of(recorded([1], text), recorded([2], text))
    done = restart(again, SETTING)
    assert (done.sequences, done.cold_mat) == (1, 1.0)
    assert done.kept_mat == done.restarted_mat > 1.5
    other = file_of(recorded([1], text), recorded([2], list(range(40, 49))))
    assert restart(other, SETTING).restarted_mat == 1.0


def test_gains_are_ratios_of_the_same_run_and_progress_ends_at_its_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_server() -> None:
        raise DraftError("no server here")

    monkeypatch.setattr(redis_cost, "_server", no_server)
    files = [repetitive(seed, 6) for seed in (1, 2)]
    calls: list[None] = []
    done = share(files, SETTING, (1, 3), None, lambda: calls.append(None))
    assert [(one.replicas, one.delay) for one in done.curve] == [(1, 0), (3, 2)] * 2
    alone, three = done.gains
    assert (alone.files, alone.ratio, alone.ratio_min) == (2, 1.0, 1.0)
    ratios = [one.shared_mat / one.private_mat for one in done.curve if one.replicas == 3]
    assert three.ratio_min == min(ratios) <= three.ratio <= max(ratios)
    assert done.restart_ratio > 1.0
    assert (done.cost, done.cost_missing) == (None, "no server here")
    assert len(calls) == passes(files, (1, 3)) - 6, "all but the passes on Redis"


@pytest.mark.skipif(not installed_servers(), reason="no Redis server on this machine")
def test_the_cost_is_read_from_a_real_redis_on_which_all_replicas_agree(tmp_path: Path) -> None:
    lines = [
        {"prompt_tokens": one.prompt.tolist(), "output_tokens": one.output.tolist()}
        for one in repetitive(3, 6).sequences
    ]
    file = tmp_path / "outputs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("bench", "share", str(file), "--method", "suffix", "--replicas", "1,2")
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 0, shown.output
    done = json.loads(shown.stdout.splitlines()[-1])
    cost = done["cost"]
    assert cost["tokens"] == cost["restart_tokens"] == sum(len(x["output_tokens"]) for x in lines)
    assert cost["digests_equal"]
    assert 0 < cost["commands"]["xadd"] * cost["tokens"] <= 2 * len(lines) + 0.01
    assert cost["journal_bytes"] * cost["tokens"] == pytest.approx(cost["stored_bytes"]["journal"])
    assert {"journal", "counts", "replicas", "spec"} <= cost["stored_bytes"].keys()
    assert cost["file_bytes"] > 4 * 0.25, "tokens are four bytes before they are packed"
    assert "shared / private" in shown.stdout


def test_a_file_that_cannot_be_split_is_wrong_input(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"prompt_tokens": [1], "output_tokens": [1, 2, 3, 4, 5, 6, 7, 8]}\n')
    shown = CliRunner().invoke(cli, ["bench", "share", str(file)])
    assert isinstance(shown.exception, InvalidInput)
    assert "at least two sequences" in str(shown.exception)
