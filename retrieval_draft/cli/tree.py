"""`retrieval-draft tree`: static draft trees."""

from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import print_json, progress
from retrieval_draft.cli.replay import read_files


@click.group()
def tree() -> None:
    """Make a static draft tree from recordings."""


@tree.command()
@options.recordings
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The tree, as JSON.",
)
@click.option("--nodes", default=80, show_default=True, help="Nodes that are kept.")
@click.option("--wide-nodes", default=625, show_default=True, help="Nodes of the wide tree.")
@click.option("--depth", default=20, show_default=True, help="Levels of the wide tree.")
@options.tokenizer
@options.tokens_max
@options.as_json
def optimise(
    files: tuple[Path, ...],
    out: Path,
    nodes: int,
    wide_nodes: int,
    depth: int,
    tokenizer: str | None,
    tokens_max: int,
    as_json: bool,
) -> None:
    """Replay RECORDINGs with `stand` and a wide tree, and keep the nodes that were accepted most often.

    Recordings with predictions (of `retrieval-draft record`) serve best: `stand` drafts from what the
    target predicted.

    \b
    Example:
      retrieval-draft tree optimise recording/ --out tree.json
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.replay.optimise import optimise as optimised

    most = options.NODES_HARD_MAX
    if not 1 <= nodes <= wide_nodes <= most:
        limit = f"1 to --wide-nodes, which is up to {most}"
        raise InvalidInput("--nodes", f"{nodes} of {wide_nodes}", limit)
    if not 1 <= depth <= 64:
        raise InvalidInput("--depth", depth, "1 to 64")
    recorded = read_files(files, tokenizer, tokens_max)
    with progress() as bar:
        total = 3 * sum(len(file.sequences) for file in recorded)
        task = bar.add_task("optimising", total=total)
        done = optimised(recorded, nodes, wide_nodes, depth, lambda: bar.advance(task))
    done.template.write(out)
    kept, deepest = len(done.template), max(done.template.depths)
    if as_json:
        print_json(
            {
                "out": str(out),
                "nodes": kept,
                "depth": deepest,
                "mat": done.mat,
                "wide_mat": done.wide_mat,
                "shipped_mat": done.shipped_mat,
                "accepted": done.accepted,
            }
        )
        return
    click.echo(
        f"kept {kept} nodes down to depth {deepest} in {out}; MAT on these recordings: "
        f"{done.mat:.3f}, of the {wide_nodes} nodes {done.wide_mat:.3f}, "
        f"of the tree that ships {done.shipped_mat:.3f}"
    )
