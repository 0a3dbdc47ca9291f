"""`retrieval-draft demo`: corpus, stores, sidecar, trees, verifier; the same output, faster."""

import logging
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, out, print_json, print_table, progress

if TYPE_CHECKING:
    from rich.progress import Progress
    from tokenizers import Tokenizer

    from retrieval_draft.client import GrpcClient
    from retrieval_draft.gpu.demo.arms import Arm
    from retrieval_draft.gpu.target import TargetModel
    from retrieval_draft.v1 import store_pb2 as pb

DECODINGS = ("sampled", "greedy")
CORPUS = "python-stdlib"
START_SECONDS_MAX = 120.0
STEP_MS_MAX = 50.0
"""Generous: the demo shows drafting, not deadlines; what comes late would only be missed."""


@click.command()
@options.method
@click.option("--nodes-max", default=16, show_default=True, help="Nodes per tree at most.")
@click.option("--tokens-max", default=160, show_default=True, help="Tokens per prompt.")
@click.option("--prompts", default=0, metavar="N", help="Only the first N prompts.  [default: all]")
@click.option(
    "--threads",
    default=0,
    metavar="N",
    help="Torch's threads.  [default: all cores but the sidecar's]",
)
@options.as_json
def demo(
    method: str, nodes_max: int, tokens_max: int, prompts: int, threads: int, as_json: bool
) -> None:
    """The whole path on the bundled model: plain decoding, then with drafts, cold and warm.

    Starts a private Redis and a sidecar, warms the standard library's source, decodes prompts from files
    that neither the model nor the stores have seen, and compares every token. Exits 1 if the outputs
    differ.
    """
    try:
        import torch
    except ImportError as error:
        raise click.ClickException("the demo needs pip install 'retrieval-draft[gpu]'") from error
    from transformers.utils import logging as transformers_logging

    from retrieval_draft.gpu.model import load_model
    from retrieval_draft.tokenizer import demo_folder, load_tokenizer

    logging.disable(logging.INFO)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    began = time.perf_counter()
    # A thread that the sidecar's work interrupts holds up all others: leave it a core.
    threads = threads or max(1, (os.cpu_count() or 2) - 1)
    err().print(f"loading the demo model (torch {torch.__version__}, float32, {threads} threads)")
    model = load_model(demo_folder(), dtype="float32", threads=threads)
    tokenizer = load_tokenizer("demo")
    with (
        tempfile.TemporaryDirectory(prefix="retrieval-draft-") as folder,
        running_sidecar(Path(folder), method) as target,
    ):
        arms, figures = measured(model, tokenizer, target, method, nodes_max, tokens_max, prompts)
    identical = not any(arm.different for arm in arms)
    seconds = time.perf_counter() - began
    if as_json:
        print_json({"arms": [as_row(arm) for arm in arms], "identical": identical})
    else:
        show(arms, figures, tokenizer, seconds)
    click.echo("outputs identical" if identical else "OUTPUTS DIFFER", err=as_json)
    if not identical:
        sys.exit(1)


@contextmanager
def running_sidecar(data: Path, method: str) -> Iterator[str]:
    """A sidecar of its own process with its embedded Redis in `data`; its target."""
    command = [sys.executable, "-m", "retrieval_draft", "serve", "--log-level", "WARNING"]
    err().print("starting the embedded Redis and the sidecar (compiles its kernels once)")
    with subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--data", str(data), "--method", method], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            if line[:2] != ["serving", "on"]:
                raise click.ClickException("the sidecar did not start; see above")
            err().print(f"serving on {line[2]}")
            yield line[2]
        finally:
            process.terminate()
            process.wait(START_SECONDS_MAX)


def measured(
    model: "TargetModel",
    tokenizer: "Tokenizer",
    target: str,
    method: str,
    nodes_max: int,
    tokens_max: int,
    prompts: int,
) -> tuple[list["Arm"], "pb.Stats"]:
    """All arms, and the sidecar's own figures of them."""
    from retrieval_draft.client import GrpcClient
    from retrieval_draft.gpu.demo.arms import Arm, Arms, prompts_of
    from retrieval_draft.gpu.demo.prompts import shipped
    from retrieval_draft.gpu.sidecar import converse
    from retrieval_draft.gpu.step_cost import measure_step_cost
    from retrieval_draft.step import DraftOptions

    texts = shipped()[: prompts or None]
    encoded = prompts_of(texts, lambda text: tokenizer.encode(text).ids)
    half = (len(encoded) + 1) // 2
    length_max = max(map(len, encoded)) + tokens_max
    runs = Arms(model, length_max, nodes_max)
    err().print("measuring what a step costs by its drafted nodes")
    cost = measure_step_cost(runs.plain)
    wanted = DraftOptions(nodes_max=nodes_max, method=method)
    client = GrpcClient(target)
    arms: list[Arm] = []
    try:
        with progress() as bar:
            for decoding in DECODINGS:
                namespace = f"demo-{decoding}-{uuid.uuid4().hex[:8]}"
                cold, warm = Arm("cold", decoding), Arm("warm", decoding)
                talk = converse(
                    client,
                    model,
                    namespace,
                    wanted,
                    tokenizer=tokenizer,
                    cost=cost,
                    step_ms_max=STEP_MS_MAX,
                )
                task = bar.add_task(f"{decoding}, cold", total=half)
                arms.append(
                    runs.run(cold, encoded[:half], tokens_max, talk, partial(bar.advance, task))
                )
                warm_stdlib(client, namespace, tokenizer, bar)
                settled(client, namespace)
                task = bar.add_task(f"{decoding}, warm", total=len(encoded) - half)
                arms.append(
                    runs.run(warm, encoded[half:], tokens_max, talk, partial(bar.advance, task))
                )
        return arms, client.stats()
    finally:
        client.close()


def warm_stdlib(
    client: "GrpcClient", namespace: str, tokenizer: "Tokenizer", bar: "Progress"
) -> None:
    """Warm the installed Python's library, without its tests and what was kept out of training."""
    from retrieval_draft.gpu.demo.stdlib import is_held_out, is_test, read_source, source_files
    from retrieval_draft.warming import Text, warm

    files = [
        (name, path) for name, path in source_files() if not is_held_out(name) and not is_test(name)
    ]
    task = bar.add_task(f"warming {CORPUS}", total=len(files))

    def texts() -> Iterator[Text]:
        for name, path in files:
            if (text := read_source(path)) is not None:
                yield Text(name, text)
            bar.advance(task)

    warm(client, namespace, CORPUS, texts(), tokenizer)


def settled(client: "GrpcClient", namespace: str, seconds_max: float = 10.0) -> None:
    """Wait until what the cold arm committed is learned."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        if client.stats(namespace).namespaces[0].lag_records == 0:
            return
        time.sleep(0.02)


def show(arms: "list[Arm]", figures: "pb.Stats", tokenizer: "Tokenizer", seconds: float) -> None:
    """The tree, the figures of every arm, and the hit rates."""
    from rich.padding import Padding

    from retrieval_draft.cli.drawing import drawn
    from retrieval_draft.cli.stats import print_hits

    console = out()
    best = next((arm.best_step for arm in arms if arm.name == "warm"), None)
    if best is not None:
        console.print("\n[bold]One step of the warm, sampled run[/]: ✓ was accepted\n")
        tail = tokenizer.decode(best.context[-12:])
        picture = drawn(best.tree, tail, lambda token: tokenizer.decode([token]), set(best.path))
        console.print(Padding(picture, (0, 2)))
    columns = ("decoding", "stores", "prompts", "tokens", "plain tok/s", "drafted tok/s")
    rows = [
        (
            arm.decoding,
            arm.name,
            str(arm.prompts),
            str(arm.tokens),
            f"{arm.plain_rate:.0f}",
            f"{arm.drafted_rate:.0f}",
            f"{arm.drafted_rate / arm.plain_rate:.2f}x",
            f"{arm.mat:.2f}",
            f"{arm.drafted / max(1, arm.steps):.1f}",
            "no" if arm.different else "yes",
        )
        for arm in arms
    ]
    print_table(
        "\nPlain against drafted",
        (*columns, "speed-up", "MAT", "nodes/step", "identical"),
        rows,
        console,
        2,
    )
    for one in figures.namespaces:
        console.print(f"[bold]Hit rates[/], {one.namespace.rpartition('-')[0]}, cold and warm")
        print_hits("tier", one.tiers, console)
        print_hits("method", one.methods, console)
    console.print(f"{seconds:.0f} s in all")


def as_row(arm: "Arm") -> dict[str, object]:
    """An arm's figures as data."""
    return {
        "decoding": arm.decoding,
        "stores": arm.name,
        "prompts": arm.prompts,
        "tokens": arm.tokens,
        "plain_tokens_per_second": round(arm.plain_rate, 1),
        "drafted_tokens_per_second": round(arm.drafted_rate, 1),
        "speed_up": round(arm.drafted_rate / arm.plain_rate, 3),
        "mat": round(arm.mat, 3),
        "nodes_per_step": round(arm.drafted / max(1, arm.steps), 2),
        "acceptance_rate": round(arm.accepted / max(1, arm.drafted), 4),
        "prompts_that_differ": arm.different,
    }
