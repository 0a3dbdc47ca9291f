"""Alert rules and the Grafana dashboard name only what a sidecar and a worker really say."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from retrieval_draft.web.metrics import LE_US
from tests.engine.driving import running_engine
from tests.web.serving import dashboard, decode

DOCKER = Path(__file__).parents[2] / "docker"
OURS = re.compile(r"retrieval_draft_\w+|vllm:\w+")


@pytest.fixture(scope="module")
def exposition() -> str:
    """What a sidecar says after some drafts."""
    with running_engine() as engine, dashboard(engine) as served:
        decode(engine)
        return served.get("/metrics").body.decode()


@pytest.fixture(scope="module")
def said(exposition: str) -> set[str]:
    """The names of all series there are, and the worker's."""
    worker = (DOCKER.parent / "gpu" / "http" / "metrics.py").read_text()
    counters = re.findall(r'counter\("(\w+)"', worker)
    return {
        line.split("{")[0].split(" ")[0] for line in exposition.splitlines() if line[0] != "#"
    } | {f"vllm:{name}_total" for name in counters}


def queries() -> Iterator[str]:
    """Every expression of the alerts and the dashboard."""
    for line in (DOCKER / "alerts.yml").read_text().splitlines():
        if not line.strip().startswith("#"):
            yield line
    board = (DOCKER / "grafana" / "dashboards" / "retrieval-draft.json").read_text()
    yield from re.findall(r'"(?:expr|definition|query)": "((?:[^"\\]|\\.)*)"', board)


def test_every_metric_that_is_named_is_said(said: set[str]) -> None:
    named = {name for query in queries() for name in OURS.findall(query)}
    assert len(named) > 15
    assert named - said == set()


def test_every_label_that_is_named_is_said(exposition: str) -> None:
    by = {
        name
        for q in queries()
        for group in re.findall(r"by \(([\w, ]+)\)", q)
        for name in group.split(", ")
    }
    labels = set(re.findall(r'(\w+)="', exposition)) | {"instance"}
    assert {"tier", "source", "match_length", "depth", "stage"} <= by
    assert by - labels == set()


def test_the_text_is_prometheus(exposition: str) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {one.name: one for one in text_string_to_metric_families(exposition)}
    assert families["retrieval_draft_steps"].type == "counter"
    assert families["retrieval_draft_steps"].samples[0].value > 2
    stages = families["retrieval_draft_stage_seconds"]
    assert stages.type == "histogram"
    steps = [s for s in stages.samples if s.labels["stage"] == "step"]
    buckets = [s.value for s in steps if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == next(s.value for s in steps if s.name.endswith("_count")) > 2
    bounds = [float(s.labels["le"]) for s in steps if s.name.endswith("_bucket")]
    assert bounds == [*(bound / 1e6 for bound in LE_US), float("inf")], "whatever was timed"


def test_the_dashboard_begins_with_three_numbers() -> None:
    board = msgspec.json.decode(
        (DOCKER / "grafana" / "dashboards" / "retrieval-draft.json").read_bytes()
    )
    kinds = [panel["type"] for panel in board["panels"]]
    assert kinds[:4] == ["stat", "stat", "stat", "row"]
    sources = (DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    for panel in board["panels"]:
        if panel["type"] != "row":
            assert f"uid: {panel['datasource']['uid']}" in sources
            assert panel["targets"]


def test_promtool_takes_the_rules_and_they_alert_when_they_should() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: apt-get install prometheus")
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=DOCKER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
