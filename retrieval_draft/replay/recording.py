"""A recording: a folder of `recording.jsonl`, one line a sequence, and `rows.safetensors`.

A line has prompt_tokens, output_tokens, temperature, seed, group (sequences of one prompt share it) and
rows [first, stop]: its rows of the arrays. The arrays, one row a position of prompt + output but the
last, whose prediction nothing follows:

    at        int32[r]               position in prompt + output
    tokens    int32[r, k]            what the target expected next, most probable first
    logprobs  float32[r, k]          at temperature 1
    hidden    float16[r, width]      its last hidden state, if that was asked for

The file's metadata say what the ids mean: model, vocab_size, tokenizer_fingerprint, end_tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval_draft.errors import Corrupt, InvalidInput
from retrieval_draft.replay.sequences import Recorded
from retrieval_draft.step import Rows
from retrieval_draft.tree import int32s

LINES = "recording.jsonl"
ROWS = "rows.safetensors"
Float16Array = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the token ids of a recording belong to."""

    model: str
    vocab_size: int
    tokenizer_fingerprint: str = ""
    end_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSample:
    """One sequence as it is recorded: what replay reads, and where it came from."""

    recorded: Recorded
    seed: int
    group: str
    hidden: Float16Array | None = None
    """float16[rows, width], beside recorded.rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording's sequences; see `read_recording`."""

    vocab_size: int
    end_tokens: tuple[int, ...]
    sequences: list[Recorded]


def write_recording(folder: Path, meaning: Meaning, samples: Sequence[RecordedSample]) -> None:
    """Write the folder, which is made. Raises InvalidInput if it has a recording already."""
    from safetensors.numpy import save_file

    if (folder / LINES).exists():
        raise InvalidInput("--out", str(folder), "a folder without a recording")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [sample.recorded.rows or _no_rows() for sample in samples]
    cuts = np.cumsum([0, *map(len, rows)]).tolist()
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "at": np.concatenate([part.at for part in rows]),
        "tokens": np.concatenate([part.tokens for part in rows]),
        "logprobs": np.concatenate([part.logprobs for part in rows]),
    }
    hidden = [sample.hidden for sample in samples if sample.hidden is not None]
    if hidden:
        arrays["hidden"] = np.concatenate(hidden)
    save_file(
        arrays,
        folder / ROWS,
        {
            "model": meaning.model,
            "vocab_size": str(meaning.vocab_size),
            "tokenizer_fingerprint": meaning.tokenizer_fingerprint,
            "end_tokens": json.dumps(meaning.end_tokens),
        },
    )
    with (folder / LINES).open("w", encoding="utf-8") as file:
        for i, sample in enumerate(samples):
            line = {
                "prompt_tokens": sample.recorded.prompt.tolist(),
                "output_tokens": sample.recorded.output.tolist(),
                "temperature": sample.recorded.temperature,
                "seed": sample.seed,
                "group": sample.group,
                "rows": cuts[i : i + 2],
            }
            file.write(json.dumps(line) + "\n")


def read_recording(folder: Path, *, with_hidden: bool = False) -> Recording:
    """The recording of a folder, hidden states only if they are wanted: they are most of it.

    Raises InvalidInput if there is none, Corrupt if it is damaged."""
    from safetensors import SafetensorError, safe_open

    if not (folder / LINES).is_file() or not (folder / ROWS).is_file():
        raise InvalidInput("recording", str(folder), f"a folder with {LINES} and {ROWS}")
    try:
        with safe_open(folder / ROWS, framework="numpy") as file:
            metadata = file.metadata() or {}
            at, tokens, logprobs = (file.get_tensor(n) for n in ("at", "tokens", "logprobs"))
            has_hidden = with_hidden and "hidden" in file.keys()  # noqa: SIM118
            hidden = file.get_tensor("hidden") if has_hidden else None
        lines = (folder / LINES).read_text(encoding="utf-8").splitlines()
        sequences = [_recorded(json.loads(line), at, tokens, logprobs, hidden) for line in lines]
        ends = tuple(json.loads(metadata.get("end_tokens", "[]")))
        return Recording(int(metadata["vocab_size"]), ends, sequences)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"recording {folder} is damaged: {error!r}") from error


def _recorded(
    line: dict[str, object],
    at: npt.NDArray[np.int32],
    tokens: npt.NDArray[np.int32],
    logprobs: npt.NDArray[np.float32],
    hidden: Float16Array | None,
) -> Recorded:
    first, stop = int32s(line["rows"]).tolist()
    if not 0 <= first <= stop <= len(at):
        raise ValueError(f"rows {first} to {stop} of {len(at)}")
    states = None if hidden is None else hidden[first:stop]
    rows = Rows(at[first:stop], tokens[first:stop], logprobs[first:stop], states)
    prompt, output = int32s(line["prompt_tokens"]), int32s(line["output_tokens"])
    temperature = line["temperature"]
    known = float(temperature) if isinstance(temperature, int | float) else None
    return Recorded(prompt, output, rows if stop > first else None, known)


def _no_rows() -> Rows:
    return Rows(int32s([]), int32s(np.empty((0, 0))), np.empty((0, 0), np.float32))
