"""`retrieval-draft bench catchup`."""

import sys
from dataclasses import asdict

import click
import msgspec

from retrieval_draft.cli.output import out, progress, size


@click.command()
@click.option("--tokens", default=1_000_000, show_default=True, help="In the snapshot.")
@click.option("--tail", default=100_000, show_default=True, help="In the journal behind it.")
@click.option("--rows", is_flag=True, help="With the target's ten likeliest tokens after each.")
@click.option("--vocab-size", default=151_936, show_default=True, help="Token ids.")
@click.option("--learned-mib", default=64, show_default=True, help="Of the learned tier.")
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone.")
def catchup(
    tokens: int, tail: int, rows: bool, vocab_size: int, learned_mib: int, as_json: bool
) -> None:
    """A start from a snapshot and the journal behind it, against a start from the whole journal.

    On a private Redis in a temporary folder, with generated outputs. Both starts must end with equal
    digests. The last line is one JSON document.

    \b
    Examples:
      retrieval-draft bench catchup --tokens 10000000 --tail 1000000
    """
    from retrieval_draft.replay.catchup import Work, measure

    work = Work(tokens, tail, vocab_size, learned_mib << 20, rows)
    with progress() as bar:
        task = bar.add_task("measuring", total=None)
        done = measure(work, lambda what: bar.update(task, description=what))
        bar.update(task, total=1, completed=1)
    if not as_json:
        out().print(
            f"{done.saved_tokens} tokens in a snapshot of {size(done.snapshot_bytes)}, "
            f"{done.tail_tokens} behind it in the journal "
            f"({done.journal_bytes_per_token:.1f} bytes a token)\n"
            f"saved in {done.save_seconds:.2f} s, while applying waited for "
            f"{done.applying_paused_seconds * 1000:.0f} ms\n"
            f"start from the snapshot  {done.snapshot_start_seconds:6.2f} s "
            f"({done.snapshot_start_cpu_seconds:.2f} s of processor), its tail at "
            f"{done.tail_tokens_per_second:,.0f} tokens/s ({done.tail_tokens_per_cpu_second:,.0f})\n"
            f"from the whole journal   {done.whole_start_seconds:6.2f} s "
            f"({done.whole_start_cpu_seconds:.2f}), {done.whole_tokens_per_second:,.0f} tokens/s "
            f"({done.whole_tokens_per_cpu_second:,.0f}): {done.speedup:.1f} times as long\n"
            f"digests {'equal' if done.equal_digests else 'DIFFER'}"
        )
    click.echo(msgspec.json.encode({**asdict(work), **msgspec.to_builtins(done)}))
    if not done.equal_digests:
        sys.exit(1)
