"""`retrieval-draft demo`: corpus, stores, sidecar, trees, verifier; the same output, faster."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, out, print_json, print_table, print_trimmed, progress

if TYPE_CHECKING:
    from rich.progress import Progress
    from tokenizers import Tokenizer

    from retrieval_draft.gpu.demo.arms import Arm
    from retrieval_draft.gpu.demo.run import Measured

COSTS_SHOWN = (0, 1, 2, 4, 8, 16, 32)


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
@click.option(
    "--web",
    default="",
    metavar="HOST:PORT",
    help="Serve the dashboard there meanwhile, and leave it open afterwards.",
)
@options.as_json
def demo(
    method: str,
    nodes_max: int,
    tokens_max: int,
    prompts: int,
    threads: int,
    web: str,
    as_json: bool,
) -> None:
    """The whole path on the bundled model: plain decoding, then with drafts, cold and warm.

    Starts a private Redis and a sidecar, warms the standard library's source, decodes prompts from files
    that neither the model nor the stores have seen, and compares every token. Exits 1 if the outputs
    differ.
    """
    if find_spec("torch") is None:
        raise click.ClickException("the demo needs pip install 'retrieval-draft[gpu]'")
    err().print("importing torch")
    from retrieval_draft.gpu.demo.run import measured, running_sidecar
    from retrieval_draft.gpu.model import load_model
    from retrieval_draft.tokenizer import demo_folder, load_tokenizer

    logging.disable(logging.INFO)
    began = time.perf_counter()
    # A thread that the sidecar's work interrupts holds up all others: leave it a core.
    threads = threads or max(1, (os.cpu_count() or 2) - 1)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="retrieval-draft-"))
        with progress() as bar:
            bars = Bars(bar)
            with bars.work(f"loading, {threads} threads"):
                model = load_model(demo_folder(), dtype="float32", threads=threads)
                tokenizer = load_tokenizer("demo")
            with bars.work("starting Redis and sidecar"):
                target = stack.enter_context(running_sidecar(Path(folder), method, web))
            if web:
                bar.console.print(f"the dashboard is at http://{web}")
            done = measured(model, tokenizer, target, method, nodes_max, tokens_max, prompts, bars)
        identical = not any(arm.different for arm in done.arms)
        if as_json:
            print_json({"arms": [as_row(arm) for arm in done.arms], "identical": identical})
        else:
            show(done, tokenizer, time.perf_counter() - began)
        click.echo("outputs identical" if identical else "OUTPUTS DIFFER", err=as_json)
        if web:
            leave_open(web)
    if not identical:
        sys.exit(1)


def leave_open(web: str) -> None:
    """Wait until somebody ends it; the sidecar goes on."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    err().print(f"the dashboard is still open at http://{web}; Ctrl-C ends it")
    ended.wait()


class Bars:
    """The run's progress on rich's bars."""

    def __init__(self, bar: "Progress") -> None:
        self._bar = bar

    def task(self, name: str, total: int) -> Callable[[], None]:
        return partial(self._bar.advance, self._bar.add_task(name, total=total))

    @contextmanager
    def work(self, name: str) -> Iterator[None]:
        """Something long of unknown length: a bar that moves until it is over."""
        task = self._bar.add_task(name, total=None)
        yield
        self._bar.update(task, total=1, completed=1)


def show(done: "Measured", tokenizer: "Tokenizer", seconds: float) -> None:
    """The tree, the figures of every arm, and the hit rates."""
    from rich.padding import Padding

    from retrieval_draft.cli.drawing import drawn
    from retrieval_draft.cli.figures import print_hits

    console = out()
    best = next((arm.best_step for arm in done.arms if arm.name == "warm"), None)
    if best is not None:
        console.print("\n[bold]One step of the warm, sampled run[/]: ✓ was accepted\n")
        tail = tokenizer.decode(best.context[-12:])
        picture = drawn(best.tree, tail, lambda token: tokenizer.decode([token]), set(best.path))
        print_trimmed(Padding(picture, (0, 2)), console)
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
        for arm in done.arms
    ]
    print_table(
        "\nPlain against drafted",
        (*columns, "speed-up", "MAT", "nodes", "identical"),
        rows,
        console,
        2,
    )
    cost = ", ".join(
        f"{n} node{'s' * (n > 1)} {ms:.1f}" if n else f"plain {ms:.1f} ms"
        for n, ms in zip(done.cost.nodes.tolist(), done.cost.milliseconds.tolist(), strict=True)
        if n in COSTS_SHOWN or n == done.cost.nodes[-1]
    )
    console.print(f"A step costs here: {cost};")
    console.print(f"asking for its drafts costs {done.asking_ms:.1f} ms more.\n")
    for one in done.stats.namespaces:
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
