"""`retrieval-draft warm` killed, stopped with Ctrl-C, and run again."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retrieval_draft.client import GrpcClient
from retrieval_draft.config import Config
from retrieval_draft.errors import NotFound
from retrieval_draft.store.records import document_digest
from retrieval_draft.tokenizer import load_tokenizer
from retrieval_draft.tree import int32s
from tests.engine.driving import wait_for
from tests.server.sidecars import running_sidecar

TEXTS = [f"def f{i}(x):\n    return x * {i}\n" for i in range(3000)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
SECONDS_MAX = 120


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with running_sidecar(Config()) as sidecar:
        yield sidecar.targets[0]


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    """The digests of all documents."""
    encodings = load_tokenizer("demo").encode_batch_fast(TEXTS, add_special_tokens=False)
    return [document_digest(int32s(one.ids).tobytes()) for one in encodings]


def words(target: str, corpus: str, *more: str) -> list[str]:
    program = [sys.executable, "-m", "retrieval_draft", "warm", "--tokenizer", "demo"]
    return [*program, "--sidecar", target, "--corpus", corpus, *more]


@contextmanager
def fed(target: str, corpus: str, text: str) -> Iterator["subprocess.Popen[str]"]:
    """A warming that has read this much of its standard input and waits for more."""
    command = words(target, corpus, "--format", "jsonl", "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(text)
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def known(target: str, corpus: str, digests: list[bytes]) -> int:
    client = GrpcClient(target)
    try:
        return sum(client.known_documents("default", corpus, digests))
    finally:
        client.close()


def in_use(target: str, corpus: str) -> int:
    """Documents that drafts use."""
    client = GrpcClient(target)
    try:
        corpora = client.stats("default").namespaces[0].corpora
        return next((one.documents for one in corpora if one.corpus == corpus), 0)
    finally:
        client.close()


def is_stored(target: str, corpus: str, digests: list[bytes]) -> bool:
    try:
        return known(target, corpus, digests) > 0
    except NotFound:  # the namespace is made by the process that is being waited for
        return False


def rerun(target: str, corpus: str, folder: Path) -> dict[str, object]:
    """The warming of all, from a file this time."""
    path = folder / "all.jsonl"
    path.write_text(LINES)
    done = subprocess.run(
        words(target, corpus, "--json", str(path)),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_killed_and_repeated_it_goes_on_with_what_is_missing(
    target: str, expected: list[bytes], tmp_path: Path
) -> None:
    half = LINES[: len(LINES) // 2]
    with fed(target, "killed", half) as process:
        wait_for(lambda: is_stored(target, "killed", expected), "nothing was stored")
        process.send_signal(signal.SIGKILL)
        assert process.wait(SECONDS_MAX) == -signal.SIGKILL
    before = known(target, "killed", expected)
    # The sidecar may see the end of the stream before it sees that its client is gone.
    assert in_use(target, "killed") in (0, before)
    assert 0 < before < len(TEXTS) // 2
    again = rerun(target, "killed", tmp_path)
    assert again["documents"] == again["corpus_documents"] == len(TEXTS)
    assert again["documents_known"] == before
    assert again["documents_sent"] == len(TEXTS) - before
    assert known(target, "killed", expected) == in_use(target, "killed") == len(TEXTS)


def test_ctrl_c_leaves_what_was_read_in_use_and_says_how_to_go_on(
    target: str, expected: list[bytes], tmp_path: Path
) -> None:
    with fed(target, "stopped", LINES[: len(LINES) // 2]) as process:
        wait_for(lambda: is_stored(target, "stopped", expected), "nothing was stored")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 130
    assert "The same command goes on from there" in errors
    assert "Traceback" not in errors
    stored = known(target, "stopped", expected)
    assert 0 < stored == in_use(target, "stopped") < len(TEXTS)
    assert f"has {stored} of" in out
    assert rerun(target, "stopped", tmp_path)["corpus_documents"] == len(TEXTS)
