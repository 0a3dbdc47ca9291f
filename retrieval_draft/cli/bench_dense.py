"""`retrieval-draft bench dense`."""

import click
import msgspec

from retrieval_draft.cli.output import out, print_table, progress


@click.command()
@click.option("--contexts", default=200_000, show_default=True, help="Contexts in the index.")
@click.option(
    "--kinds", default="flat,ivf,hnsw", show_default=True, metavar="NAMES", help="Of index."
)
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without a table.")
def dense(contexts: int, kinds: str, as_json: bool) -> None:
    """Indexes of dense retrieval over a generated text: time and memory against an exact one.

    One thread. A draft waits for none of it: this is the price of what runs beside the steps.

    \b
    Examples:
      retrieval-draft bench dense
      retrieval-draft bench dense --contexts 1000000 --kinds ivf
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.replay.dense_bench import bench
    from retrieval_draft.store.dense import KINDS

    chosen = tuple(dict.fromkeys(name.strip() for name in kinds.split(",")))
    for kind in chosen:
        if kind not in KINDS:
            raise InvalidInput("--kinds", kind, f"one of {', '.join(KINDS)}")
    if not 1000 <= contexts <= 10_000_000:
        raise InvalidInput("--contexts", contexts, "1000 to 10000000")
    with progress() as bar:
        task = bar.add_task("measuring", total=len(chosen))
        rows = bench(contexts, chosen, lambda: bar.advance(task))
    if not as_json:
        print_table(
            f"{contexts} contexts, 16 neighbours",
            ("index", "build s", "bytes a context", "query p50 us", "p99", "recall"),
            [
                (
                    row.kind,
                    f"{row.build_seconds:.1f}",
                    f"{row.index_bytes_per_context:.0f}",
                    f"{row.query_us_p50:.0f}",
                    f"{row.query_us_p99:.0f}",
                    f"{row.recall:.3f}",
                )
                for row in rows
            ],
            out(),
        )
    click.echo(msgspec.json.encode(rows))
