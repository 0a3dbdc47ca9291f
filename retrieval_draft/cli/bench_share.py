"""`retrieval-draft bench share`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, out, print_table, progress, size
from retrieval_draft.cli.replay import read_files

if TYPE_CHECKING:
    from rich.console import Console

    from retrieval_draft.replay.redis_cost import RedisCost
    from retrieval_draft.replay.share import Share


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@options.method
@click.option(
    "--replicas", default="1,2,4,8", show_default=True, metavar="NUMBERS", help="How many."
)
@click.option(
    "--nodes-max", default=32, show_default=True, metavar="N", help="Nodes per tree at most."
)
@click.option(
    "--delay",
    type=int,
    metavar="K",
    help="Sequences that end before a replica's records reach the others.  [default: replicas - 1]",
)
@options.tokenizer
@options.tokens_max
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without tables.")
def share(
    files: tuple[Path, ...],
    method: str,
    replicas: str,
    nodes_max: int,
    delay: int | None,
    tokenizer: str | None,
    tokens_max: int,
    as_json: bool,
) -> None:
    """What sharing the learned tier is worth, and what it costs a real Redis.

    FILE as for `replay`. Its sequences go to the replicas in turn; each learns its own outputs, and those
    of the others where the store is shared. All start cold. Then a restart in the middle of the file, and
    the first file once more on a real Redis, whose own figures are printed. The last line is one JSON
    document.

    \b
    Example:
      retrieval-draft bench share --tokenizer models/llama --tokens-max 40000 outputs.jsonl.gz
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.replay.drafter import Setting
    from retrieval_draft.replay.share import passes
    from retrieval_draft.replay.share import share as measured
    from retrieval_draft.step import DraftOptions

    counts = options.numbers_of("--replicas", replicas)
    if not 1 <= nodes_max <= options.NODES_HARD_MAX:
        raise InvalidInput("--nodes-max", nodes_max, f"1 to {options.NODES_HARD_MAX}")
    if delay is not None and delay < 0:
        raise InvalidInput("--delay", delay, "0 or more")
    recorded = read_files(files, tokenizer, tokens_max)
    for file in recorded:
        if len(file.sequences) < 2:
            raise InvalidInput("FILE", file.name, "at least two sequences")
    setting = Setting(DraftOptions(method=method, nodes_max=nodes_max))
    with progress() as bar:
        task = bar.add_task("replaying", total=passes(recorded, counts))
        done = measured(recorded, setting, counts, delay, lambda: bar.advance(task))
    if done.cost is None:
        err().print(f"no Redis to measure on: {done.cost_missing}")
    if not as_json:
        show(done)
    click.echo(msgspec.json.encode(done))


def show(done: "Share") -> None:
    """Everything as tables."""
    console = out()
    print_table(
        f"MAT of {done.method}, {done.nodes_max} nodes, by the number of replicas",
        ("file", "replicas", "delay", "shared", "private", "ratio"),
        [
            (
                one.file,
                str(one.replicas),
                str(one.delay),
                f"{one.shared_mat:.3f}",
                f"{one.private_mat:.3f}",
                f"{one.shared_mat / one.private_mat:.3f}",
            )
            for one in done.curve
        ],
        console,
    )
    print_table(
        "\nAll files",
        ("replicas", "files", "shared / private, geomean", "smallest"),
        [
            (str(one.replicas), str(one.files), f"{one.ratio:.3f}", f"{one.ratio_min:.3f}")
            for one in done.gains
        ],
        console,
        0,
    )
    print_table(
        "\nA restart in the middle: MAT of the second half",
        ("file", "sequences", "cold", "restarted", "ratio", "never stopped"),
        [
            (
                one.file,
                str(one.sequences),
                f"{one.cold_mat:.3f}",
                f"{one.restarted_mat:.3f}",
                f"{one.restarted_mat / one.cold_mat:.3f}",
                f"{one.kept_mat:.3f}",
            )
            for one in done.restarts
        ],
        console,
    )
    if done.cost is not None:
        show_cost(done.cost, console)


def show_cost(cost: "RedisCost", console: "Console") -> None:
    """What Redis itself says."""
    commands = ", ".join(f"{name} {calls:.4f}" for name, calls in cost.commands.items())
    kinds = ", ".join(f"{kind} {size(nbytes)}" for kind, nbytes in cost.stored_bytes.items())
    console.print(
        f"\n[bold]Redis {cost.server}[/], {cost.replicas} replicas, {cost.tokens} tokens learned by each "
        f"({cost.file})"
    )
    rows = [
        ("journal, MEMORY USAGE", f"{cost.journal_bytes:.1f} bytes"),
        ("append-only file", f"{cost.file_bytes:.1f} bytes"),
        ("received from all replicas", f"{cost.received_bytes:.1f} bytes"),
        ("sent to all replicas", f"{cost.sent_bytes:.1f} bytes"),
        ("commands", f"{sum(cost.commands.values()):.4f}"),
    ]
    print_table("", ("per learned token", ""), rows, console)
    console.print(f"commands per learned token: {commands}")
    console.print(f"keys: {kinds}; {cost.journal_entries} journal entries")
    console.print(f"a replica where nothing happens: {cost.idle_commands:.1f} commands a second")
    same = "equal" if cost.digests_equal else "DIFFERENT"
    console.print(
        f"a replica started on it: {cost.restart_tokens} tokens in {cost.restart_seconds:.2f} s, "
        f"digests {same}"
    )
