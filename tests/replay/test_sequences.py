"""Files as users have them, read into token ids."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from retrieval_draft.errors import Corrupt, InvalidInput
from retrieval_draft.replay.recording import (
    Meaning,
    RecordedSample,
    read_recording,
    write_recording,
)
from retrieval_draft.replay.sequences import read
from retrieval_draft.tokenizer import load_tokenizer
from tests.replay.texts import VOCAB, recorded

TEXT = "def read(self, size=-1):\n    return self._buffer.read(size)\n"


def lines(path: Path, *rows: dict[str, object]) -> Path:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_ids_need_no_tokenizer(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt_tokens": [1, 2], "output_tokens": list(range(9)), "temperature": 0.5},
        {"prompt_tokens": [1, 2], "output_tokens": [1, 2]},  # too short to say anything
        {"prompt_tokens": [3], "output_tokens": [30] * 8},
    ]
    file = read(lines(tmp_path / "ids.jsonl.gz", *rows))
    assert (file.name, file.vocab_size, file.output_tokens) == ("ids", 31, 17)
    assert [s.temperature for s in file.sequences] == [0.5, None]
    assert len(read(tmp_path / "ids.jsonl.gz", tokens_max=9).sequences) == 1


def test_a_session_s_prompt_is_all_that_came_before_it(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"model": "a", "session": "s", "delta": True, "prompt": "x = 1\n", "output": TEXT},
        {"model": "b", "session": "s", "delta": True, "prompt": "other", "output": TEXT},
        {"model": "a", "session": "s", "delta": True, "prompt": "more\n", "output": TEXT},
    ]
    tokenizer = load_tokenizer("demo")
    file = read(lines(tmp_path / "chat.jsonl", *rows), tokenizer)
    assert len(file.sequences) == 2
    assert tokenizer.decode(file.sequences[1].prompt.tolist()) == f"x = 1\n{TEXT}more\n"
    # A long prompt keeps its tail.
    short = read(tmp_path / "chat.jsonl", tokenizer, context_max=4).sequences[1].prompt
    assert short.tolist() == file.sequences[1].prompt[-4:].tolist()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"prompt": "x", "output": "y"}\n', "--tokenizer"),
        ('{"output_tokens": [1]}\n', "bad.jsonl:1"),
        ("[1]\n", "bad.jsonl:1"),
        ("{\n", "bad.jsonl:1"),
        ("", "8 output tokens"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, names: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(InvalidInput, match=names):
        read(tmp_path / "bad.jsonl")


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = recorded([1, 2], list(range(8)), has_rows=True)
    two = recorded([3], list(range(10, 19)), has_rows=True)
    hidden = np.ones((9, 4), np.float16)
    samples = [RecordedSample(one, 5, "p0", hidden), RecordedSample(two, 6, "p1", hidden)]
    write_recording(tmp_path / "out", Meaning("m", VOCAB, "f", (7,)), samples)
    file = read(tmp_path / "out")
    assert (file.name, file.vocab_size, file.end_tokens) == ("out", VOCAB, (7,))
    assert file.has_rows
    for written, got in zip((one, two), file.sequences, strict=True):
        assert got.prompt.tolist() == written.prompt.tolist()
        assert got.output.tolist() == written.output.tolist()
        assert got.temperature == written.temperature
        assert got.rows is not None
        assert written.rows is not None
        for name in ("at", "tokens", "logprobs"):
            np.testing.assert_array_equal(getattr(got.rows, name), getattr(written.rows, name))
    with pytest.raises(InvalidInput, match="without a recording"):
        write_recording(tmp_path / "out", Meaning("m", VOCAB), samples)


def test_a_damaged_recording_says_so(tmp_path: Path) -> None:
    samples = [RecordedSample(recorded([1], list(range(8)), has_rows=True), 0, "p")]
    write_recording(tmp_path / "out", Meaning("m", VOCAB), samples)
    rows = tmp_path / "out" / "rows.safetensors"
    rows.write_bytes(rows.read_bytes()[:-8])
    with pytest.raises(Corrupt, match="damaged"):
        read_recording(tmp_path / "out")
