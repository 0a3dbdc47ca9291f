"""Options that mean the same with every verb."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retrieval_draft.errors import InvalidInput

if TYPE_CHECKING:
    from retrieval_draft.client import GrpcClient

NODES_HARD_MAX = 1024
"""Config.nodes_hard_max, which the engine checks too."""

_REDIS_FILES = {
    "password_file": "The password of your Redis, read for every connection.",
    "ca": "The authority that signed its certificate.  [default: the system's]",
    "cert": "Our certificate, if it wants one.",
    "key": "Its key, if it is in a file of its own.",
}
_REDIS_PARAMETERS = {
    "redis_password_file": "password_file",
    "redis_ca": "ssl_ca_certs",
    "redis_cert": "ssl_certfile",
    "redis_key": "ssl_keyfile",
}

_Command = TypeVar("_Command", bound=Callable[..., Any])


def data(command: _Command) -> _Command:
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Data folder.  [default: XDG_DATA_HOME/retrieval-draft]",
    )(command)


def sidecar(command: _Command) -> _Command:
    """--sidecar, and the credentials for it; see `client_of`."""
    return click.option(
        "--sidecar",
        metavar="TARGET",
        help="A running sidecar: unix:PATH or HOST:PORT.  [default: the data folder's socket]",
    )(credentials(command))


def credentials(command: _Command) -> _Command:
    """How to reach a sidecar with tenants or TLS. No parameters of the command: `client_of` finds them."""
    for name, metavar, text in reversed(_CREDENTIALS):
        command = click.option(
            name, metavar=metavar, help=text, expose_value=False, callback=_remember
        )(command)
    return command


_CREDENTIALS = (
    ("--token-file", "FILE", "The sidecar's bearer token.  [default: RETRIEVAL_DRAFT_TOKEN]"),
    (
        "--tls-ca",
        "FILE",
        "Reach the sidecar by TLS, and trust this CA; `system` for the machine's.",
    ),
    ("--tls-cert", "FILE", "The client certificate for the sidecar, with --tls-key."),
    ("--tls-key", "FILE", "The key of --tls-cert."),
)


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    ctx.meta[f"{__name__}.{parameter.name}"] = value
    return value


def listen(command: _Command) -> _Command:
    return click.option(
        "--listen",
        multiple=True,
        metavar="TARGET",
        help="Where to serve: unix:PATH or HOST:PORT; repeatable.  "
        "[default: a Unix socket in the data folder]",
    )(command)


def redis_files(command: _Command) -> _Command:
    """Files for a Redis; the command hears of them as `redis_*`. See `redis_url`."""
    for name, what in reversed(_REDIS_FILES.items()):
        command = click.option(
            f"--redis-{name.replace('_', '-')}",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help=what,
        )(command)
    return command


def redis_url(url: str, files: Mapping[str, Path | None]) -> str:
    """The URL with those files that `redis_files` was given. Raises InvalidInput without a URL."""
    from retrieval_draft.store.redis_address import with_files

    given = {name: path.absolute() for name, path in files.items() if path is not None}
    if given and url in ("", "none"):
        option = "--" + min(given).replace("_", "-")
        raise InvalidInput("--redis", url, "the URL of a Redis", f"{option} is of no use without")
    return with_files(url, {_REDIS_PARAMETERS[name]: path for name, path in given.items()})


def as_json(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")(command)


def namespace(command: _Command) -> _Command:
    return click.option(
        "--namespace", default="default", show_default=True, metavar="NAME", help="Namespace."
    )(command)


def only_namespace(command: _Command) -> _Command:
    return click.option(
        "--namespace", default="", metavar="NAME", help="Only this one.  [default: all]"
    )(command)


def interval(what: str) -> Callable[[_Command], _Command]:
    """Seconds between two readings of figures."""
    return click.option(
        "--interval",
        default=1.0,
        show_default=True,
        type=click.FloatRange(0.1, 3600),
        metavar="SECONDS",
        help=what,
    )


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


def client_of(sidecar: str | None, data: Path | None) -> "GrpcClient":
    """A client of the sidecar, with the credentials that the command line or the environment gives."""
    from retrieval_draft.client import GrpcClient
    from retrieval_draft.credentials import load_credentials

    def given(name: str) -> str:
        return click.get_current_context().meta.get(f"{__name__}.{name}") or ""

    token_file = given("token_file")
    loaded = load_credentials(
        Path(token_file) if token_file else None,
        given("tls_ca"),
        given("tls_cert"),
        given("tls_key"),
    )
    return GrpcClient(target_of(sidecar, data), loaded)
