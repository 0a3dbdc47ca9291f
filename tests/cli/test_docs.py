"""The commands that docs/ show exist, with the options they are shown with."""

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = re.compile(r"^\$ retrieval-draft (.+)$", re.MULTILINE)


def shown() -> list[str]:
    """Every command behind a prompt, of all pages."""
    pages = sorted(DOCS.glob("*.md"))
    return [text for page in pages for text in COMMANDS.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("text", shown())
def test_a_shown_command_parses(text: str) -> None:
    verb, *words = shlex.split(text)
    module = importlib.import_module(f"retrieval_draft.cli.{verb}")
    command: click.Command = getattr(module, verb)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(verb, words)
