"""What verbs print: data to standard output as a table or JSON, all else to standard error."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress


PIPE_COLUMNS = 108
FIRST_START = "loading kernels; only a first start compiles them, a minute of one core"


def print_json(value: object) -> None:
    """One JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def out() -> "Console":
    """Standard output; plain and PIPE_COLUMNS wide where it is no terminal."""
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(highlight=False, soft_wrap=False, width=width)


def err() -> "Console":
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    console: "Console",
    text_columns: int = 1,
) -> None:
    """The first `text_columns` to the left, figures to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=title or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1),
    )
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < text_columns else "right")
    for row in rows:
        table.add_row(*row)
    print_trimmed(table, console)


def print_trimmed(value: "RenderableType", console: "Console") -> None:
    """Without the blanks that rich fills lines with, and without empty lines around."""
    with console.capture() as captured:
        console.print(value)
    console.out("\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines()))


def progress() -> "Progress":
    """A progress bar on standard error with rate and time left; silent where it is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = err()
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def said_if_slow(text: str, seconds: float = 3.0) -> Iterator[None]:
    """`text` on standard error if what is done within takes longer than `seconds`."""
    timer = threading.Timer(seconds, lambda: click.echo(text, err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def share(part: float, whole: float) -> str:
    """A percentage, or a dash where there is nothing to divide by."""
    return f"{part / whole:.1%}" if whole else "-"


def size(nbytes: float) -> str:
    """Bytes for people: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000 or unit == "GB":
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    raise AssertionError("the loop returns")
