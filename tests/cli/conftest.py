"""One sidecar and one worker of the demo model for all commands, each a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = (sys.executable, "-m", "retrieval_draft")
SECONDS_MAX = 120


def started(*words: str) -> subprocess.Popen[str]:
    """A long-running command, once it has said where it serves."""
    process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving on "), line
    return process


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process that was asked to stop."""
    process.terminate()
    process.communicate(timeout=SECONDS_MAX)
    return process.returncode


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def sidecar(folder: Path) -> Iterator[Path]:
    process = started("serve", "--data", str(folder), "--redis", "none")
    yield folder
    assert ended(process) == 0


@pytest.fixture(scope="session")
def worker(sidecar: Path) -> Iterator[Path]:
    # However busy the machine is, drafts are waited for.
    words = ("--threads", "1", "--length-max", "512", "--slots", "2", "--step-ms-max", "1000")
    process = started("worker", "--demo", "--data", str(sidecar), *words)
    yield sidecar
    assert ended(process) == 0


@pytest.fixture(scope="session")
def run(folder: Path) -> Run:
    """A command on the data folder, to its end."""

    def call(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words, "--data", str(folder)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )

    return call
