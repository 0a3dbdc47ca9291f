"""Options that mean the same with every verb."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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


def method(command: _Command) -> _Command:
    from retrieval_draft.drafting.names import DEFAULT_METHOD, METHODS

    return click.option(
        "--method",
        type=click.Choice(METHODS),
        default=DEFAULT_METHOD,
        show_default=True,
        help="How to draft.",
    )(command)


def target_of(sidecar: str | None, data: Path | None) -> str:
    """The sidecar's target: as given, else the socket of the data folder."""
    if sidecar:
        return sidecar
    from retrieval_draft.store.folder import default_path, find_socket

    return f"unix:{find_socket(data or default_path())}"
