"""`retrieval-draft replay`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, out, print_table, progress, share

if TYPE_CHECKING:
    from rich.console import Console

    from retrieval_draft.replay.run import Replay, Run
    from retrieval_draft.replay.sequences import RecordedFile
    from retrieval_draft.tree import Int32Array


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--methods", default="mix,suffix", show_default=True, metavar="NAMES", help="Methods, or `all`."
)
@click.option(
    "--nodes", default="8,32,64", show_default=True, metavar="NUMBERS", help="Nodes per step."
)
@click.option("--shape", type=click.Choice(("tree", "chain")), default="tree", show_default=True)
@options.tokenizer
@options.tokens_max
@click.option(
    "--goodput",
    is_flag=True,
    help="Also price the budget: tokens per cost of verification, 7 more passes a method.",
)
@click.option(
    "--replicas", default=1, show_default=True, metavar="N", help="Also: what sharing is worth."
)
@click.option(
    "--delay", default=0, show_default=True, metavar="K", help="Sequences until others' arrive."
)
@click.option(
    "--learned-mb", default=0, metavar="N", help="Memory of the learned tier.  [default: 64]"
)
@click.option(
    "--corpus",
    multiple=True,
    metavar="SOURCE",
    help="Warm this first, as `warm` would: any source that it takes; repeatable.",
)
@click.option(
    "--corpus-field",
    "corpus_fields",
    multiple=True,
    metavar="NAME",
    help="Of the corpus's records: the field to take; repeatable.",
)
@click.option(
    "--dense",
    default="off",
    show_default=True,
    metavar="NAMES",
    help="Also what followed similar contexts, for `mix`: off, tokens, hidden (a recording's).",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="HTML",
    help="Write one self-contained page with plots.",
)
@options.as_json
def replay(
    files: tuple[Path, ...],
    methods: str,
    nodes: str,
    shape: str,
    tokenizer: str | None,
    tokens_max: int,
    goodput: bool,
    replicas: int,
    delay: int,
    learned_mb: int,
    corpus: tuple[str, ...],
    corpus_fields: tuple[str, ...],
    dense: str,
    report: Path | None,
    as_json: bool,
) -> None:
    """Replay recorded outputs: what would drafting have brought, by which method and budget?

    FILE is JSON lines (.jsonl, .jsonl.gz) with prompt and output as text (needs --tokenizer), or as
    prompt_tokens and output_tokens; or a folder of `retrieval-draft record`. Every method and budget
    starts cold and sees what a server would have seen. With --json the document is the last line.

    \b
    Examples:
      retrieval-draft replay --tokenizer models/llama outputs.jsonl.gz
      retrieval-draft replay --methods all --goodput --report replay.html recording/
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.replay.run import Plan
    from retrieval_draft.replay.run import replay as replayed
    from retrieval_draft.step import TreeShape

    for name, value in (("--replicas", replicas), ("--delay", delay + 1)):
        if not 1 <= value <= 1024:
            raise InvalidInput(name, value, "1 to 1024" if name == "--replicas" else "0 to 1023")
    plan = Plan(
        densely(options.methods_of(methods), dense),
        options.numbers_of("--nodes", nodes),
        TreeShape[shape.upper()],
        goodput,
        replicas,
        delay,
        learned_mb << 20,
        corpus_of(corpus, tokenizer, corpus_fields),
    )
    recorded = read_files(files, tokenizer, tokens_max, with_hidden="hidden" in dense)
    with progress() as bar:
        total = plan.passes() * sum(len(file.sequences) for file in recorded)
        task = bar.add_task("replaying", total=total)
        done = replayed(recorded, plan, lambda: bar.advance(task))
    if report is not None:
        from retrieval_draft.replay.report import page

        report.write_text(page(done), encoding="utf-8")
        err().print(f"wrote {report}")
    if as_json:
        click.echo(msgspec.json.encode(done))
    else:
        show(done)


def densely(methods: tuple[str, ...], dense: str) -> tuple[str, ...]:
    """`mix` once for each kind of dense retrieval that is named. Raises InvalidInput."""
    from retrieval_draft.config import DENSE, DENSE_OFF
    from retrieval_draft.errors import InvalidInput

    kinds = tuple(dict.fromkeys(name.strip() for name in dense.split(",")))
    for kind in kinds:
        if kind not in DENSE:
            raise InvalidInput("--dense", kind, f"one of {', '.join(DENSE)}")
    mixed = tuple("mix" if kind == DENSE_OFF else f"mix+{kind}" for kind in kinds)
    return tuple(one for name in methods for one in (mixed if name == "mix" else (name,)))


def corpus_of(
    sources: tuple[str, ...], tokenizer: str | None, fields: tuple[str, ...]
) -> "tuple[Int32Array, ...]":
    """The documents of these sources as tokens; none without a source."""
    if not sources:
        return ()
    from retrieval_draft.cli.warm import formats_of, show_skipped
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.tokenizer import load_tokenizer
    from retrieval_draft.warming.sources import Reading
    from retrieval_draft.warming.tokenising import Tokeniser, batches

    if tokenizer is None:
        raise InvalidInput("--tokenizer", "missing", "the model's, to warm a corpus")
    loaded = load_tokenizer(tokenizer)
    tokeniser = Tokeniser(loaded)
    reading = Reading(sources, formats_of(tokenizer, loaded, fields))
    found = batches(reading.documents())
    documents = tuple(one.ids for batch in found for one in tokeniser.encoded(batch))
    show_skipped(reading)
    return documents


def read_files(
    files: tuple[Path, ...],
    tokenizer: str | None,
    tokens_max: int,
    *,
    with_hidden: bool = False,
) -> "list[RecordedFile]":
    """All that is to be replayed. Raises InvalidInput."""
    from retrieval_draft.replay.sequences import read
    from retrieval_draft.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer) if tokenizer else None
    return [read(path, loaded, tokens_max, with_hidden=with_hidden) for path in files]


def show(done: "Replay") -> None:
    """Everything as tables, the best settings last."""
    console = out()
    for facts in done.files:
        rows = [run for run in done.runs if run.file == facts.file]
        width = max(len(run.method) for run in rows)
        print_table(
            f"{facts.file}: {facts.sequences} sequences, {facts.output_tokens} output tokens"
            f"{', with predictions' if facts.has_rows else ''}, {done.shape}s",
            (
                "method",
                "budget",
                "MAT",
                "nodes",
                "kept",
                "expected/kept",
                "ECE",
                "us",
                "answer p50",
                "p99",
            ),
            [
                (
                    f"{run.method:{width}}",
                    str(run.nodes_max),
                    f"{run.figures.mat:.3f}",
                    f"{run.figures.nodes:.1f}",
                    f"{run.figures.kept:.3f}",
                    f"{run.figures.expected / run.figures.kept:.2f}" if run.figures.kept else "-",
                    f"{run.figures.ece:.3f}",
                    f"{run.figures.us_mean:.0f}",
                    f"{run.figures.answer_us_p50:.0f}",
                    f"{run.figures.answer_us_p99:.0f}",
                )
                for run in rows
            ],
            console,
        )
        show_dense([run for run in rows if run.dense is not None], console)
        show_origins([run for run in rows if run.nodes_max == rows[-1].nodes_max], console)
    show_goodput(done, console)
    if done.sharing:
        print_table(
            "\nSharing the learned tier (MAT)",
            ("file", "method", "budget", "replicas", "delay", "shared", "private", "gain"),
            [
                (
                    one.file,
                    one.method,
                    str(one.nodes_max),
                    str(one.replicas),
                    str(one.delay),
                    f"{one.shared_mat:.3f}",
                    f"{one.private_mat:.3f}",
                    f"{one.shared_mat / one.private_mat - 1:+.1%}",
                )
                for one in done.sharing
            ],
            console,
            2,
        )
    print_table(
        "\nBest settings",
        ("file", "for", "settings", "MAT or goodput"),
        [
            (
                one.file,
                f"{one.nodes_max} nodes" if one.price is None else f"g = {one.price:g}",
                one.settings,
                f"{one.mat or one.goodput or 0:.3f}",
            )
            for one in done.best
        ],
        console,
        3,
    )


def show_dense(rows: "list[Run]", console: "Console") -> None:
    """What dense retrieval took beside the steps."""
    if not rows:
        return
    print_table(
        "",
        ("method", "budget", "contexts", "MB", "CPU us", "building us"),
        [
            (
                run.method,
                str(run.nodes_max),
                str(run.dense.contexts),
                f"{run.dense.nbytes / 1e6:.1f}",
                f"{run.dense.us:.0f}",
                f"{run.dense.build_us:.0f}",
            )
            for run in rows
            if run.dense is not None
        ],
        console,
    )


def show_origins(rows: "list[Run]", console: "Console") -> None:
    """What was accepted of the nodes of every tier and source, at one budget."""
    print_table(
        "",
        ("method", "tier or source", "drafted", "accepted", "acceptance rate"),
        [
            (
                run.method,
                f"{one.name}{kind}",
                str(one.drafted),
                str(one.accepted),
                share(one.accepted, one.drafted),
            )
            for run in rows
            for kind, shares in ((" tier", run.figures.by_tier), ("", run.figures.by_source))
            for one in shares
        ],
        console,
        2,
    )


def show_goodput(done: "Replay", console: "Console") -> None:
    """The price rule against the best fixed budget."""
    if not done.goodput:
        return
    print_table(
        "\nGoodput: tokens per cost, a step costs 1 + g x nodes, plain decoding is 1",
        ("file", "method", "g", "priced", "nodes", "best fixed", "its goodput", "ratio"),
        [
            (
                one.file,
                one.method,
                f"{one.price:g}",
                f"{one.goodput:.3f}",
                f"{one.nodes:.1f}",
                str(one.best_fixed),
                f"{one.fixed[one.best_fixed]:.3f}",
                f"{one.ratio:.3f}",
            )
            for one in done.goodput
        ],
        console,
        2,
    )
