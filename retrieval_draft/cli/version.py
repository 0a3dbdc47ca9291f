"""`retrieval-draft version`."""

import platform

import click

from retrieval_draft import __version__
from retrieval_draft.cli import options
from retrieval_draft.cli.output import print_json


@click.command()
@options.as_json
def version(as_json: bool) -> None:
    """Show the version."""
    if as_json:
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        click.echo(f"retrieval-draft {__version__}")
