"""The demo's run: a sidecar of its own, the standard library warmed, every arm decoded."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from retrieval_draft.client import GrpcClient
from retrieval_draft.errors import Unreachable
from retrieval_draft.gpu.demo.arms import Arm, Arms, prompts_of
from retrieval_draft.gpu.demo.prompts import shipped
from retrieval_draft.gpu.demo.stdlib import is_held_out, is_test, read_source, source_files
from retrieval_draft.gpu.sidecar import converse
from retrieval_draft.gpu.target import TargetModel
from retrieval_draft.step import DraftOptions, VerifyCost
from retrieval_draft.v1 import store_pb2 as pb
from retrieval_draft.warming.documents import Text
from retrieval_draft.warming.sending import warm

DECODINGS = ("sampled", "greedy")
CORPUS = "python-stdlib"
START_SECONDS_MAX = 120.0
STEP_MS_MAX = 50.0
"""Generous: the demo shows drafting, not deadlines; what comes late would only be missed."""


class Progress(Protocol):
    """Who shows how far it is."""

    def task(self, name: str, total: int) -> Callable[[], None]:
        """A bar of this length; the call moves it on by one."""
        ...

    def work(self, name: str) -> AbstractContextManager[None]:
        """A bar for something of unknown length."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """The arms, the sidecar's own figures of them, and what steps and asking cost here."""

    arms: list[Arm]
    stats: pb.Stats
    cost: VerifyCost
    asking_ms: float


@contextmanager
def running_sidecar(data: Path, method: str, web: str = "") -> Iterator[str]:
    """A sidecar of its own process with its embedded Redis in `data`; its target.

    With `web` it serves the dashboard there, which may show the demo's text.

    Raises Unreachable if it does not start.
    """
    command = [sys.executable, "-m", "retrieval_draft", "serve", "--log-level", "WARNING"]
    if web:
        command += ["--web", web, "--show-tokens", "demo"]
    with subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--data", str(data), "--method", method], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            if line[:2] != ["serving", "on"]:
                raise Unreachable("the sidecar did not start; it has said why")
            yield line[2]
        finally:
            process.terminate()
            process.wait(START_SECONDS_MAX)


def measured(
    model: TargetModel,
    tokenizer: Tokenizer,
    target: str,
    method: str,
    nodes_max: int,
    tokens_max: int,
    prompts_max: int,
    bar: Progress,
) -> Measured:
    """All arms, every one in a namespace that was fresh when its decoding began."""
    encoded = prompts_of(shipped()[: prompts_max or None], lambda t: tokenizer.encode(t).ids)
    half = (len(encoded) + 1) // 2
    with bar.work("measuring step costs"):
        runs = Arms(model, max(map(len, encoded)) + tokens_max, nodes_max)
    wanted = DraftOptions(nodes_max=nodes_max, method=method)
    client = GrpcClient(target)
    arms: list[Arm] = []
    asked = asking_seconds = 0.0
    try:
        for decoding in DECODINGS:
            namespace = f"demo-{decoding}-{uuid.uuid4().hex[:8]}"
            talk = converse(
                client,
                model,
                namespace,
                wanted,
                tokenizer=tokenizer,
                cost=runs.costs,
                step_ms_max=STEP_MS_MAX,
            )
            for name, some in (("cold", encoded[:half]), ("warm", encoded[half:])):
                if name == "warm":
                    warm_stdlib(client, namespace, tokenizer, bar)
                    settled(client, namespace)
                advance = bar.task(f"{decoding}, {name}", len(some))
                arms.append(runs.run(Arm(name, decoding), some, tokens_max, talk, advance))
            asked += talk.figures.steps
            asking_seconds += talk.figures.round_trip_seconds
        cost = runs.costs.at(1, runs.costs.measured.context_tokens)
        return Measured(arms, client.stats(), cost, 1000 * asking_seconds / max(1.0, asked))
    finally:
        client.close()


def warm_stdlib(client: GrpcClient, namespace: str, tokenizer: Tokenizer, bar: Progress) -> None:
    """Warm the installed Python's library, without its tests and what was kept out of training."""
    files = [
        (name, path) for name, path in source_files() if not is_held_out(name) and not is_test(name)
    ]
    advance = bar.task(f"warming {CORPUS}", len(files))

    def texts() -> Iterator[Text]:
        for name, path in files:
            if (text := read_source(path)) is not None:
                yield Text(name, text)
            advance()

    warm(client, namespace, CORPUS, texts(), tokenizer)


def settled(client: GrpcClient, namespace: str, seconds_max: float = 10.0) -> None:
    """Wait until what the cold arm committed is learned."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        if client.stats(namespace).namespaces[0].lag_records == 0:
            return
        time.sleep(0.02)
