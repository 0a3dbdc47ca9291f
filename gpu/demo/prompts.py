"""Cut the demo's prompts from the held-out files of this Python's library.

    python -m retrieval_draft.gpu.demo.prompts gpu/demo/prompts.jsonl

One prompt a file, at its middle, up to the line that opens a function; which ones is fixed by the files
alone, before anything was decoded. They ship with the package: the library differs between versions.
"""

import json
from importlib import resources
from pathlib import Path

import click

from retrieval_draft.gpu.demo.stdlib import is_held_out, read_source, source_files

LINES_MIN = 80
PROMPT_LINES = 18
PROMPTS = 24


def prompt_of(text: str) -> str | None:
    """The lines up to the first `def` after the middle, or None for a file without one."""
    lines = text.splitlines(keepends=True)
    if len(lines) < LINES_MIN:
        return None
    for at in range(len(lines) // 2, len(lines)):
        if lines[at].lstrip().startswith("def ") and lines[at].rstrip().endswith(":"):
            return "".join(lines[at + 1 - PROMPT_LINES : at + 1])
    return None


def shipped() -> list[str]:
    """The prompts that come with the package."""
    file = resources.files("retrieval_draft.gpu.demo") / "prompts.jsonl"
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
def main(out: Path) -> None:
    kept = []
    for relative, path in source_files():
        if is_held_out(relative) and (text := read_source(path)) and (prompt := prompt_of(text)):
            kept.append({"file": relative, "text": prompt})
    # Every other one of the sorted files first, so that two halves mix folders alike.
    kept = [*kept[::2], *kept[1::2]][:PROMPTS]
    out.write_text("".join(json.dumps(one) + "\n" for one in kept), encoding="utf-8")
    click.echo(f"{len(kept)} prompts")


if __name__ == "__main__":
    main()
