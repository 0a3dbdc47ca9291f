"""Every command and program of the README runs as it stands, in its order, in an empty home."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECONDS_MAX = 180


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines behind `$ `, continued lines joined; `make` and `pip` are the user's first steps."""
    text = "\n".join(blocks("console")).replace("\\\n", " ")
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.split()[0] not in ("make", "pip", "git", "cd")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a folder of code, as the README's reader has."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "src").mkdir()
    (folder / "src" / "reader.py").write_text("def read(self, size=-1):\n    return b''\n" * 3)
    return folder


@pytest.fixture(scope="module")
def background() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that the README starts with `&`, ended in reverse order."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in reversed(running):
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "RETRIEVAL_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"HOME": str(home), "PATH": path, "COLUMNS": "100"}


def test_the_readme_shows_commands_and_programs() -> None:
    assert len(commands()) >= 7
    assert len(blocks("python")) == 1


def test_commands_and_programs_run_as_written(
    home: Path, background: list[subprocess.Popen[str]]
) -> None:
    env = environment(home)
    for command in commands():
        words = shlex.split(command.removesuffix("&"), comments=True)
        if command.endswith("&"):
            process = subprocess.Popen(words, cwd=home, env=env, stdout=subprocess.PIPE, text=True)
            background.append(process)
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving on "), command
            continue
        done = subprocess.run(
            words, cwd=home, env=env, capture_output=True, text=True, timeout=SECONDS_MAX
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_file_tree_names_what_is_there() -> None:
    root = Path(__file__).parent.parent
    (tree,) = blocks("text\n# files")
    for line in tree.splitlines():
        if name := line.split("  ")[0].strip():
            for one in name.split():
                assert (root / one).exists(), one
