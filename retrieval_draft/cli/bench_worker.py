"""`retrieval-draft bench worker`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from retrieval_draft.cli import options
from retrieval_draft.cli.output import out, print_table, progress

if TYPE_CHECKING:
    from retrieval_draft.gpu.bench.arms import Task
    from retrieval_draft.gpu.bench.overhead import Overhead
    from retrieval_draft.gpu.bench.run import Row
    from retrieval_draft.gpu.target import TargetModel

CONTEXT_TOKENS = 1024
RANDOM = "random"


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE...]")
@click.option("--model", metavar="PATH_OR_ID", help="Real weights: a folder, or a hub id.")
@click.option("--demo", is_flag=True, help="Real weights: the bundled demo model.")
@click.option(
    "--shape",
    default="qwen3-0.6b",
    show_default=True,
    metavar="NAME",
    help="Without real weights: qwen3-0.6b, llama-3.1-8b, smoke, wide-vocabulary.",
)
@click.option("--arms", default="plain,lookup,mix", show_default=True, metavar="NAMES")
@click.option(
    "--draft-model",
    default="demo",
    show_default=True,
    metavar="MODEL",
    help="Of the arms draft-model, fused-rasd and fused-mix, as `worker` takes it.",
)
@click.option("--batch", default="1", show_default=True, metavar="NUMBERS", help="Batch sizes.")
@click.option("--rounds", default=6, show_default=True, help="Batches decoded in every arm.")
@click.option("--output-max", default=96, show_default=True, help="Tokens decoded of an output.")
@click.option(
    "--context-max", default=CONTEXT_TOKENS, show_default=True, help="Of a prompt: its tail."
)
@click.option("--warm-tokens", default=0, show_default=True, help="Learned before the warm phase.")
@click.option("--random", "has_random", is_flag=True, help="Random text too, which nobody guesses.")
@click.option(
    "--generate", "has_generate", is_flag=True, help="transformers' generate beside plain."
)
@click.option(
    "--overhead",
    "has_overhead",
    is_flag=True,
    help="Only: what a step costs outside draft and forward, 64 nodes, a vocabulary of 152k.",
)
@click.option("--nodes-max", default=16, show_default=True, help="Nodes per tree at most.")
@options.method
@options.tokenizer
@click.option("--dtype", default="bfloat16", show_default=True, metavar="TYPE")
@click.option("--device", default="cpu", show_default=True, metavar="NAME")
@click.option("--graphs/--no-graphs", default=True, show_default=True, help="On CUDA, as `worker`.")
@click.option("--compile", "is_compiled", is_flag=True, help="On CUDA, as `worker`.")
@click.option("--threads", default=1, show_default=True, help="Torch's threads.")
@click.option(
    "--pin", is_flag=True, help="Keep to as many cores as there are threads, the sidecar too."
)
@click.option("--step-ms-max", default=20.0, show_default=True, help="Wait for drafts this long.")
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without tables.")
def worker(
    files: tuple[Path, ...],
    model: str | None,
    demo: bool,
    shape: str,
    arms: str,
    draft_model: str,
    batch: str,
    rounds: int,
    output_max: int,
    context_max: int,
    warm_tokens: int,
    has_random: bool,
    has_generate: bool,
    has_overhead: bool,
    nodes_max: int,
    method: str,
    tokenizer: str | None,
    dtype: str,
    device: str,
    graphs: bool,
    is_compiled: bool,
    threads: int,
    pin: bool,
    step_ms_max: float,
    as_json: bool,
) -> None:
    """Decoding with drafts against plain decoding and prompt lookup, by the worker's own steps.

    With real weights (--model, --demo) prompts are decoded greedily, FILE's or the demo's, and outputs
    compared. Otherwise FILE, as for `replay`, is decoded trace-forced: noise in a real architecture does
    the work, the recorded outputs decide what is kept. The plain arm has no sidecar; `mix` has one of its
    own process, `mix-in-process` none; a store is empty when an arm begins. Last line: one JSON document.

    \b
    Examples:
      retrieval-draft bench worker --demo
      retrieval-draft bench worker --demo --arms plain,mix-in-process,draft-model,fused-rasd
      retrieval-draft bench worker --tokenizer models/qwen --warm-tokens 20000 outputs.jsonl.gz
      retrieval-draft bench worker --shape smoke --random
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.bench.generate import generate_ratio
    from retrieval_draft.gpu.bench.overhead import step_overhead
    from retrieval_draft.gpu.bench.pinning import pin_threads
    from retrieval_draft.gpu.bench.run import Plan, measured, random_tasks

    names = arms_of(arms, has_weights=model is not None or demo)
    sizes = options.numbers_of("--batch", batch)
    for option, value in (("--rounds", rounds), ("--output-max", output_max)):
        if value < 1:
            raise InvalidInput(option, value, "1 or more")
    is_forced = model is None and not demo
    if pin:
        pin_threads(threads)
    if has_overhead:
        show_overhead(step_overhead(dtype, threads, device), as_json)
        return
    target = open_target(model, demo, shape, dtype, device, threads)
    if is_forced:
        chosen = forced_tasks(files, tokenizer, target.vocab_size, context_max, output_max)
    else:
        chosen = [("prompts", prompts_of(files, target, tokenizer, context_max, output_max))]
    if has_random:
        count = rounds * max(sizes) + 1 + warm_tokens // output_max
        chosen.append((RANDOM, random_tasks(target.vocab_size, count, output_max)))
    if not chosen and not has_generate:
        raise InvalidInput("FILE", "missing", "recorded outputs, --random, --model or --demo")
    plan = Plan(
        names,
        sizes,
        rounds,
        nodes_max,
        warm_tokens,
        method,
        step_ms_max,
        is_forced=is_forced,
        draft_model=draft_model,
        has_graphs=graphs,
        is_compiled=is_compiled,
    )
    with progress() as bar:
        phases = 1 + bool(warm_tokens)
        task = bar.add_task("decoding", total=len(chosen) * len(sizes) * phases * rounds)
        rows = measured(target, chosen, plan, lambda: bar.advance(task)) if chosen else []
    generated = None
    if has_generate:
        generated = generate_ratio(
            target, output_max, rounds, has_graphs=graphs, is_compiled=is_compiled
        )
    kind = "trace-forced" if is_forced else "real weights"
    title = f"{kind}: {target.name}, {dtype}, {device}, {threads} threads, {rounds} rounds"
    if not as_json:
        show(title, rows)
        show_generated(generated)
    document = {"measured": title, "kind": kind, "rows": rows, "generate": generated}
    click.echo(msgspec.json.encode(document))


def arms_of(text: str, *, has_weights: bool) -> tuple[str, ...]:
    """Comma-separated names of arms. Raises InvalidInput."""
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.bench.arms import ARMS, NEED_MODEL

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ARMS:
            raise InvalidInput("--arms", name, f"some of {', '.join(ARMS)}")
        if name in NEED_MODEL and not has_weights:
            reason = "a draft model has nothing to say of noise: it needs --model or --demo"
            raise InvalidInput("--arms", name, "arms without a draft model", reason)
    return names


def open_target(
    model: str | None, demo: bool, shape: str, dtype: str, device: str, threads: int
) -> "TargetModel":
    """Real weights if any are named, else noise in a shape."""
    if model is not None or demo:
        from retrieval_draft.cli.worker import open_model

        return open_model(model, demo, dtype, device, threads)
    from retrieval_draft.gpu.bench.shapes import noise_model

    return noise_model(shape, dtype=dtype, device=device, threads=threads)


def forced_tasks(
    files: Sequence[Path], tokenizer: str | None, vocab_size: int, context_max: int, output_max: int
) -> "list[tuple[str, list[Task]]]":
    """Of every file its recorded sequences. Raises InvalidInput where ids are beyond the vocabulary."""
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.bench.arms import Task
    from retrieval_draft.replay.sequences import read
    from retrieval_draft.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer) if tokenizer else None
    found = []
    for path in files:
        file = read(path, loaded, 0, context_max)
        largest = max(int(max(s.prompt.max(), s.output.max())) for s in file.sequences)
        if largest >= vocab_size:
            raise InvalidInput(path.name, largest, f"token ids below {vocab_size}, the shape's")
        tasks = [
            Task(f"{file.name}-{i}", s.prompt, min(len(s.output), output_max), s.output)
            for i, s in enumerate(file.sequences)
        ]
        found.append((file.name, tasks))
    return found


def prompts_of(
    files: Sequence[Path],
    target: "TargetModel",
    tokenizer: str | None,
    context_max: int,
    output_max: int,
) -> "list[Task]":
    """The prompts of the files, or the demo's."""
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.bench.arms import Task
    from retrieval_draft.gpu.demo.prompts import shipped
    from retrieval_draft.gpu.tokenizer import load_tokenizer
    from retrieval_draft.replay.sequences import read
    from retrieval_draft.tokenizer import load_tokenizer as load_named
    from retrieval_draft.tree import int32s

    loaded = load_named(tokenizer) if tokenizer else load_tokenizer(target.name)
    if files:
        prompts = [s.prompt for path in files for s in read(path, loaded, 0, context_max).sequences]
    elif loaded is None:
        raise InvalidInput("--tokenizer", "missing", "the model's, as its prompts are text")
    else:
        prompts = [int32s(loaded.encode(text).ids)[-context_max:] for text in shipped()]
    return [Task(f"prompt-{i}", prompt, output_max) for i, prompt in enumerate(prompts)]


def show(title: str, rows: Sequence["Row"]) -> None:
    """Speed, and where the time of a step goes; `cpu ms` is the thread's own outside draft and forward."""
    if not rows:
        return
    console = out()
    console.print(title)
    for file in dict.fromkeys(one.file for one in rows):
        some = [one for one in rows if one.file == file]
        print_table(
            f"\n{file}",
            (
                *("phase", "batch", "arm", "tokens", "tokens/s", "MAT", "nodes"),
                *("x plain", "cpu", "x lookup", "cpu"),
            ),
            map(speed_cells, some),
            console,
        )
        print_table(
            "\nOf a step's time",
            ("", *some[0].shares, "step ms", "cpu ms", "late"),
            map(share_cells, some),
            console,
        )
    console.print(f"steps: {'; '.join(dict.fromkeys(one.steps for one in rows))}")
    for one in rows:
        if one.differences is not None:
            off = one.differences
            console.print(
                f"{one.arm}, batch {one.batch}: {off.tokens} of {off.compared} tokens differ from "
                f"plain decoding's, in {off.sequences} sequences; logits {off.margin_max:.3g} apart "
                f"at most where they part"
            )


def speed_cells(row: "Row") -> tuple[str, ...]:
    return (
        row.phase,
        str(row.batch),
        row.arm,
        str(row.tokens),
        f"{row.rate_median:.2f}",
        f"{row.mat:.3f}",
        f"{row.nodes:.1f}",
        _number(row.ratio),
        _number(row.cpu_ratio),
        _number(row.lookup_ratio),
        _number(row.lookup_cpu_ratio),
    )


def share_cells(row: "Row") -> tuple[str, ...]:
    return (
        f"{row.phase} {row.batch} {row.arm}",
        *(f"{100 * share:.1f}%" for share in row.shares.values()),
        f"{row.step_ms:.1f}",
        f"{row.cpu_overhead_ms:.2f}",
        str(row.late),
    )


def show_generated(generated: tuple[float, float, float] | None) -> None:
    """Plain decoding beside transformers' own, if it was measured."""
    if generated is None:
        return
    ours, theirs, ratio = generated
    out().print(
        f"plain decoding {ours:.2f} tokens/s, transformers' generate with a static cache "
        f"{theirs:.2f}: ratio {ratio:.3f}"
    )


def show_overhead(found: "Overhead", as_json: bool) -> None:
    """A line, and the JSON document."""
    if not as_json:
        parts = ", ".join(f"{stage} {ms:.2f}" for stage, ms in found.cpu_ms.items())
        out().print(
            f"{found.total_cpu_ms:.2f} ms of CPU time a step outside draft and forward "
            f"({parts}), {found.total_ms:.2f} by the clock: {found.nodes} nodes, vocabulary of "
            f"{found.vocab_size}"
        )
    click.echo(msgspec.json.encode(found))


def _number(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"
