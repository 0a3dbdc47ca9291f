"""Spans: one a call and one a step, in the caller's trace, with no word of what was drafted."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from retrieval_draft.client import GrpcClient
from retrieval_draft.errors import NotFound
from retrieval_draft.server import tracing
from tests.engine.driving import Caller, wait_for
from tests.engine.test_fleet import decode
from tests.server.sidecars import connected, running_sidecar

NAMED = "a-secret-namespace"


class Kept(SpanExporter):
    """What would have been sent."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: object) -> SpanExportResult:
        assert isinstance(spans, list | tuple)
        self.spans += spans
        return SpanExportResult.SUCCESS

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.endswith(name)]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[GrpcClient, Kept]]:
    kept, whole = Kept(), tracing.Tracing
    monkeypatch.setattr(tracing, "Tracing", lambda replica: whole(replica, kept))
    with running_sidecar(traces=True) as running, connected(running.targets[0]) as client:
        yield client, kept


def test_calls_and_steps_are_spans_and_say_nothing_of_their_content(
    traced: tuple[GrpcClient, Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, kept = traced
    trace = "0af7651916cd43dd8448eb211c80319c"
    client._metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
    decode(Caller(client))
    with pytest.raises(NotFound):
        client.get_namespace(NAMED)
    client.info()
    next(client.watch_stats())
    wait_for(lambda: bool(kept.named("WatchStats")), "spans are not sent")
    steps = kept.named("DraftStream")
    assert steps
    for step in steps:
        assert step.attributes is not None
        assert step.attributes.keys() == {"sequences", "nodes", "draft_us"}
    assert max(int(str((step.attributes or {})["nodes"])) for step in steps) > 0
    (refused,) = kept.named("GetNamespace")
    assert refused.status.description == "NOT_FOUND"
    assert {f"{span.context.trace_id:032x}" for span in kept.spans if span.context} >= {trace}
    assert not any(NAMED in span.to_json() for span in kept.spans)


def test_nothing_of_it_is_imported_where_it_is_not_asked_for() -> None:
    script = "import sys, retrieval_draft.server.lifecycle\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert "retrieval_draft.server.edge" in ended.stdout
    assert "opentelemetry" not in ended.stdout
