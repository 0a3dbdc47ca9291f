"""`retrieval-draft bench stall`."""

import click
import msgspec

from retrieval_draft.cli.output import out, print_table, progress
from retrieval_draft.errors import InvalidInput


@click.command()
@click.option("--pairs", default=5, show_default=True, help="Pairs of windows, of each fault.")
@click.option("--steps", default=1000, show_default=True, help="Steps of each window.")
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without tables.")
def stall(pairs: int, steps: int, as_json: bool) -> None:
    """Draft while Redis is well, and while it is paused or slow: what that costs a step.

    In-process, on an embedded Redis of its own; windows alternate, and the figures are medians over
    the pairs. The last line is one JSON document.
    """
    from retrieval_draft.replay.stall import stalls

    for name, value in (("--pairs", pairs), ("--steps", steps)):
        if value < 1:
            raise InvalidInput(name, value, "1 or more")
    with progress() as bar:
        task = bar.add_task("drafting", total=3 * pairs)
        done = stalls(pairs, steps, lambda: bar.advance(task))
    if not as_json:
        print_table(
            f"A step while Redis is ill, over {pairs} pairs of windows of {steps} steps",
            (
                *("Redis", "p50 well", "p50 ill", "ratio", "p99 well", "p99 ill", "ratio"),
                *("within", "errors"),
            ),
            [
                (
                    one.fault,
                    f"{one.well.us_p50:.0f} us",
                    f"{one.ill.us_p50:.0f} us",
                    f"{one.p50_ratio:.2f}",
                    f"{one.well.us_p99:.0f} us",
                    f"{one.ill.us_p99:.0f} us",
                    f"{one.p99_ratio:.2f}",
                    "yes" if one.within else "NO",
                    str(one.errors),
                )
                for one in done
            ],
            out(),
        )
    click.echo(msgspec.json.encode(done))
