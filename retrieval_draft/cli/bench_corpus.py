"""`retrieval-draft bench corpus`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from retrieval_draft.cli.output import out, print_table, progress, size

if TYPE_CHECKING:
    from retrieval_draft.replay.corpus_bench import CorpusBench

TOKENS_MIN = 10_000


@click.command()
@click.option("--tokens", default=5_000_000, show_default=True, metavar="N", help="To generate.")
@click.option(
    "--vocab-size", default=151_936, show_default=True, metavar="N", help="Of the vocabulary."
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="For some 20 bytes a token, removed at the end.  [default: a temporary folder]",
)
@click.option("--no-sidecar", is_flag=True, help="Leave the starts of `serve` out.")
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without tables.")
def corpus(
    tokens: int, vocab_size: int, folder: Path | None, no_sidecar: bool, as_json: bool
) -> None:
    """Build a corpus of generated text, and draft with and without it.

    The text repeats itself as natural text does (Zipf-distributed phrases). Measured: building, disk,
    start and memory of a sidecar that holds it; a step of the engine with and without it, in turns over
    the same new text; `rest` beside a plain binary search per order. The last line is one JSON document.

    \b
    Examples:
      retrieval-draft bench corpus
      retrieval-draft bench corpus --tokens 100000000
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.replay.corpus_bench import bench
    from retrieval_draft.store.segment import SEGMENT_TOKENS_HARD_MAX

    if not TOKENS_MIN <= tokens <= SEGMENT_TOKENS_HARD_MAX // 2:
        limit = f"{TOKENS_MIN} to {SEGMENT_TOKENS_HARD_MAX // 2}"
        raise InvalidInput("--tokens", tokens, limit)
    if not 256 <= vocab_size <= 1 << 20:
        raise InvalidInput("--vocab-size", vocab_size, f"256 to {1 << 20}")
    with (
        tempfile.TemporaryDirectory(prefix="retrieval-draft-", dir=folder) as place,
        progress() as bar,
    ):
        task = bar.add_task("measuring", total=4)
        done = bench(tokens, vocab_size, Path(place), not no_sidecar, lambda: bar.advance(task))
    if not as_json:
        show(done)
    click.echo(msgspec.json.encode(done))


def show(done: "CorpusBench") -> None:
    """The figures as tables."""
    console = out()
    built, drafts, queries = done.built, done.drafts, done.queries
    rows = [
        ("tokens, and distinct ones", f"{built.tokens:,} and {built.distinct_tokens:,}"),
        (
            "built at: CPU, and wall time",
            f"{built.tokens_per_cpu_second / 1e6:.1f} and "
            f"{built.tokens_per_second / 1e6:.1f} M tokens/s",
        ),
        ("peak memory, tokens included", f"{built.peak_bytes_per_token:.1f} bytes/token"),
        ("on disk", f"{built.disk_bytes_per_token:.2f} bytes/token"),
        ("opened in", f"{built.open_ms:.2f} ms"),
    ]
    if (start := done.start) is not None:
        rows += [
            (
                "sidecar ready, with and without",
                f"{start.seconds:.2f} and {start.seconds_without:.2f} s",
            ),
            (
                "resident then, with and without",
                f"{size(start.rss_bytes)} and {size(start.rss_bytes_without)}",
            ),
        ]
    rows += [
        (
            f"step, {drafts.nodes_max} nodes, p50: with, without",
            f"{drafts.us_p50:.0f} and {drafts.without_us_p50:.0f} us: {drafts.p50_ratio:.2f}",
        ),
        ("the same, p99", f"{drafts.us_p99:.0f} and {drafts.without_us_p99:.0f} us"),
        (
            "CPU time of it, p50: with, without",
            f"{drafts.cpu_us_p50:.0f} and {drafts.without_cpu_us_p50:.0f} us",
        ),
        (
            "CPU time of it, p99: with, without",
            f"{drafts.cpu_us_p99:.0f} and {drafts.without_cpu_us_p99:.0f} us",
        ),
        ("of it the look into the corpus, p50", f"{drafts.search_us_p50:.0f} us"),
        (
            "rest: search, plain numpy's",
            f"{queries.search_us_mean:.1f} and {queries.numpy_search_us_mean:.0f} us: "
            f"{queries.search_ratio:.3f}",
        ),
        ("rest: whole draft of 64 nodes", f"{queries.rest_us_mean:.0f} us"),
        (
            "rest: same matches as plain search",
            f"{queries.same_occurrences} of {queries.queries}, {queries.found} found",
        ),
    ]
    print_table("A corpus of generated text", ("figure", "value"), rows, console)
