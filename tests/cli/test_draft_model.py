"""`worker --draft-model` as a process beside a sidecar, spoken to over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.conftest import SECONDS_MAX, ended, started
from tests.redis_servers.processes import free_port

PROMPTS = ("def read(self, size):\n    ", "class Reader:\n    def __init__(self, path):\n        ")
TOKENS = 48


@pytest.fixture
def url(sidecar: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    process = started(
        *("worker", "--demo", "--draft-model", "demo", "--data", str(sidecar)),
        *("--listen", f"unix:{tmp_path}/w.sock", "--http", f"127.0.0.1:{port}"),
        *("--threads", "1", "--length-max", "256", "--slots", "2", "--namespace", "sibling"),
        # No draft is late, however busy the machine is.
        *("--step-ms-max", "10000"),
    )
    yield f"http://127.0.0.1:{port}/v1/completions"
    assert ended(process) == 0


def test_outputs_with_a_draft_model_and_a_sidecar_are_those_without(url: str) -> None:
    def completed(drafting: bool, temperature: float) -> tuple[list[str], dict[str, Any]]:
        """The texts, and the figures of both drafts."""
        asked = {"prompt": list(PROMPTS), "max_tokens": TOKENS, "ignore_eos": True, "seed": 3}
        asked |= {"temperature": temperature, "drafting": drafting, "draft_stats": True}
        answer = httpx2.post(url, json=asked, timeout=SECONDS_MAX)
        answer.raise_for_status()
        body = answer.json()
        return [one["text"] for one in body["choices"]], body["draft"]

    accepted = 0
    for temperature in (0.0, 0.8):
        plain, figures = completed(False, temperature)
        assert figures["drafted"] == 0
        first, _ = completed(True, temperature)
        # What was decoded once the sidecar knows the second time.
        second, figures = completed(True, temperature)
        assert first == second == plain
        accepted += figures["accepted"]
    assert accepted, "how many is for the machine's prices to say"
