"""`retrieval-draft record`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import print_json, progress, size
from retrieval_draft.cli.worker import open_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from retrieval_draft.gpu.recording import Prompt
    from retrieval_draft.gpu.sampling import SamplingOptions
    from retrieval_draft.gpu.target import TargetModel
    from retrieval_draft.replay.recording import RecordedSample


@click.command()
@click.argument(
    "prompts", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[PROMPTS]"
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The recording's folder.",
)
@click.option("--model", metavar="PATH_OR_ID", help="[default: the bundled demo model]")
@click.option("--samples", default=1, show_default=True, help="Outputs per prompt.")
@click.option("--tokens-max", default=200, show_default=True, help="Tokens per output.")
@click.option("--temperature", default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-p", default=1.0, show_default=True)
@click.option(
    "--seed", default=0, show_default=True, help="Of the first output; then one more each."
)
@click.option("--hidden", is_flag=True, help="Also the last hidden states, as float16.")
@click.option("--dtype", default="float32", show_default=True, metavar="TYPE")
@click.option("--device", default="auto", show_default=True, metavar="NAME")
@click.option("--threads", default=0, metavar="N", help="Torch's threads.  [default: torch's own]")
@click.option("--slots", default=8, show_default=True, help="Sequences decoded at once.")
@options.as_json
def record(
    prompts: Path | None,
    out: Path,
    model: str | None,
    samples: int,
    tokens_max: int,
    temperature: float,
    top_p: float,
    seed: int,
    hidden: bool,
    dtype: str,
    device: str,
    threads: int,
    slots: int,
    as_json: bool,
) -> None:
    """Decode PROMPTS with a model and record outputs and predictions, for `replay` and `calibrate`.

    PROMPTS are JSON lines with `prompt` (text) or `prompt_tokens` (ids), and optionally `group`; left out,
    the demo's prompts are taken. Decoding is plain: no sidecar is needed.

    \b
    Examples:
      retrieval-draft record --out recording/ --samples 4 --temperature 0.8
      retrieval-draft record prompts.jsonl --model models/llama --out llama/ --hidden
    """
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.sampling import SamplingOptions
    from retrieval_draft.gpu.tokenizer import load_tokenizer
    from retrieval_draft.replay.recording import LINES, ROWS

    if samples < 1:
        raise InvalidInput("--samples", samples, "1 or more")
    if (out / LINES).exists():
        raise InvalidInput("--out", str(out), "a folder without a recording")
    sampling = SamplingOptions(temperature, top_p, seed=seed)
    with progress() as bar:
        loading = bar.add_task("loading the model", total=1)
        target = open_model(model, model is None, dtype, device, threads)
        tokenizer = load_tokenizer(target.name)
        chosen = read_prompts(prompts, tokenizer)
        bar.advance(loading)
        task = bar.add_task("decoding", total=len(chosen) * samples)
        done = recorded(
            target,
            tokenizer,
            chosen,
            out,
            sampling,
            samples,
            tokens_max,
            slots=slots,
            has_hidden=hidden,
            advance=lambda: bar.advance(task),
        )
    tokens = sum(len(one.recorded.output) for one in done)
    rows = sum(len(one.recorded.rows or ()) for one in done)
    nbytes = sum((out / name).stat().st_size for name in (LINES, ROWS))
    if as_json:
        figures = {"sequences": len(done), "output_tokens": tokens, "rows": rows, "bytes": nbytes}
        print_json({"folder": str(out), **figures})
    else:
        click.echo(
            f"recorded {len(done)} outputs of {tokens} tokens with {rows} predictions in {out} "
            f"({size(nbytes)})"
        )


def recorded(
    target: "TargetModel",
    tokenizer: "Tokenizer",
    prompts: "list[Prompt]",
    out: Path,
    sampling: "SamplingOptions",
    samples: int,
    tokens_max: int,
    *,
    slots: int = 8,
    has_hidden: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> "list[RecordedSample]":
    """Record the prompts into the folder `out`; what it holds."""
    from retrieval_draft.config import OBSERVATION_WIDTH
    from retrieval_draft.gpu.recording import Recorder
    from retrieval_draft.replay.recording import Meaning, write_recording
    from retrieval_draft.tokenizer import fingerprint

    longest = max(len(prompt.tokens) for prompt in prompts)
    recorder = Recorder(
        target,
        slots=slots,
        length_max=min(target.context_tokens_max, longest + tokens_max),
        width=OBSERVATION_WIDTH,
        has_hidden=has_hidden,
    )
    done = recorder.record(prompts, sampling, samples, tokens_max, advance)
    meaning = Meaning(target.name, target.vocab_size, fingerprint(tokenizer), target.end_tokens)
    write_recording(out, meaning, done)
    return done


def read_prompts(path: Path | None, tokenizer: "Tokenizer") -> "list[Prompt]":
    """The prompts of a file, or the demo's. Raises InvalidInput for a line that is none."""
    from retrieval_draft.errors import InvalidInput
    from retrieval_draft.gpu.demo.prompts import shipped
    from retrieval_draft.gpu.recording import Prompt
    from retrieval_draft.tree import int32s

    def encoded(text: str, group: str) -> Prompt:
        return Prompt(int32s(tokenizer.encode(text, add_special_tokens=False).ids), group)

    if path is None:
        return [encoded(text, str(i)) for i, text in enumerate(shipped())]
    found: list[Prompt] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            group = str(row.get("group", number))
            if "prompt_tokens" in row:
                found.append(Prompt(int32s(row["prompt_tokens"]), group))
            else:
                found.append(encoded(str(row["prompt"]), group))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            limit = "an object with prompt, or prompt_tokens"
            raise InvalidInput(f"{path.name}:{number}", line[:40], limit) from error
    if not found:
        raise InvalidInput("PROMPTS", str(path), "one prompt or more")
    return found
