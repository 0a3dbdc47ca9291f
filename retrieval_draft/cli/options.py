"""Options that mean the same with every verb."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from retrieval_draft.errors import InvalidInput

NODES_HARD_MAX = 1024
"""Config.nodes_hard_max, which the engine checks too."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def data(command: _Command) -> _Command:
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Data folder.  [default: XDG_DATA_HOME/retrieval-draft]",
    )(command)


def sidecar(command: _Command) -> _Command:
    return click.option(
        "--sidecar",
        metavar="TARGET",
        help="A running sidecar: unix:PATH or HOST:PORT.  [default: the data folder's socket]",
    )(command)


def listen(command: _Command) -> _Command:
    return click.option(
        "--listen",
        multiple=True,
        metavar="TARGET",
        help="Where to serve: unix:PATH or HOST:PORT; repeatable.  "
        "[default: a Unix socket in the data folder]",
    )(command)


def as_json(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")(command)


def namespace(command: _Command) -> _Command:
    return click.option(
        "--namespace", default="default", show_default=True, metavar="NAME", help="Namespace."
    )(command)


def tokenizer(command: _Command) -> _Command:
    return click.option(
        "--tokenizer",
        metavar="PATH",
        help="tokenizer.json, or the folder of a model; the bundled demo model's is `demo`.",
    )(command)


def recordings(command: _Command) -> _Command:
    return click.argument(
        "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING..."
    )(command)


def tokens_max(command: _Command) -> _Command:
    return click.option(
        "--tokens-max",
        default=0,
        metavar="N",
        help="Output tokens taken of each file.  [default: all]",
    )(command)


def method(command: _Command) -> _Command:
    from retrieval_draft.drafting.names import DEFAULT_METHOD, METHODS

    return click.option(
        "--method",
        type=click.Choice(METHODS),
        default=DEFAULT_METHOD,
        show_default=True,
        help="How to draft.",
    )(command)


def methods_of(names: str) -> tuple[str, ...]:
    """Comma-separated names of methods, or `all`. Raises InvalidInput."""
    from retrieval_draft.drafting.names import METHODS

    if names == "all":
        return METHODS
    found = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in found:
        if name not in METHODS:
            raise InvalidInput("--methods", name, f"all, or some of {', '.join(METHODS)}")
    return found


def numbers_of(option: str, text: str) -> tuple[int, ...]:
    """Comma-separated node budgets, ascending. Raises InvalidInput."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not 1 <= found[0] <= found[-1] <= NODES_HARD_MAX:
        limit = f"numbers from 1 to {NODES_HARD_MAX}, separated by commas"
        raise InvalidInput(option, text, limit)
    return tuple(found)


def target_of(sidecar: str | None, data: Path | None) -> str:
    """The sidecar's target: as given, else the socket of the data folder."""
    if sidecar:
        return sidecar
    from retrieval_draft.store.folder import default_path, find_socket

    return f"unix:{find_socket(data or default_path())}"
