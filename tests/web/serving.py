"""A dashboard around an engine in this process, and what a browser or Prometheus would ask it."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from retrieval_draft.engine import Engine
from retrieval_draft.server.access import Access
from retrieval_draft.server.http import HttpServer
from retrieval_draft.step import SequenceStart
from retrieval_draft.tokenizer import load_tokenizer
from retrieval_draft.web.app import Dashboard, Sources
from retrieval_draft.web.history import History
from retrieval_draft.web.metrics import text
from retrieval_draft.web.recent import Recent
from tests.engine.driving import caller, part

SECONDS_MAX = 30.0
TEXT = [11, 12, 13, 14, 15, 16, 17, 18] * 12
PROMPT = 24


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one request; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Served:
    """Where it is, and how to ask it."""

    def __init__(self, engine: Engine, access: Access, history: History, address: str) -> None:
        self.engine, self.access, self.history = engine, access, history
        self.host = address.removeprefix("http://")

    def get(self, path: str, **headers: str) -> Answer:
        """A whole answer."""
        connection = http.client.HTTPConnection(self.host, timeout=SECONDS_MAX)
        try:
            connection.putrequest("GET", path, skip_host="host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    @contextmanager
    def events(self, query: str = "", **headers: str) -> Iterator[Iterator[tuple[str, object]]]:
        """The stream of figures, event by event."""
        connection = http.client.HTTPConnection(self.host, timeout=SECONDS_MAX)
        try:
            connection.request("GET", f"/api/figures{query}", headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield _events(answer)
        finally:
            connection.close()


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, object]]:
    name = ""
    for line in answer:
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").decode().strip()
        elif line.startswith(b"data: "):
            yield name, msgspec.json.decode(line.removeprefix(b"data: "))


@contextmanager
def dashboard(
    engine: Engine, access: Access | None = None, *, shows_text: bool = False
) -> Iterator[Served]:
    """Served on a loopback port; points of the history are taken when a test says so."""
    access = access or Access()
    recent = Recent(load_tokenizer("demo")) if shows_text else None
    if recent is not None:
        engine.on_committed, engine.stores.on_gone = recent.committed, recent.forget
    history = History(engine)
    sources = Sources(engine, access, history, text, recent)
    page = Dashboard(sources, "127.0.0.1", event_seconds=0.1)
    server = HttpServer(page.app(), "127.0.0.1", 0, stopping=page.stop)
    server.start()
    try:
        yield Served(engine, access, history, server.address)
    finally:
        server.stop(1.0)


def decode(engine: Engine, sequence_id: str = "s", start: SequenceStart | None = None) -> int:
    """A sequence that says TEXT, drafted and verified to its end; returns its steps."""
    calls, at, steps = caller(engine), PROMPT, 1
    opened = start or SequenceStart(PROMPT)
    tree = calls.tree(part(sequence_id, 0, TEXT[:at], prompt=PROMPT, start=opened))
    while at < len(TEXT):
        path = tree.follow(TEXT[at:])
        taken = TEXT[at : at + len(path) + 1]
        verdict = part(
            sequence_id, at, taken, verified_step=calls.step_id, accepted=len(path)
        )  # fmt: skip
        tree = calls.tree(verdict)
        at += len(taken)
        steps += 1
    return steps
