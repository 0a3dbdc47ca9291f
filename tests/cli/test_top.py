"""`top`: fits a small terminal, obeys keys, shows who is away, and works without a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from retrieval_draft.cli.top import keys_in
from retrieval_draft.cli.top_screen import VIEWS, Screen
from retrieval_draft.cli.watching import WINDOW_SECONDS, Watched, Watcher
from retrieval_draft.v1 import store_pb2 as pb
from tests.cli.conftest import PROGRAM, SECONDS_MAX, Run
from tests.engine.driving import wait_for
from tests.server.sidecars import connected, running_sidecar, short_folder

NOW = 1_000_000.0


def reading(at: float, steps: int, namespaces: int, replica: str = "r") -> pb.Stats:
    stats = pb.Stats(unix_seconds=at, replica_id=replica, uptime_seconds=at - NOW)
    for number in range(namespaces):
        one = stats.namespaces.add(
            namespace=f"a-namespace-with-a-long-name-{number}",
            steps=steps,
            tokens=2 * steps,
            drafted=4 * steps,
            accepted=steps,
            drafted_steps=steps,
            connected=True,
        )
        for tier in ("context", "learned", "corpus"):
            one.tiers.add(name=tier, steps=steps, hits=steps, drafted=2 * steps, accepted=steps)
        for depth in range(1, 33):
            one.depths.add(name=str(depth), steps=steps, drafted=steps)
        one.timings.add(stage="step", count=steps, bounds_us=[64], counts=[steps], sum_us=50)
    return stats


def watched(namespaces: int, target: str = "unix:/x") -> Watched:
    one = Watched(target)
    for second in range(3):
        one.took(reading(NOW + second, 100 + 10 * second, namespaces))
    return one


def shown(screen: Screen, all_: list[Watched], width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, legacy_windows=False)
    with console.capture() as captured:
        console.print(screen.drawn(all_, height, NOW))
    return captured.get().splitlines()


def test_every_view_fits_80_by_24_however_much_there_is() -> None:
    for namespaces in (0, 1, 60):
        for many in (1, 3):
            screen = Screen()
            for view in VIEWS:
                lines = shown(screen, [watched(namespaces)] * many)
                assert len(lines) <= 24, (view, namespaces, many)
                assert max(map(len, lines)) <= 80
                assert "q quit" in lines[-1]
                screen.press("tab")


def test_it_shows_what_the_window_brought_and_not_all_that_ever_was() -> None:
    text = "\n".join(shown(Screen(), [watched(1)]))
    assert " 10.0 " in text  # 20 steps in 2 seconds
    assert " 2.00 " in text  # MAT
    assert "25.0%" in text


def test_keys_select_and_switch_and_quit() -> None:
    screen, all_ = Screen(), [watched(60)]
    for _ in range(59):
        assert screen.press("j")
    assert any(line.startswith("> a-namespace-with-a-long") for line in shown(screen, all_))
    assert "number-59" not in "\n".join(shown(Screen(), all_))
    screen.press("j")
    shown(screen, all_)
    assert screen.selected == 59, "there is nothing behind the last"
    screen.press("k")
    assert screen.selected == 58
    screen.press("tab")
    assert ": sources" in "\n".join(shown(screen, all_))
    assert not screen.press("q")


def test_a_sidecar_that_is_away_says_so_and_the_others_go_on() -> None:
    away = watched(1, "10.0.0.1:50051")
    away.lost("no answer from 10.0.0.1:50051")
    text = "\n".join(shown(Screen(), [away, watched(1)]))
    assert "1: 10.0.0.1:50051   no answer from" in text
    assert "2:a-namespace" in text
    assert "1:a-namespace" not in text


def test_readings_are_those_of_the_window_and_of_one_life() -> None:
    one = Watched("t")
    for second in range(40):
        one.took(reading(NOW + second, second, 1))
    span = one.readings[-1].unix_seconds - one.readings[0].unix_seconds
    assert WINDOW_SECONDS <= span <= WINDOW_SECONDS + 1
    one.took(reading(NOW + 41, 0, 1, replica="after a restart"))
    assert one.readings == deque([one.readings[-1]])


def test_a_watcher_comes_back_when_its_sidecar_does() -> None:
    with (
        short_folder() as data,
        running_sidecar(folder=data) as first,
        connected(first.targets[0], None) as client,
    ):
        watcher, changed = Watcher(client, "", 100), threading.Event()
        watcher.start(changed)
        wait_for(lambda: len(watcher.watched.readings) > 1)
        replica = watcher.watched.readings[-1].replica_id
        first.stop()
        wait_for(lambda: not watcher.watched.readings, "it shows what is no longer true")
        assert watcher.watched.problem
        with running_sidecar(folder=data) as second:
            assert second.targets == first.targets[:1]
            wait_for(lambda: len(watcher.watched.readings) > 1, "it does not come back")
            assert watcher.watched.readings[-1].replica_id != replica
            assert watcher.watched.problem == ""
            watcher.stop()


def test_without_a_terminal_it_prints_one_screen(run: Run, sidecar: Path) -> None:
    shown = run("top", "--interval", "0.2")
    assert shown.returncode == 0, shown.stderr
    assert "retrieval-draft top" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_in_a_terminal_it_goes_on_until_q(sidecar: Path) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = [*PROGRAM, "top", "--interval", "0.2", "--data", str(sidecar)]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        words, stdin=follower, stdout=follower, stderr=subprocess.PIPE, env=environment
    )
    os.close(follower)
    seen = b""
    while b"q quit" not in seen:
        seen += os.read(leader, 4096)
    os.write(leader, b"\t")
    while b": sources" not in seen and b"no namespaces yet" not in seen:
        seen += os.read(leader, 4096)
    os.write(leader, b"q")
    with suppress(OSError):  # what Linux says at the end; who does not read holds the writer up
        while os.read(leader, 4096):
            pass
    _, problems = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, problems) == (0, b"")
    os.close(leader)


def test_keys_typed_at_once_are_all_heard() -> None:
    assert keys_in("\tq") == ["tab", "q"]
    assert keys_in("\x1b[B\x1b[Bk\x1bOA") == ["j", "j", "k", "k"]


def test_without_a_sidecar_it_exits_with_3(tmp_path: Path) -> None:
    words = [*PROGRAM, "top", "--data", str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert ended.returncode == 3
    assert "retrieval-draft serve" in ended.stderr


def test_explain_and_advise_as_text_and_json(run: Run, sidecar: Path, tmp_path: Path) -> None:
    text = "def read(self, size):\n    return self.read(size)\n\ndef read(self,"
    words = ("--namespace", "explained", "--tokenizer", "demo")
    made = run("namespace", "create", "explained", "--tokenizer", "demo")
    assert made.returncode == 0, made.stderr
    drawn = run("explain", *words, text)
    assert drawn.returncode == 0, drawn.stderr
    assert "context match" in drawn.stdout
    assert "accepted expected" in drawn.stdout
    file = tmp_path / "context.txt"
    file.write_text(text)
    assert (
        run("explain", *words, "--file", str(file)).stdout.split()[:9] == drawn.stdout.split()[:9]
    )
    assert '"match_length"' in run("explain", *words[:2], "--tokens", "5,6,7,5,6", "--json").stdout
    assert run("explain", *words[:2], "--tokens", "five").returncode == 2
    assert run("explain", *words).returncode == 2
    advised = run("advise", *words[:2])
    assert advised.returncode == 0, advised.stderr
    assert "finished sequences are kept, 6 are needed" in advised.stdout
    assert "ask again later" in advised.stdout
    assert "%" not in advised.stdout
    assert run("advise", *words[:2], "--cost", "0:1,x").returncode == 2
