"""Train the bundled demo models: small Llamas of Python code with a byte-level BPE of their own.

    python -m retrieval_draft.gpu.demo.train prepare WORK     tokenizer and token arrays
    python -m retrieval_draft.gpu.demo.train fit WORK OUT     the model, on CUDA or the CPU

The sibling that drafts for it, four times smaller, of the same tokenizer:

    python -m retrieval_draft.gpu.demo.train prepare WORK --tokenizer gpu/demo/model/tokenizer.json
    python -m retrieval_draft.gpu.demo.train fit WORK OUT --size small --minutes 30 --threads 1

It begins with the target's embedding, projected onto its first principal components.

The loss that is printed and kept is that of held-out files; the weights are those of its lowest value.
Matrices inside the layers learn by Muon (a trial of 120 steps: loss 5.02 against AdamW's 5.34).
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from retrieval_draft.tokenizer import demo_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 4096
END_OF_FILE = "<|end|>"
CONTEXT = 512
WARMUP_STEPS = 100
PEAK_RATE = 3e-3


@click.group(help=__doc__)
def main() -> None:
    torch.manual_seed(0)


@dataclass(frozen=True, slots=True)
class Size:
    """The dimensions of a model; embeddings are tied."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    batch: int


SIZES = {
    "target": Size(256, 704, 6, 4, batch=16),  # 5.9 million parameters; in bf16 11.8 MB
    # 1.5 million, in bf16 2.9 MB. Few layers: a draft pays for its levels one after the other.
    "small": Size(192, 336, 2, 3, batch=4),
}


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer",
    "tokenizer_file",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="Take this one.  [default: one is trained]",
)
def prepare(work: Path, tokenizer_file: Path | None) -> None:
    """Write the tokenizer, and WORK/train.npy and WORK/held_out.npy (uint16)."""
    from tokenizers import Tokenizer

    from retrieval_draft.gpu.demo.stdlib import is_held_out, read_source, source_files

    texts: dict[bool, list[str]] = {False: [], True: []}
    for relative, path in source_files():
        if (text := read_source(path)) is not None:
            texts[is_held_out(relative)].append(text)
    if tokenizer_file is None:
        tokenizer = new_tokenizer(texts[False])
    else:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    work.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(work / "tokenizer.json"))
    end = tokenizer.token_to_id(END_OF_FILE)
    for held_out, name in ((False, "train"), (True, "held_out")):
        ids = [token for text in texts[held_out] for token in (end, *tokenizer.encode(text).ids)]
        np.save(work / f"{name}.npy", np.array(ids, np.uint16))
        click.echo(f"{name}: {len(texts[held_out])} files, {len(ids)} tokens")


def new_tokenizer(texts: list[str]) -> "Tokenizer":
    """A byte-level BPE of VOCAB_SIZE tokens, learned from these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=[END_OF_FILE],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return tokenizer


def new_model(size: Size) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config)


def begin_with_embedding(model: LlamaForCausalLM, other: LlamaForCausalLM) -> None:
    """The embedding of a wider model of the same tokens, in its first principal components."""
    whole, own = other.model.embed_tokens.weight.detach().float(), model.model.embed_tokens.weight
    centred = whole - whole.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    with torch.no_grad():
        own.copy_(centred @ axes[: own.shape[1]].T)


def optimizers_of(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    held = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in held]
    return [
        torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(step: int, done: float) -> float:
    """Linear warm-up, then a cosine down to 5 %; `done` is the finished share of the schedule."""
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * (0.05 + 0.95 * cosine)


def loss_of(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


@torch.inference_mode()
def held_out_loss(model: torch.nn.Module, tokens: npt.NDArray[np.uint16], device: str) -> float:
    """Mean over up to 64 windows spread evenly over the held-out files."""
    model.eval()
    starts = np.linspace(0, len(tokens) - CONTEXT - 1, 64).astype(int)
    total = 0.0
    for some in np.array_split(starts, 8):
        batch = torch.from_numpy(
            np.stack([tokens[s : s + CONTEXT + 1] for s in some]).astype(np.int64)
        )
        with torch.autocast(device, torch.bfloat16):
            total += loss_of(model, batch.to(device)).item() / 8
    model.train()
    return total


@main.command()
@click.argument("work", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--minutes", default=60.0, show_default=True, help="The schedule ends here at the latest."
)
@click.option("--epochs", default=8.0, show_default=True, help="Passes over the training tokens.")
@click.option("--size", type=click.Choice(list(SIZES)), default="target", show_default=True)
@click.option("--threads", default=0, metavar="N", help="Torch's threads.  [default: torch's own]")
def fit(work: Path, out: Path, minutes: float, epochs: float, size: str, threads: int) -> None:
    """Train on WORK and write a transformers model folder (bf16) to OUT."""
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, held_out = np.load(work / "train.npy"), np.load(work / "held_out.npy")
    data = torch.from_numpy(train.astype(np.int32)).to(device)
    batch_size = SIZES[size].batch
    model = new_model(SIZES[size])
    if size != "target":
        begin_with_embedding(model, LlamaForCausalLM.from_pretrained(demo_folder()))
    torch.nn.Module.to(model, torch.device(device))
    compiled: torch.nn.Module = torch.compile(model)  # type: ignore[assignment]
    optimizers = optimizers_of(model)
    rng = np.random.default_rng(0)
    steps = int(epochs * len(train) / (batch_size * CONTEXT))
    began, best, report_at = time.perf_counter(), math.inf, 0.0
    for step in range(steps + 1):
        seconds = time.perf_counter() - began
        done = max(step / steps, seconds / (60 * minutes))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate_at(step, done)
        starts = torch.from_numpy(rng.integers(0, len(train) - CONTEXT - 1, batch_size)).to(device)
        batch = data[starts[:, None] + torch.arange(CONTEXT + 1, device=device)].long()
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(compiled, batch)
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if done >= report_at:
            report_at += 0.1
            now = held_out_loss(model, held_out, device)
            rate = (step + 1) * batch_size * CONTEXT / (time.perf_counter() - began)
            click.echo(
                f"{done:4.0%}  step {step}  train {loss.item():.3f}  held out {now:.3f}  "
                f"{rate:,.0f} tokens/s"
            )
            if now < best:
                best = now
                figures = {"held_out_loss": now, "steps": float(step), "minutes": seconds / 60}
                save(model, work, out, figures | {"train_tokens": step * batch_size * CONTEXT})
        if done >= 1:
            break
    click.echo(f"lowest held-out loss {best:.4f}")


def save(model: LlamaForCausalLM, work: Path, out: Path, figures: dict[str, float]) -> None:
    """Write config, bf16 weights, tokenizer and the figures of the training."""
    out.mkdir(parents=True, exist_ok=True)
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    torch.nn.Module.to(copy, torch.bfloat16)
    copy.save_pretrained(out)
    (out / "tokenizer.json").write_bytes((work / "tokenizer.json").read_bytes())
    (out / "training.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
