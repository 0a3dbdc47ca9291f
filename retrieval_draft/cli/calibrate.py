"""`retrieval-draft calibrate`."""

from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import print_json, progress, size
from retrieval_draft.cli.replay import read_files


@click.command()
@options.recordings
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The prior, an .npz.",
)
@click.option(
    "--nodes",
    default="8,32,64",
    show_default=True,
    metavar="NUMBERS",
    help="Budgets, taken in turn.",
)
@click.option(
    "--shape",
    type=click.Choice(("tree", "chain", "both")),
    default="both",
    show_default=True,
    help="What is drafted, in turn.",
)
@options.tokenizer
@options.tokens_max
@options.as_json
def calibrate(
    files: tuple[Path, ...],
    out: Path,
    nodes: str,
    shape: str,
    tokenizer: str | None,
    tokens_max: int,
    as_json: bool,
) -> None:
    """Replay RECORDINGs with mix, and save what it learned about its sources as a prior.

    RECORDING is what `replay` takes. No token is in a prior: it says how good which evidence has been.

    \b
    Example:
      retrieval-draft calibrate recording/ --out prior.npz
    """
    from retrieval_draft.replay.calibrate import calibrate as calibrated
    from retrieval_draft.step import TreeShape

    both = (TreeShape.TREE, TreeShape.CHAIN)

    shapes = both if shape == "both" else (TreeShape[shape.upper()],)
    budgets = options.numbers_of("--nodes", nodes)
    recorded = read_files(files, tokenizer, tokens_max)
    with progress() as bar:
        task = bar.add_task("calibrating", total=sum(len(file.sequences) for file in recorded))
        prior = calibrated(recorded, budgets, shapes, lambda: bar.advance(task))
    prior.write(out)
    figures, nbytes = prior.figures, out.stat().st_size
    if as_json:
        arrays = {name: list(array.shape) for name, array in prior.arrays.items()}
        print_json(
            {
                "out": str(out),
                "bytes": nbytes,
                "arrays": arrays,
                "tokens": figures.tokens,
                "mat": figures.mat,
                "expected": figures.expected,
                "kept": figures.kept,
                "ece": figures.ece,
            }
        )
        return
    click.echo(
        f"{figures.tokens} tokens, MAT {figures.mat:.3f}, expected {figures.expected:.3f} and kept "
        f"{figures.kept:.3f} nodes a step, ECE {figures.ece:.4f}; {len(prior.arrays)} arrays in {out} "
        f"({size(nbytes)})"
    )
