"""`retrieval-draft worker`."""

import secrets
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from retrieval_draft.conversation import Conversation
    from retrieval_draft.gpu.live_cost import LiveCosts
    from retrieval_draft.gpu.service import HttpOptions
    from retrieval_draft.gpu.target import TargetModel

NO_SIDECAR = "none"


def open_model(
    model: str | None, demo: bool, dtype: str, device: str, threads: int
) -> "TargetModel":
    """The model of --model or --demo. UsageError unless exactly one is given."""
    if demo == (model is not None):
        raise click.UsageError("say --model PATH_OR_ID or --demo")
    from retrieval_draft.gpu.model import load_model
    from retrieval_draft.tokenizer import demo_folder

    source = demo_folder() if demo else (model or "")
    return load_model(source, dtype=dtype, device=device, threads=threads or None)


def drafts_for(
    model: "TargetModel",
    tokenizer: "Tokenizer",
    sidecar: str | None,
    data: Path | None,
    namespace: str,
    method: str,
    nodes_max: int,
    step_ms_max: float,
    cost: "LiveCosts | None",
    seed: int = 0,
) -> "Conversation | None":
    """A conversation with the sidecar, there or not; None for --sidecar none. With a seed, drafts may be
    drawn from what they are likely to be.
    """
    if sidecar == NO_SIDECAR:
        return None
    from retrieval_draft.gpu.sidecar import converse
    from retrieval_draft.step import DraftOptions

    return converse(
        options.client_of(sidecar, data),
        model,
        namespace,
        DraftOptions(nodes_max=nodes_max, method=method, seed=seed),
        tokenizer=tokenizer,
        cost=cost,
        step_ms_max=step_ms_max,
    )


def http_options(target: str, model: "TargetModel", demo: bool) -> "HttpOptions":
    """The API's address, and its only model under the name that clients would expect."""
    from retrieval_draft.chat_template import ChatTemplate
    from retrieval_draft.gpu.service import HttpOptions
    from retrieval_draft.tokenizer import DEMO

    host, _, port = target.rpartition(":")
    name = DEMO if demo else model.name.rstrip("/")
    return HttpOptions(host.strip("[]"), int(port), name, ChatTemplate.of(model.name))


@click.command()
@click.option("--model", metavar="PATH_OR_ID", help="A folder, or a hub id.")
@click.option("--demo", is_flag=True, help="The bundled demo model.")
@click.option("--sidecar", metavar="TARGET", help="As everywhere; `none` decodes without drafts.")
@options.credentials
@options.data
@options.listen
@click.option(
    "--http",
    default="",
    metavar="HOST:PORT",
    help="Serve OpenAI's API too: /v1/completions, /v1/chat/completions, /v1/models; /metrics.",
)
@click.option("--namespace", default="", metavar="NAME", help="[default: the model's name]")
@options.method
@click.option(
    "--verify",
    type=click.Choice(("match", "recursive")),
    default="match",
    show_default=True,
    help="How drafts are verified: `recursive` lets `stand` draw its drafts, and keeps more of drawn ones.",
)
@click.option(
    "--observe-only",
    is_flag=True,
    help="Decode plainly; the sidecar counts what its drafts would have brought.",
)
@click.option(
    "--draft-model",
    metavar="MODEL",
    help="Draft with a smaller model of the same vocabulary too: a folder, a hub id, `demo`, or "
    "`self:N`, the target's own first N layers.",
)
@click.option(
    "--draft-depth-max", default=5, show_default=True, help="Levels of the draft model's trees."
)
@click.option(
    "--draft-children-max",
    default=4,
    show_default=True,
    help="Nodes per level that the draft model expands, and children of each.",
)
@click.option(
    "--fusion",
    type=click.Choice(("rasd", "mix")),
    default="rasd",
    show_default=True,
    help="Who fuses the draft model's trees with the sidecar's: the worker, or the sidecar.",
)
@click.option("--nodes-max", default=16, show_default=True, help="Nodes per tree at most.")
@click.option("--dtype", default="float32", show_default=True, metavar="TYPE")
@click.option("--device", default="auto", show_default=True, metavar="NAME")
@click.option(
    "--graphs/--no-graphs", default=True, show_default=True, help="On CUDA: replay recorded steps."
)
@click.option(
    "--compile",
    "is_compiled",
    is_flag=True,
    help="On CUDA: compile the forward, once for every shape.",
)
@click.option("--threads", default=0, metavar="N", help="Torch's threads.  [default: torch's own]")
@click.option("--slots", default=8, show_default=True, help="Sequences decoded at once.")
@click.option("--length-max", default=0, metavar="N", help="Positions per slot.  [default: 4096]")
@click.option("--step-ms-max", default=5.0, show_default=True, help="Wait for drafts this long.")
@click.option("--insecure", is_flag=True, help="Allow addresses that others can reach.")
def worker(
    model: str | None,
    demo: bool,
    sidecar: str | None,
    data: Path | None,
    listen: tuple[str, ...],
    http: str,
    namespace: str,
    method: str,
    verify: str,
    observe_only: bool,
    draft_model: str | None,
    draft_depth_max: int,
    draft_children_max: int,
    fusion: str,
    nodes_max: int,
    dtype: str,
    device: str,
    graphs: bool,
    is_compiled: bool,
    threads: int,
    slots: int,
    length_max: int,
    step_ms_max: float,
    insecure: bool,
) -> None:
    """Serve a model with drafts that it verifies losslessly, over gRPC and HTTP, until SIGTERM.

    Works without a sidecar too, and goes on without drafts when it fails. Prints one line
    `serving on TARGET...` when it is ready.

    \b
    Examples:
      retrieval-draft worker --demo --http 127.0.0.1:8000
      retrieval-draft worker --demo --draft-model demo
      retrieval-draft worker --model models/llama --dtype bfloat16 --listen 127.0.0.1:50052
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.acceleration import accelerate
    from retrieval_draft.gpu.decoder import Decoder, slot_length
    from retrieval_draft.gpu.fusion import with_draft_model
    from retrieval_draft.gpu.live_cost import LiveCosts
    from retrieval_draft.gpu.runner import Runner
    from retrieval_draft.gpu.service import serve_worker
    from retrieval_draft.gpu.step_cost import measure_step_costs
    from retrieval_draft.gpu.tokenizer import load_tokenizer
    from retrieval_draft.gpu.verify import RULES
    from retrieval_draft.logs import to_stderr
    from retrieval_draft.namespace_names import model_namespace
    from retrieval_draft.observing import ObservingDrafter
    from retrieval_draft.server.listen import claim, parse
    from retrieval_draft.store.folder import default_path, make_private, short_socket_path
    from retrieval_draft.tokenizer import DEMO

    to_stderr()
    folder = data or default_path()
    if not listen:
        make_private(folder)
        listen = (f"unix:{short_socket_path(folder, WORKER_SOCKET)}",)
    addresses = [parse(text, insecure) for text in listen]
    front = parse(http, insecure, option="http") if http else None
    if front is not None and front.path is not None:
        raise InvalidInput("--http", http, "HOST:PORT")
    for address in addresses:
        claim(address)
    target = open_model(model, demo, dtype, device, threads)
    tokenizer = load_tokenizer(target.name)
    length = slot_length(target, length_max or None)
    runner = Runner(target, slots=slots, length_max=length, nodes_max=nodes_max)
    accelerate(runner, has_graphs=graphs, is_compiled=is_compiled)
    costs = LiveCosts(measure_step_costs(runner))
    namespace = namespace or (DEMO if demo else model_namespace(target.name))
    drafter = drafts_for(
        target,
        tokenizer,
        sidecar,
        data,
        namespace,
        method,
        nodes_max,
        step_ms_max,
        costs,
        seed=secrets.randbits(63) | 1 if verify == "recursive" else 0,
    )
    drafting = with_draft_model(
        drafter,
        target,
        draft_model,
        fusion,
        slots=slots,
        length_max=length,
        costs=costs.measured,
        tokenizer=tokenizer,
        depth_max=draft_depth_max,
        children_max=draft_children_max,
    )
    decoder = Decoder(
        target,
        slots=slots,
        length_max=length,
        nodes_max=nodes_max,
        runner=runner,
        drafter=ObservingDrafter(drafting) if drafting and observe_only else drafting,
        rule=RULES[verify],
        costs=costs,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    served = serve_worker(
        decoder,
        tokenizer=tokenizer,
        listen=[address.target for address in addresses],
        namespace=namespace,
        http=None if front is None else http_options(front.target, target, demo),
    )
    click.echo(f"serving on {' '.join(served.addresses)}")
    ended.wait()
    served.stop()


WORKER_SOCKET = "worker.sock"
