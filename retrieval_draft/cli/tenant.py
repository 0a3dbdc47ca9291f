"""`retrieval-draft tenant`: the file that `serve --tenants` reads."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, out, print_json, print_table

if TYPE_CHECKING:
    from retrieval_draft.tenants import Tenants

file_option = click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The tenants file.",
)


@click.group()
def tenant() -> None:
    """Say who may use a sidecar: the file of `serve --tenants`.

    A running sidecar reads it afresh at SIGHUP.
    """


@tenant.command()
@click.argument("name")
@file_option
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    metavar="ID",
    help="Instead of a token: a client certificate's SPIFFE id, or common name; repeatable.",
)
@options.as_json
def add(name: str, path: Path, certificates: tuple[str, ...], as_json: bool) -> None:
    """Give tenant NAME one more token, and print it: it is not stored and cannot be shown again.

    \b
    Examples:
      retrieval-draft tenant add acme --file tenants.toml > acme.token
      retrieval-draft tenant add acme --file tenants.toml --certificate spiffe://prod/acme
    """
    from retrieval_draft.tenants import (
        hashed_token,
        token_id,
        with_certificates,
        with_token,
        write_tenants,
    )

    tenants = _read_or_new(path)
    if certificates:
        write_tenants(path, with_certificates(tenants, name, certificates))
        if as_json:
            print_json({"tenant": name, "certificates": certificates})
        else:
            err().print(f"{name} may come with {', '.join(certificates)}", soft_wrap=True)
        return
    changed, token = with_token(tenants, name)
    write_tenants(path, changed)
    shown = token_id(hashed_token(token))
    if as_json:
        print_json({"tenant": name, "token_id": shown, "token": token})
        return
    click.echo(token)
    err().print(f"token {shown} of {name}: {path} holds its hash alone", soft_wrap=True)


@tenant.command(name="list")
@file_option
@options.as_json
def list_(path: Path, as_json: bool) -> None:
    """List tenants, the ids of their tokens, and their certificates."""
    from retrieval_draft.tenants import read_tenants

    tenants = read_tenants(path)
    found = [tenants.by_name[name] for name in sorted(tenants.by_name)]
    if as_json:
        rows = [
            {"tenant": one.name, "tokens": one.token_ids, "certificates": one.certificates}
            for one in found
        ]
        print_json({"unix_sockets": tenants.unix_sockets, "tenants": rows})
        return
    console = out()
    if found:
        cells = [
            (one.name, " ".join(one.token_ids) or "-", " ".join(one.certificates) or "-")
            for one in found
        ]
        print_table("", ("tenant", "tokens", "certificates"), cells, console, text_columns=3)
    whose = f"tenant {tenants.unix_sockets}" if tenants.unix_sockets else "nobody without a token"
    console.print(f"callers on Unix sockets: {whose}")


@tenant.command()
@click.argument("name")
@file_option
@click.option("--token", metavar="ID", help="This token alone.  [default: the whole tenant]")
def remove(name: str, path: Path, token: str | None) -> None:
    """Take tenant NAME out of the file, or one of its tokens. Its namespaces stay where they are."""
    from retrieval_draft.tenants import (
        read_tenants,
        without_tenant,
        without_token,
        write_tenants,
    )

    tenants = read_tenants(path)
    changed = without_token(tenants, name, token) if token else without_tenant(tenants, name)
    write_tenants(path, changed)
    what = f"token {token} of {name}" if token else name
    err().print(f"removed {what}; a running sidecar hears of it at SIGHUP", soft_wrap=True)


def _read_or_new(path: Path) -> "Tenants":
    from retrieval_draft.tenants import Tenants, read_tenants

    return read_tenants(path) if path.exists() else Tenants()
