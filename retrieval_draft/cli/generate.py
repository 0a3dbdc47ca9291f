"""`retrieval-draft generate`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import err, print_json
from retrieval_draft.cli.worker import WORKER_SOCKET

if TYPE_CHECKING:
    from retrieval_draft.v1 import generate_pb2 as pb


@click.command()
@click.argument("prompt")
@click.option(
    "--worker",
    metavar="TARGET",
    help="A running worker: unix:PATH or HOST:PORT.  [default: the data folder's socket]",
)
@options.data
@click.option("--tokens-max", default=128, show_default=True)
@click.option("--temperature", default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-p", default=1.0, show_default=True)
@click.option("--top-k", default=0, show_default=True, help="0 keeps all tokens.")
@click.option("--seed", default=0, show_default=True)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--plain", is_flag=True, help="Without drafts: the same text, slower.")
@options.as_json
def generate(
    prompt: str,
    worker: str | None,
    data: Path | None,
    tokens_max: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    stop: tuple[str, ...],
    plain: bool,
    as_json: bool,
) -> None:
    """Decode PROMPT (- for standard input) on a running worker; text as it comes, then the figures.

    \b
    Example:
      retrieval-draft generate --temperature 0.7 "def read(self,"
    """
    from retrieval_draft.v1 import generate_pb2 as pb

    request = pb.GenerateRequest(
        prompt=sys.stdin.read() if prompt == "-" else prompt,
        tokens_max=tokens_max,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop,
        plain=plain,
    )
    if worker is None:
        from retrieval_draft.store.folder import default_path, find_socket

        worker = f"unix:{find_socket(data or default_path(), WORKER_SOCKET)}"
    text, figures, reason = "", pb.GenerateFigures(), ""
    for answer in _answers(worker, request):
        text += answer.text
        if not as_json:
            click.echo(answer.text, nl=False)
        if answer.finish_reason:
            figures = answer.figures
            reason = pb.FinishReason.Name(answer.finish_reason).removeprefix("FINISH_REASON_")
    mat = (figures.output_tokens - 1) / figures.steps if figures.steps else 0.0
    rate = figures.output_tokens / figures.seconds if figures.seconds else 0.0
    if as_json:
        print_json(
            {
                "text": text,
                "finish_reason": reason.lower(),
                "prompt_tokens": figures.prompt_tokens,
                "output_tokens": figures.output_tokens,
                "steps": figures.steps,
                "drafted": figures.drafted,
                "accepted": figures.accepted,
                "mat": round(mat, 3),
                "tokens_per_second": round(rate, 1),
            }
        )
        return
    click.echo()
    err().print(
        f"{figures.output_tokens} tokens in {figures.steps} steps, MAT {mat:.2f}, "
        f"{figures.accepted} of {figures.drafted} drafted accepted, {rate:.0f} tokens/s, "
        f"ended by {reason.lower()}"
    )


def _answers(target: str, request: "pb.GenerateRequest") -> "Iterator[pb.GenerateResponse]":
    import grpc

    from retrieval_draft.call_errors import error_of
    from retrieval_draft.client import CHANNEL_OPTIONS
    from retrieval_draft.v1 import generate_pb2 as pb

    with grpc.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        call = channel.unary_stream(
            "/retrieval_draft.v1.GenerateService/Generate",
            request_serializer=pb.GenerateRequest.SerializeToString,
            response_deserializer=pb.GenerateResponse.FromString,
        )
        try:
            yield from call(request)
        except grpc.RpcError as error:
            raise error_of(error, target, "worker") from error
