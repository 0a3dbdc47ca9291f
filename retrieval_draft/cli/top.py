"""`retrieval-draft top`."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from retrieval_draft.cli.top_screen import Screen
    from retrieval_draft.cli.watching import Watcher

FIRST_SECONDS_MAX = 10.0
"""How long a screen that is printed once waits for every sidecar's second reading."""


@click.command()
@click.option(
    "--sidecar",
    "sidecars",
    multiple=True,
    metavar="TARGET",
    help="A running sidecar: unix:PATH or HOST:PORT; repeatable.  [default: the data folder's socket]",
)
@options.credentials
@options.data
@options.only_namespace
@options.interval("Between two readings.")
def top(sidecars: tuple[str, ...], data: Path | None, namespace: str, interval: float) -> None:
    """Watch sidecars and their namespaces on a full screen: what the last ten seconds brought.

    \b
    q  quit        up, down (k, j)  select a namespace
    tab            show its tiers, sources, methods, match lengths, depths, or the stages of a step

    Where there is no terminal it prints one screen and ends.
    """
    from rich.console import Console

    from retrieval_draft.cli.top_screen import Screen
    from retrieval_draft.cli.watching import Watcher

    clients = [options.client_of(target, data) for target in sidecars or (None,)]
    watchers = [Watcher(client, namespace, round(interval * 1000)) for client in clients]
    screen, changed = Screen(), threading.Event()
    console = Console(highlight=False)
    for watcher in watchers:
        watcher.start(changed)
    try:
        if console.is_terminal:
            _live(console, screen, watchers, changed)
        else:
            _once(screen, watchers, changed)
    finally:
        for watcher in watchers:
            watcher.stop()


def _once(screen: "Screen", watchers: "Sequence[Watcher]", changed: threading.Event) -> None:
    from retrieval_draft.cli.output import out, print_trimmed
    from retrieval_draft.errors import Unreachable

    deadline = time.monotonic() + FIRST_SECONDS_MAX
    all_ = [watcher.watched for watcher in watchers]
    while any(len(one.readings) < 2 and one.problem in ("", "connecting") for one in all_):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        changed.wait(left)
        changed.clear()
    if not any(one.readings for one in all_):
        raise Unreachable(all_[0].problem)
    console = out()
    print_trimmed(screen.drawn(all_, 200, time.time()), console)


def _live(
    console: "Console", screen: "Screen", watchers: "Sequence[Watcher]", changed: threading.Event
) -> None:
    from rich.live import Live

    with _keys(changed) as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            for key in pressed():
                if not screen.press(key):
                    return
            all_ = [watcher.watched for watcher in watchers]
            live.update(screen.drawn(all_, console.height, time.time()), refresh=True)
            changed.wait(1.0)
            changed.clear()


@contextmanager
def _keys(changed: threading.Event) -> Iterator[Callable[[], list[str]]]:
    """The keys as they are pressed, without echo; none where standard input is no terminal."""
    import sys

    if not sys.stdin.isatty():
        yield list[str]
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    reader = _Reader(descriptor, changed)
    tty.setcbreak(descriptor)
    try:
        reader.start()
        yield reader.take
    finally:
        reader.stop()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class _Reader:
    """A thread that reads keys."""

    def __init__(self, descriptor: int, changed: threading.Event) -> None:
        self._descriptor = descriptor
        self._changed = changed
        self._keys: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(2.0)

    def take(self) -> list[str]:
        keys, self._keys = self._keys, []
        return keys

    def _run(self) -> None:
        import os
        import select

        while not self._ended.is_set():
            readable, _, _ = select.select([self._descriptor], [], [], 0.2)
            if readable:
                data = os.read(self._descriptor, 16)
                if not data:
                    return
                self._keys.extend(keys_in(data.decode("ascii", "replace")))
                self._changed.set()


def keys_in(typed: str) -> list[str]:
    """The keys of what came at once: several, if typed faster than read; an arrow is three signs."""
    names = {"\x1b[A": "k", "\x1b[B": "j", "\x1bOA": "k", "\x1bOB": "j", "\t": "tab"}
    found: list[str] = re.findall(r"\x1b[\[O].|.", typed, re.DOTALL)
    return [names.get(key, key) for key in found]
