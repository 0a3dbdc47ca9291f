"""What is replayed: recorded prompts and outputs as token ids, read from files that users have."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import Rows
from retrieval_draft.tokenizer import vocab_size
from retrieval_draft.tree import Int32Array, int32s

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OUTPUT_TOKENS_MIN = 8
"""Shorter outputs are left out: their first token is the prefill's, and little is left to draft."""
OUTPUT_TOKENS_MAX = 4096
"""Of one sequence; the rest is cut."""
CONTEXT_TOKENS_MAX = 16_384
"""Of a prompt; a longer one keeps its tail."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One decoded sequence: int32 prompt and output ids.

    `rows`, if they were recorded, are the target's predictions along prompt and output, one a position
    and in order: at[r] is a position of prompt + output, tokens[r] what was expected to follow it.
    """

    prompt: Int32Array
    output: Int32Array
    rows: Rows | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RecordedFile:
    """The sequences of one file, in its order; what one namespace sees."""

    name: str
    vocab_size: int
    sequences: list[Recorded]
    end_tokens: tuple[int, ...] = ()

    @property
    def output_tokens(self) -> int:
        return sum(len(sequence.output) for sequence in self.sequences)

    @property
    def has_rows(self) -> bool:
        """Whether the target's predictions were recorded."""
        return any(sequence.rows is not None for sequence in self.sequences)


def read(
    path: Path,
    tokenizer: "Tokenizer | None" = None,
    tokens_max: int = 0,
    context_max: int = CONTEXT_TOKENS_MAX,
    *,
    with_hidden: bool = False,
) -> RecordedFile:
    """A folder of `retrieval-draft record`, or JSON lines (.jsonl, .jsonl.gz).

    A line has `prompt_tokens` and `output_tokens` (ids), or `prompt` and `output` (text, which needs
    the tokenizer). With `delta` and `session` the prompt is all that came before it in its session. Lines
    of another `model` than the first line's are left out: a namespace is one model's. At most
    `tokens_max` output tokens (0 = all), the sequence that reaches it included whole.
    Raises InvalidInput for what cannot be read.
    """
    if path.is_dir():
        from retrieval_draft.replay.recording import read_recording

        recording = read_recording(path, with_hidden=with_hidden)
        found, size = iter(recording.sequences), recording.vocab_size
        ends = recording.end_tokens
    elif path.is_file():
        size = vocab_size(tokenizer) if tokenizer is not None else 0
        found, ends = _lines(path, tokenizer, context_max), ()
    else:
        raise InvalidInput("FILE", str(path), "JSON lines, or a folder of retrieval-draft record")
    sequences = list(_first(found, tokens_max))
    if not sequences:
        limit = f"a sequence of {OUTPUT_TOKENS_MIN} output tokens or more"
        raise InvalidInput("FILE", str(path), limit)
    largest = 1 + max(int(max(s.prompt.max(), s.output.max())) for s in sequences)
    if size and largest > size:
        raise InvalidInput("token id", largest - 1, f"0 to {size - 1}", f"in {path.name}")
    return RecordedFile(_name(path), size or largest, sequences, ends)


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _first(sequences: Iterator[Recorded], tokens_max: int) -> Iterator[Recorded]:
    total = 0
    for sequence in sequences:
        if len(sequence.output) < OUTPUT_TOKENS_MIN or not len(sequence.prompt):
            continue
        yield sequence
        total += len(sequence.output)
        if tokens_max and total >= tokens_max:
            return


def _lines(path: Path, tokenizer: "Tokenizer | None", context_max: int) -> Iterator[Recorded]:
    sessions: dict[str, str] = {}
    model: object = None
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
                model = model or line.get("model")
                if line.get("model") != model:
                    continue
                yield _of_line(line, tokenizer, sessions, context_max)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                limit = "an object with prompt and output, or prompt_tokens and output_tokens"
                where = f"{path.name}:{number}"
                raise InvalidInput(where, text[:40], limit, repr(error)) from error


def _of_line(
    line: dict[str, object],
    tokenizer: "Tokenizer | None",
    sessions: dict[str, str],
    context_max: int,
) -> Recorded:
    temperature = line.get("temperature")
    known = float(temperature) if isinstance(temperature, int | float) else None
    if "output_tokens" in line:
        prompt, output = int32s(line["prompt_tokens"]), int32s(line["output_tokens"])
    else:
        if tokenizer is None:
            raise InvalidInput("--tokenizer", "missing", "the model's, as the lines are text")
        text, answer = str(line["prompt"]), str(line["output"])
        if line.get("delta"):
            session = str(line["session"])
            text = sessions.get(session, "") + text
            sessions[session] = text + answer
        prompt, output = _encoded(tokenizer, text), _encoded(tokenizer, answer)
    return Recorded(prompt[-context_max:], output[:OUTPUT_TOKENS_MAX], None, known)


def _encoded(tokenizer: "Tokenizer", text: str) -> Int32Array:
    return int32s(tokenizer.encode(text, add_special_tokens=False).ids)
