"""`retrieval-draft`: one module per verb, loaded when the verb is used.

`--help` loads no numba, torch, faiss or redis. Data go to standard output, all else to standard error.
"""

import importlib
import sys

import click

from retrieval_draft import __version__
from retrieval_draft.errors import DraftError

VERBS = {
    "serve": "Run the sidecar.",
    "tenant": "Say who may use a sidecar: tokens and certificates.",
    "namespace": "Create, list, show, copy and delete namespaces.",
    "warm": "Put texts into a corpus of a namespace.",
    "snapshot": "Save, check, export and import what was learned.",
    "corpus": "List, show, delete and compact what was warmed.",
    "draft": "Draw the draft tree of a text.",
    "explain": "Say why a text is drafted as it is: every source's evidence.",
    "worker": "Serve a model with tree verification.",
    "generate": "Decode a prompt on a running worker.",
    "record": "Record a model's outputs, for replay.",
    "replay": "Replay recorded outputs: what would drafting bring?",
    "calibrate": "Learn a prior for mix from recordings.",
    "tree": "Make a static draft tree from recordings.",
    "bench": "Measure drafting beside its peers.",
    "stats": "Show hit rates per tier and method.",
    "top": "Watch sidecars and namespaces on a full screen.",
    "advise": "Say what to change, and what that gains.",
    "demo": "The whole path on the bundled model: plain, cold and warm.",
    "doctor": "Check what this machine and installation have.",
    "version": "Show the version.",
}

EPILOG = """\b
Try first:
  retrieval-draft demo
  retrieval-draft serve

\b
Exit codes: 0 ok, 1 failed, 2 wrong usage or input, 3 unreachable, 4 denied, 5 corrupt data.
"""


class Verbs(click.Group):
    """Imports a verb's module when it is called; the list of verbs needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"retrieval_draft.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retrieval-draft")
def cli() -> None:
    """Drafts for speculative decoding without a trained draft model."""


def main() -> None:
    """The command line; our errors become one line on standard error and their exit code."""
    try:
        cli.main(prog_name="retrieval-draft", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DraftError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
