"""`retrieval-draft bench`: what can be measured on this machine."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from retrieval_draft.cli import (
    bench_catchup,
    bench_corpus,
    bench_dense,
    bench_fusion,
    bench_share,
    bench_stall,
    bench_verify,
    bench_vllm,
    bench_worker,
    options,
)
from retrieval_draft.cli.output import err, out, print_table, progress, size
from retrieval_draft.cli.replay import read_files
from retrieval_draft.cli.worker import open_model

if TYPE_CHECKING:
    from retrieval_draft.replay.bench import Bench, Row

DEMO_SAMPLES, DEMO_TOKENS = 2, 100
"""Of every demo prompt, where no file is given."""


@click.group()
def bench() -> None:
    """Measure on this machine, beside whatever peers are installed."""


@bench.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE...]")
@options.method
@click.option(
    "--nodes", default="8,32,64", show_default=True, metavar="NUMBERS", help="Nodes per step."
)
@click.option("--shape", type=click.Choice(("tree", "chain")), default="tree", show_default=True)
@options.tokenizer
@options.tokens_max
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without tables.")
def draft(
    files: tuple[Path, ...],
    method: str,
    nodes: str,
    shape: str,
    tokenizer: str | None,
    tokens_max: int,
    as_json: bool,
) -> None:
    """Draft against the peers: tokens per step, time and memory, as ratios of the same run.

    FILE as for `replay`; left out, the demo model is recorded first (a few thousand tokens). Peers:
    ArcticInference's SuffixDecoding in the best of three settings a file, if it is installed, and prompt
    lookup. One process, one thread, cold start. The last line is one JSON document.

    \b
    Examples:
      retrieval-draft bench draft
      retrieval-draft bench draft --tokenizer models/llama --tokens-max 40000 outputs.jsonl.gz
    """
    from retrieval_draft.replay.bench import bench as compared
    from retrieval_draft.step import DraftOptions, TreeShape

    budgets = options.numbers_of("--nodes", nodes)
    with ExitStack() as stack:
        if not files:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="retrieval-draft-"))
            files = (Path(folder) / "demo",)
            record_demo(files[0])
        recorded = read_files(files, tokenizer, tokens_max)
    asked = DraftOptions(method=method, shape=TreeShape[shape.upper()])
    with progress() as bar:
        task = bar.add_task("measuring", total=len(recorded) * len(budgets) + 1)
        done = compared(recorded, asked, budgets, lambda: bar.advance(task))
    if not done.has_suffix:
        err().print("ArcticInference is not installed: no peer SuffixDecoding, no ratios")
    if not as_json:
        show(done)
    click.echo(msgspec.json.encode(done))


def record_demo(folder: Path) -> None:
    """A small recording of the bundled model: where no outputs are at hand."""
    from retrieval_draft.cli.record import read_prompts, recorded
    from retrieval_draft.gpu.sampling import SamplingOptions
    from retrieval_draft.tokenizer import load_tokenizer

    with progress() as bar:
        task = bar.add_task("recording the demo model", total=None)
        loaded = load_tokenizer("demo")
        target = open_model(None, True, "float32", "cpu", 1)
        prompts = read_prompts(None, loaded)
        recorded(target, loaded, prompts, folder, SamplingOptions(0.8), DEMO_SAMPLES, DEMO_TOKENS)
        bar.update(task, total=1, completed=1)


def show(done: "Bench") -> None:
    """The comparison as tables."""
    console = out()
    rows = sorted(done.rows, key=lambda row: row.file)
    print_table(
        f"{done.method} in {done.shape}s against SuffixDecoding and prompt lookup: MAT",
        (
            *("file", "budget", "ours", "suffix", "lookup", "ratio", "expected/kept"),
            *("us", "engine us", "suffix us"),
        ),
        map(cells, rows),
        console,
    )
    if done.summary:
        print_table(
            "\nAll files",
            (
                *("budget", "files", "ratio, geomean", "smallest"),
                *("us ratio", "engine's", "worst expected/kept"),
            ),
            [
                (
                    str(one.nodes_max),
                    str(one.files),
                    f"{one.mat_ratio:.3f}",
                    f"{one.mat_ratio_min:.3f}",
                    f"{one.direct_us_ratio:.2f}" if one.direct_us_ratio else "-",
                    f"{one.us_ratio:.2f}",
                    f"{one.expected_gap_max:.1%} off",
                )
                for one in done.summary
            ],
            console,
        )
    if done.long is not None:
        long = done.long
        peer = ""
        if long.suffix_us_p50 is not None:
            peer = f"; SuffixDecoding {long.suffix_us_p50:.0f} and {long.suffix_us_p99:.0f} us"
        console.print(
            f"\n{long.nodes_max} nodes, context of {long.context_tokens} tokens"
            f"{' (repeated)' if long.is_repeated else ''}: draft and learn p50 "
            f"{long.us_p50:.0f} us, p99 {long.us_p99:.0f} us, until the answer {long.answer_us_p50:.0f} "
            f"and {long.answer_us_p99:.0f} us{peer}. Its sequence holds {size(long.sequence_bytes)}."
        )
    if done.memory is not None:
        memory = done.memory
        console.print(
            f"The learned tier holds {memory.learned_tokens} tokens in {size(memory.learned_bytes)} "
            f"so far; their journal took {memory.journal_bytes_per_token:.1f} bytes a token."
        )


def cells(row: "Row") -> tuple[str, ...]:
    """A row of the table."""
    suffix = row.suffix
    return (
        row.file,
        str(row.nodes_max),
        f"{row.ours.mat:.3f}",
        f"{suffix.mat:.3f}" if suffix else "-",
        f"{row.lookup.mat:.3f}",
        f"{row.mat_ratio:.3f}" if row.mat_ratio else "-",
        f"{row.expected_over_kept:.2f}" if row.expected_over_kept else "-",
        f"{row.direct.us_mean:.0f}" if row.direct else "-",
        f"{row.ours.us_mean:.0f}",
        f"{suffix.us_mean:.0f}" if suffix else "-",
    )


bench.add_command(bench_catchup.catchup)
bench.add_command(bench_corpus.corpus)
bench.add_command(bench_share.share)
bench.add_command(bench_stall.stall)
bench.add_command(bench_fusion.fusion)
bench.add_command(bench_verify.verify)
bench.add_command(bench_worker.worker)
bench.add_command(bench_dense.dense)
bench.add_command(bench_vllm.vllm)
